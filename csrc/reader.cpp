// Byte ranges of files -> a slab of memory, by pread on a few threads.
#include "reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <limits>
#include <system_error>
#include <thread>
#include <vector>

namespace pyrad {
namespace {

// Linux transfers at most 0x7ffff000 bytes a call; ask for less, and let the loop do the rest.
constexpr uint64_t most_a_call = uint64_t{1} << 30;

int32_t read_range(const ByteRange& range, uint8_t* out) {
    constexpr uint64_t largest = std::numeric_limits<off_t>::max();
    if (range.offset > largest || range.size > largest - range.offset) return EINVAL;
    uint64_t done = 0;
    while (done < range.size) {
        const size_t ask = static_cast<size_t>(std::min(range.size - done, most_a_call));
        const ssize_t got = pread(range.fd, out + done, ask, static_cast<off_t>(range.offset + done));
        if (got > 0) {
            done += static_cast<uint64_t>(got);
        } else if (got == 0) {
            return short_read;
        } else if (errno != EINTR) {
            return errno;
        }
    }
    return 0;
}

}  // namespace

void read_ranges(const ByteRange* ranges, size_t count, uint8_t* slab, int32_t* results, unsigned threads) {
    std::atomic<size_t> next{0};
    const auto work = [&] {
        for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
            results[i] = read_range(ranges[i], slab + ranges[i].slab_offset);
        }
    };
    std::vector<std::thread> helpers;
    const size_t wanted = std::min<size_t>(threads, count);
    helpers.reserve(wanted);
    try {
        while (helpers.size() + 1 < wanted) helpers.emplace_back(work);
    } catch (const std::system_error&) {
        // No more threads to be had: those that run, this one included, do all the work.
    }
    work();
    for (std::thread& helper : helpers) helper.join();
}

}  // namespace pyrad

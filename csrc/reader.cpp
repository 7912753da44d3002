// Byte ranges of files -> a slab of memory, by pread on a few threads.
#include "reader.h"

#include <fcntl.h>
#include <sys/uio.h>
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

constexpr size_t looked_at = 8;  // of the ranges of one call of read_ahead

bool is_possible(uint64_t offset, uint64_t size) {
    constexpr uint64_t largest = std::numeric_limits<off_t>::max();
    return offset <= largest && size <= largest - offset;
}

// Whether the last byte of a range can be had without waiting for a disk.
bool is_in_memory(const ByteRange& range) {
#if defined(RWF_NOWAIT)
    uint8_t byte;
    const iovec room = {&byte, 1};
    return preadv2(range.fd, &room, 1, static_cast<off_t>(range.offset + range.size - 1), RWF_NOWAIT) == 1;
#else
    return range.size == 0;
#endif
}

}  // namespace

Status read_range(int32_t fd, uint64_t offset, uint64_t size, uint8_t* out) {
    if (!is_possible(offset, size)) return failed(EINVAL);
    uint64_t done = 0;
    while (done < size) {
        const size_t ask = static_cast<size_t>(std::min(size - done, most_a_call));
        const ssize_t got = pread(fd, out + done, ask, static_cast<off_t>(offset + done));
        if (got > 0) {
            done += static_cast<uint64_t>(got);
        } else if (got == 0) {
            return Status::truncated;
        } else if (errno != EINTR) {
            return failed(errno);
        }
    }
    return Status::ok;
}

void read_ahead(const ByteRange* ranges, size_t count) {
    const auto asks = [&](const ByteRange& r) { return r.size > 0 && is_possible(r.offset, r.size); };
    bool known = true;
    for (size_t i = 0; i < count && known; i += 1 + count / looked_at)
        known = !asks(ranges[i]) || is_in_memory(ranges[i]);
    if (known) return;
#if defined(POSIX_FADV_WILLNEED)
    for (size_t i = 0; i < count; ++i) {
        if (!asks(ranges[i])) continue;
        posix_fadvise(ranges[i].fd, static_cast<off_t>(ranges[i].offset), static_cast<off_t>(ranges[i].size),
                      POSIX_FADV_WILLNEED);
    }
#endif
}

void read_ranges(const ByteRange* ranges, size_t count, uint8_t* slab, int32_t* statuses, unsigned threads) {
    std::atomic<size_t> next{0};
    const auto work = [&] {
        for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
            const ByteRange& range = ranges[i];
            statuses[i] =
                static_cast<int32_t>(read_range(range.fd, range.offset, range.size, slab + range.slab_offset));
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

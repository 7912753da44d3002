// Any byte ranges of a small file -> a slab: whole ranges arrive as they are in the file, others are named as short.
#include "reader.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

namespace {

void require(bool condition) {
    if (!condition) abort();
}

struct File {
    std::vector<uint8_t> bytes;
    int fd;

    File() : bytes(5000), fd(memfd_create("fuzz", 0)) {
        for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 31 + (i >> 8));
        require(fd >= 0 && write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    }
};

}  // namespace

// Byte 0: threads; then 10 bytes a range: 8 of offset, 2 of size.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const File file;
    if (size < 1) return 0;
    std::vector<pyrad::ByteRange> ranges;
    uint64_t total = 0;
    for (size_t at = 1; at + 10 <= size && ranges.size() < 64; at += 10) {
        const uint64_t offset = pyrad::load_le<uint64_t>(data + at);
        const uint64_t length = pyrad::load_le<uint16_t>(data + at + 8) % 8192;
        ranges.push_back({file.fd, data[at] & 1 ? offset : offset % 6000, length, total});
        total += length;
    }
    std::vector<uint8_t> slab(total);
    std::vector<int32_t> results(ranges.size(), 77);
    pyrad::read_ranges(ranges.data(), ranges.size(), slab.data(), results.data(), 1 + data[0] % 4);
    for (size_t i = 0; i < ranges.size(); ++i) {
        const pyrad::ByteRange& range = ranges[i];
        const bool inside = range.offset <= file.bytes.size() && range.size <= file.bytes.size() - range.offset;
        const bool nothing = range.size == 0 && range.offset <= INT64_MAX;  // an offset beyond that is EINVAL
        require(results[i] != 77 && (results[i] == 0) == (inside || nothing));
        if (results[i] == 0 && range.size > 0) {
            require(memcmp(slab.data() + range.slab_offset, file.bytes.data() + range.offset, range.size) == 0);
        }
    }
    return 0;
}

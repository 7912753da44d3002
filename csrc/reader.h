// Byte ranges of files -> a slab of memory.
#pragma once

#include "common.h"

namespace pyrad {

// What read_range reports besides 0 (whole) and a positive errno.
constexpr int32_t short_read = -1;  // the file ends before the range does

// One range; `fd` need not stay at any position (pread).
struct ByteRange {
    int32_t fd;
    uint64_t offset;       // in the file
    uint64_t size;         // bytes
    uint64_t slab_offset;  // where it goes
};

// Reads every range into slab + slab_offset on up to `threads` threads (fewer where the system has no more) and writes
// one result a range: 0, an errno, or short_read. The caller has checked that the ranges lie inside the slab. An
// interrupted call is repeated, a partial one continued. Throws std::bad_alloc only, before anything is read.
void read_ranges(const ByteRange* ranges, size_t count, uint8_t* slab, int32_t* results, unsigned threads);

}  // namespace pyrad

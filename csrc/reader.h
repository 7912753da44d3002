// Byte ranges of files -> a slab of memory.
#pragma once

#include "common.h"

namespace pyrad {

// One range; `fd` need not stay at any position (pread).
struct ByteRange {
    int32_t fd;
    uint64_t offset;       // in the file
    uint64_t size;         // bytes
    uint64_t slab_offset;  // where it goes
};

// Reads `size` bytes at `offset` of a file to `out`: ok, truncated, or failed(errno). An interrupted call is repeated,
// a partial one continued. Allocates nothing, throws nothing, any thread may call it.
Status read_range(int32_t fd, uint64_t offset, uint64_t size, uint8_t* out);

// The same of every range, into slab + slab_offset, on up to `threads` threads (fewer where the system has no more);
// one status each. The caller has checked that the ranges lie inside the slab. Throws std::bad_alloc only, before
// anything is read.
void read_ranges(const ByteRange* ranges, size_t count, uint8_t* slab, int32_t* statuses, unsigned threads);

// Has the system fetch the ranges from the disk while other work is done; it may take no notice. A few of them are
// looked at first: where those are in memory already, so are the others, more often than not, and nobody is asked.
void read_ahead(const ByteRange* ranges, size_t count);

}  // namespace pyrad

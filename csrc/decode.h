// A tilepack chunk -> pixels.
#pragma once

#include "common.h"

namespace pyrad {

// Decodes a whole chunk into `pixels`, rows * columns of `dtype`, row by row without gaps. `chunk` is one chunk without
// its crc32c; nothing outside its `size` bytes is read, whatever they say, and unless the status is ok `pixels` is left
// as it was. Allocates nothing, throws nothing, any thread may call it.
Status decode_chunk(const uint8_t* chunk, size_t size, uint32_t rows, uint32_t columns, Dtype dtype, void* pixels);

}  // namespace pyrad

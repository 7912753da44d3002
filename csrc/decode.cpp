// A tilepack chunk -> pixels: the driver around tilepack.h.
#include "decode.h"

#include <memory>

#include "tilepack.h"
#include "transpose.h"

namespace pyrad {
namespace {

template <class Pixel>
void decode_grid(const uint8_t* chunk, const tilepack::Grid& grid, Pixel* out) {
    for (uint32_t segment = 0; segment < grid.segments; ++segment) {
        tilepack::decode_segment(chunk, grid, segment, out + size_t{segment} * tilepack::segment_rows * grid.columns,
                                 grid.columns);
    }
}

PYRAD_CLONES void decode_grid_8(const uint8_t* chunk, const tilepack::Grid& grid, uint8_t* out) {
    decode_grid(chunk, grid, out);
}

PYRAD_CLONES void decode_grid_16(const uint8_t* chunk, const tilepack::Grid& grid, uint16_t* out) {
    decode_grid(chunk, grid, out);
}

void decode_grid_of(const uint8_t* chunk, const tilepack::Grid& grid, uint8_t* out) { decode_grid_8(chunk, grid, out); }
void decode_grid_of(const uint8_t* chunk, const tilepack::Grid& grid, uint16_t* out) {
    decode_grid_16(chunk, grid, out);
}

template <class Pixel>
void decode_checked(const uint8_t* chunk, const tilepack::Grid& grid, Pixel* pixels) {
    if (!grid.transposed) {
        decode_grid_of(chunk, grid, pixels);
        return;
    }
    const std::unique_ptr<Pixel[]> stored(new Pixel[size_t{grid.rows} * grid.columns]);
    decode_grid_of(chunk, grid, stored.get());
    transpose(stored.get(), grid.rows, grid.columns, pixels);
}

}  // namespace

Status decode_chunk(const uint8_t* chunk, size_t size, uint32_t rows, uint32_t columns, Dtype dtype, void* pixels) {
    tilepack::Grid grid;
    const Status status = tilepack::check(chunk, size, rows, columns, dtype, grid);
    if (status != Status::ok) return status;
    // Sums are modulo 2^bits: the sign of the pixels makes no difference here.
    if (bytes_per_pixel(dtype) == 1) {
        decode_checked(chunk, grid, static_cast<uint8_t*>(pixels));
    } else {
        decode_checked(chunk, grid, static_cast<uint16_t*>(pixels));
    }
    return Status::ok;
}

}  // namespace pyrad

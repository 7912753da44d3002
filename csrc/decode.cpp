// A tilepack chunk -> pixels: the driver around tilepack.h.
#include "decode.h"

#include "instructions.h"
#include "tilepack.h"
#include "vectors.h"

namespace pyrad {
namespace {

template <class Set, class Pixel>
inline void decode_segments(const uint8_t* chunk, const tilepack::Grid& grid, Pixel* pixels) {
    const size_t segment_pixels = size_t{tilepack::segment_rows} * grid.columns;
    for (uint32_t segment = 0; segment < grid.segments; ++segment) {
        tilepack::decode_segment<Set>(chunk, grid, segment, pixels + segment * segment_pixels, grid.columns);
    }
}

}  // namespace

Status decode_chunk(const uint8_t* chunk, size_t size, uint32_t rows, uint32_t columns, Dtype dtype, void* pixels) {
    Status status = Status::ok;
    run_fastest([&](auto tag) {
        using Set = typename decltype(tag)::type;
        tilepack::Grid grid;
        status = tilepack::check<Set>(chunk, size, rows, columns, dtype, grid);
        if (status != Status::ok) return;
        if (bytes_per_pixel(dtype) == 1) {
            decode_segments<Set>(chunk, grid, static_cast<uint8_t*>(pixels));
        } else {
            decode_segments<Set>(chunk, grid, static_cast<uint16_t*>(pixels));
        }
    });
    return status;
}

}  // namespace pyrad

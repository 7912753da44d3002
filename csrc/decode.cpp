// A tilepack chunk -> pixels: the driver around segment.h.
#include "decode.h"

#include "instructions.h"
#include "segment.h"
#include "vectors.h"

namespace pyrad {
namespace {

template <class Set, class Pixel>
inline void decode_segments(const uint8_t* chunk, const tilepack::Grid& grid, Pixel* pixels) {
    using namespace tilepack;
    const size_t columns = grid.columns;
    for (uint32_t index = 0; index < grid.segments; ++index) {
        Segment segment = open_segment<Set, Pixel>(chunk, grid, index);
        Pixel* const first = pixels + size_t{index} * segment_rows * columns;
        const Pixel* above = nullptr;
        const uint32_t rows = rows_in_segment(grid, index);
        for (uint32_t row = 0; row < rows; row += tile_height) {
            const uint32_t count = rows - row < tile_height ? rows - row : tile_height;
            decode_tile_row<Set>(segment, grid, whole_row(grid), count, above, first + row * columns, columns);
            above = first + (row + count - 1) * columns;
        }
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

// A checked segment of a chunk -> its pixels, a tile row at a time, whatever the mode.
#pragma once

#include <type_traits>

#include "common.h"
#include "pack.h"
#include "rice.h"
#include "tilepack.h"

namespace pyrad::tilepack {

// Where reading stands in a segment.
struct Segment {
    Predictor predictor;
    const uint8_t* table_row;
    const uint8_t* payload;
    Quotients unary;  // of modes rice and dense
};

template <class Set, class Pixel>
inline Segment open_segment(const uint8_t* chunk, const Grid& grid, uint32_t index) {
    Segment segment;
    segment.predictor = predictor_of(chunk, grid, index);
    segment.table_row = chunk + segment_offset(chunk, index);
    segment.payload = segment.table_row + table_bytes(grid, index);
    if (grid.mode == Mode::pack) return segment;
    uint64_t widths = 0;
    for (uint32_t row = 0; row < tile_rows_in_segment(grid, index); ++row) {
        sum_codes<Set>(segment.table_row + uint64_t{row} * grid.table_row_bytes, grid.tiles_across,
                       codes_of(grid.mode, sizeof(Pixel)).width, widths);
    }
    segment.unary = Quotients(segment.payload + align16(tile_height * widths));
    return segment;
}

template <Sums sums>
using Constant = std::integral_constant<Sums, sums>;

// One tile row of modes rice and dense; see decode_tile_row.
template <class Set, class Pixel>
inline void decode_rice_row(Segment& segment, const Grid& grid, uint32_t rows, const Pixel* above, Pixel* out,
                            size_t stride) {
    const auto join = [&](auto sums) {
        return join_tile_row<Set, sums.value>(segment.table_row, segment.payload, segment.unary, grid, rows, above, out,
                                              stride);
    };
    uint32_t summed = 0;  // columns that are finished
    if (above != nullptr && segment.predictor == Predictor::above) {
        summed = join(Constant<Sums::down>{});
    } else if (above != nullptr && segment.predictor == Predictor::gradient && Set::sums_from_left_at_once) {
        summed = join(Constant<Sums::left_and_down>{});
    } else {
        join(Constant<Sums::none>{});
    }
    if (segment.predictor == Predictor::median && above == nullptr) {
        sum_from_left<Set>(out, grid.columns, Pixel{0});
        return add_medians<Set>(out, out + stride, stride, rows - 1, grid.columns);
    }
    if (segment.predictor == Predictor::median) return add_medians<Set>(above, out, stride, rows, grid.columns);
    const uint32_t left = grid.columns - summed;
    for (uint32_t y = 0; y < rows && left != 0; ++y) {
        Pixel* const row = out + y * stride;
        if (above == nullptr) {
            sum_from_left<Set>(row, left, Pixel{0});
        } else {
            if (segment.predictor == Predictor::gradient) {
                const Pixel before = summed == 0 ? Pixel{0} : static_cast<Pixel>(row[summed - 1] - above[summed - 1]);
                sum_from_left<Set>(row + summed, left, before);
            }
            add_above(above + summed, row + summed, left);
        }
        above = row;
    }
}

// The next tile row: `rows` rows of pixels into `out`, whose rows lie `stride` pixels apart, below the row `above`,
// which is null at the top of a segment. At least the columns of `span` are decoded.
template <class Set, class Pixel>
inline void decode_tile_row(Segment& segment, const Grid& grid, Span span, uint32_t rows, const Pixel* above,
                            Pixel* out, size_t stride) {
    if (grid.mode == Mode::pack) {
        segment.payload =
            decode_pack_row<Set>(segment.table_row, segment.payload, grid, span, rows, above, out, stride);
    } else {
        decode_rice_row<Set>(segment, grid, rows, above, out, stride);
    }
    segment.table_row += grid.table_row_bytes;
}

}  // namespace pyrad::tilepack

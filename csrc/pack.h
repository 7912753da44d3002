// tilepack, mode `pack`: fields of one width a tile -> residuals -> pixels.
#pragma once

#include "common.h"
#include "tilepack.h"

namespace pyrad::tilepack {

// How the fields of one width spread out into the lanes of a 64-bit word, a pixel a lane. Fields stand side by side
// from bit 0; the upper half of them moves up to bit 32, then each upper quarter within its half, and so on, in three
// steps for eight 8-bit lanes and two for four 16-bit lanes (a row of 16-bit pixels takes two words).
template <class Pixel>
struct Spread {
    static constexpr uint32_t steps = sizeof(Pixel) == 1 ? 3 : 2;
    uint64_t stay[steps];
    uint64_t move[steps];
    uint32_t shift[steps];
    uint64_t sign;  // of each lane's field; it and `top` are 0 where fields fill their lanes
    uint64_t top;   // of each lane

    PYRAD_HD inline explicit Spread(uint32_t width) {
        constexpr uint64_t every_lane = ~uint64_t{0} / static_cast<Pixel>(~0u);  // 1 in each lane
        constexpr uint64_t every_span[3] = {1, 0x0000000100000001, 0x0001000100010001};
        for (uint32_t step = 0; step < steps; ++step) {
            const uint32_t half = width * (1u << (steps - 1 - step));  // bits that half of a span's fields fill, <= 32
            shift[step] = (32u >> step) - half;
            stay[step] = ((uint64_t{1} << half) - 1) * every_span[step];
            move[step] = stay[step] << (32u >> step);
        }
        const bool full = width == 8 * sizeof(Pixel);
        sign = full ? 0 : ((uint64_t{1} << width) >> 1) * every_lane;
        top = full ? 0 : every_lane << (8 * sizeof(Pixel) - 1);
    }

    // Sign extended modulo 2^bits of Pixel. The top bits keep each lane's subtraction from borrowing of the next.
    PYRAD_HD inline uint64_t apply(uint64_t packed) const {
        for (uint32_t step = 0; step < steps; ++step) {
            packed = (packed & stay[step]) | ((packed << shift[step]) & move[step]);
        }
        return ((packed ^ (sign | top)) - sign) ^ top;
    }
};

// One row of a tile: eight fields of `width` bits at `packed` -> eight residuals. Loads up to 16 bytes, whatever
// `width`.
template <class Pixel>
PYRAD_HD inline void unpack_row(const uint8_t* packed, uint32_t width, const Spread<Pixel>& spread, Pixel* residual) {
    const uint64_t first = spread.apply(load_le<uint64_t>(packed));
    memcpy(residual, &first, 8);
    if constexpr (sizeof(Pixel) == 2) {  // fields 4 to 7 begin at bit 4 * width
        const uint64_t second = spread.apply(load_le<uint64_t>(packed + (width >> 1)) >> (4 * (width & 1)));
        memcpy(residual + 4, &second, 8);
    }
}

// The inverse: eight residuals into `width` bytes. Stores 16 bytes: the caller's next store, or padding, overwrites the
// rest.
template <class Pixel>
inline void pack_row(const Pixel* residual, uint32_t width, uint8_t* packed) {
    const uint64_t mask = (uint64_t{1} << width) - 1;
    uint64_t low = 0;
    uint64_t high = 0;
    for (uint32_t field = 0; field < 4; ++field) {
        low |= (uint64_t{residual[field]} & mask) << (field * width);
        high |= (uint64_t{residual[field + 4]} & mask) << (field * width);
    }
    const uint32_t half = 4 * width;
    store_le<uint64_t>(packed, half == 64 ? low : low | high << half);
    store_le<uint64_t>(packed + 8, half == 64 ? high : half == 0 ? 0 : high >> (64 - half));
}

// Residuals of up to four rows of tiles `tile` to `end` into `out`, whose rows lie `stride` pixels apart; the last tile
// may be a part of one. Returns where the next tile's payload starts.
template <class Pixel>
PYRAD_HD inline const uint8_t* unpack_tiles(const uint8_t* table_row, const uint8_t* payload, uint32_t tile,
                                            uint32_t end, uint32_t columns, uint32_t rows, Pixel* out, size_t stride) {
    for (; tile < end; ++tile) {
        const uint32_t width = width_of_code(code_at(table_row, tile));
        const uint32_t column = tile * tile_width;
        const Spread<Pixel> spread(width);
        if (columns - column >= tile_width) {
            for (uint32_t y = 0; y < rows; ++y)
                unpack_row(payload + y * width, width, spread, out + y * stride + column);
        } else {
            Pixel residual[tile_width];
            for (uint32_t y = 0; y < rows; ++y) {
                unpack_row(payload + y * width, width, spread, residual);
                memcpy(out + y * stride + column, residual, (columns - column) * sizeof(Pixel));
            }
        }
        payload += tile_height * width;
    }
    return payload;
}

template <class Set, class Pixel>
PYRAD_HD inline void sum_from_left(Pixel* row, uint32_t columns, Pixel before) {
    if (columns == 0) return;
    row[0] = static_cast<Pixel>(row[0] + before);
    uint32_t x = Set::sum_from_left(row, columns);
    Pixel sum = x == 0 ? Pixel{0} : row[x - 1];
    for (; x < columns; ++x) {
        sum = static_cast<Pixel>(sum + row[x]);
        row[x] = sum;
    }
}

template <class Pixel>
PYRAD_HD inline void add_above(const Pixel* __restrict above, Pixel* __restrict row, uint32_t columns) {
    for (uint32_t x = 0; x < columns; ++x) row[x] = static_cast<Pixel>(row[x] + above[x]);
}

// What residuals are summed with as they are unpacked; what is not done then is done afterwards.
enum class Sums { none, down, left_and_down };

// The tiles of a row that are wanted: `begin` to `end`, both even, or `end` the row's last.
struct Span {
    uint32_t begin;
    uint32_t end;
};

PYRAD_HD inline Span whole_row(const Grid& grid) { return {0, grid.tiles_across}; }

PYRAD_HD inline Span span_of(const Grid& grid, uint32_t begin_column, uint32_t end_column) {
    const uint32_t end = (end_column + 2 * tile_width - 1) / (2 * tile_width) * 2;
    return {begin_column / (2 * tile_width) * 2, end < grid.tiles_across ? end : grid.tiles_across};
}

// Bytes that tiles take in the payload of mode pack; the first is in a low nibble.
template <class Set>
PYRAD_HD inline uint64_t payload_bytes(const uint8_t* table_row, uint32_t tiles) {
    uint64_t widths = 0;
    sum_codes<Set>(table_row, tiles, codes_of(Mode::pack, 2).width, widths);
    return tile_height * widths;
}

// One tile row of pixels below `above`, which is null at the top of a segment: nothing (zeros) stands above it. What is
// summed from the left is decoded from the left, else only `span` is. Returns where the next tile row's payload starts.
template <class Set, class Pixel>
PYRAD_HD inline const uint8_t* decode_pack_row(const uint8_t* table_row, const uint8_t* payload, const Grid& grid,
                                               Span span, uint32_t rows, const Pixel* above, Pixel* out,
                                               size_t stride) {
    const bool from_left = above == nullptr || grid.gradient;
    const uint32_t begin = from_left ? 0 : span.begin;
    const uint32_t first = begin * tile_width;
    const uint32_t end = span.end * tile_width < grid.columns ? span.end * tile_width : grid.columns;
    // Tiles that vectors may unpack: of four rows of eight pixels, all of them in the image.
    const uint32_t whole = rows == tile_height ? (end - first) / tile_width : 0;
    const uint8_t* const table = table_row + begin / 2;
    if (begin != 0) payload += payload_bytes<Set>(table_row, begin);
    const bool all_at_once = !from_left || (above != nullptr && Set::sums_from_left_at_once);
    uint32_t done;
    if (!all_at_once) {
        done = Set::template unpack_tiles<Pixel, Sums::none>(table, payload, whole, above, out, stride);
    } else if (from_left) {
        done = Set::template unpack_tiles<Pixel, Sums::left_and_down>(table, payload, whole, above, out, stride);
    } else {
        done = Set::template unpack_tiles<Pixel, Sums::down>(table, payload, whole, above + first, out + first, stride);
    }
    payload = unpack_tiles(table_row, payload, begin + done, span.end, grid.columns, rows, out, stride);
    if (span.end < grid.tiles_across) {
        payload += payload_bytes<Set>(table_row + span.end / 2, grid.tiles_across - span.end);
    }
    const uint32_t left = all_at_once ? first + done * tile_width : 0;  // columns from here on are not yet summed up
    for (uint32_t y = 0; y < rows; ++y) {
        Pixel* const row = out + y * stride;
        if (above == nullptr || grid.gradient) {
            const Pixel before = left == 0 ? Pixel{0} : static_cast<Pixel>(row[left - 1] - above[left - 1]);
            sum_from_left<Set>(row + left, end - left, before);
        }
        if (above != nullptr) add_above(above + left, row + left, end - left);
        above = row;
    }
    return payload;
}

}  // namespace pyrad::tilepack

// tilepack, mode `pack`: the mathematics of one tile, one tile row and one segment. docs/format.md specifies the
// format.
//
// chunk -> check() -> Grid -> decode_segment() -> pixels. Everything is checked before anything is unpacked, so that
// unpacking needs no checks and can neither read nor write outside, whatever the bytes say.
//
// Pixels are unsigned here whatever the image's dtype: residuals and sums are modulo 2^bits.
#pragma once

#include "common.h"

namespace pyrad::tilepack {

constexpr uint8_t format_version = 1;
constexpr uint8_t mode_pack = 0;
constexpr uint8_t flag_gradient = 1;  // every row of residuals is summed from the left, not only a segment's first
constexpr uint32_t segment_rows = 128;
constexpr uint32_t tile_height = 4;
constexpr uint32_t tile_width = 8;
constexpr uint32_t fixed_header_bytes = 16;
constexpr uint32_t slack_bytes = 16;  // zeros behind the last segment: a 16-byte load at any payload byte stays inside

// An image cut into segments and tiles.
struct Grid {
    uint32_t rows;
    uint32_t columns;
    uint32_t segments;
    uint32_t tiles_across;
    uint32_t table_row_bytes;  // nibbles of one tile row
    bool gradient;
};

PYRAD_HD inline Grid grid_of(uint32_t rows, uint32_t columns, bool gradient) {
    Grid grid;
    grid.rows = rows;
    grid.columns = columns;
    grid.segments = static_cast<uint32_t>((uint64_t{rows} + segment_rows - 1) / segment_rows);
    grid.tiles_across = static_cast<uint32_t>((uint64_t{columns} + tile_width - 1) / tile_width);
    grid.table_row_bytes = (grid.tiles_across + 1) / 2;
    grid.gradient = gradient;
    return grid;
}

PYRAD_HD inline uint32_t rows_in_segment(const Grid& grid, uint32_t segment) {
    const uint32_t left = grid.rows - segment * segment_rows;
    return left < segment_rows ? left : segment_rows;
}

PYRAD_HD inline uint32_t tile_rows_in_segment(const Grid& grid, uint32_t segment) {
    return (rows_in_segment(grid, segment) + tile_height - 1) / tile_height;
}

PYRAD_HD inline uint64_t header_bytes(const Grid& grid) {
    return align16(fixed_header_bytes + 4 * (uint64_t{grid.segments} + 1));
}

PYRAD_HD inline uint64_t table_bytes(const Grid& grid, uint32_t segment) {
    return align16(uint64_t{tile_rows_in_segment(grid, segment)} * grid.table_row_bytes);
}

PYRAD_HD inline uint32_t segment_offset(const uint8_t* chunk, uint32_t segment) {
    return load_le<uint32_t>(chunk + fixed_header_bytes + 4 * uint64_t{segment});
}

// Widths 0-10, 12 and 16 are those whose fields never straddle more than two bytes (note in docs/format.md).
PYRAD_HD inline uint32_t width_of_code(uint32_t code) { return code <= 10 ? code : 4 * (code - 8); }
PYRAD_HD inline uint32_t code_of_width(uint32_t width) { return width <= 10 ? width : width <= 12 ? 11 : 12; }
PYRAD_HD inline uint32_t largest_code(Dtype dtype) { return bytes_per_pixel(dtype) == 1 ? 8 : 12; }

PYRAD_HD inline uint32_t code_at(const uint8_t* table_row, uint32_t tile) {
    return (table_row[tile >> 1] >> (4 * (tile & 1))) & 15;
}

// Adds up the widths of a tile row's first `tiles`; false if a code is invalid. In 64 bits: a row of 2^29 tiles must
// not wrap round.
template <class Set>
PYRAD_HD inline bool sum_widths(const uint8_t* table_row, uint32_t tiles, uint32_t largest, uint64_t& sum) {
    uint32_t highest = 0;
    for (uint32_t tile = Set::sum_codes(table_row, tiles, sum, highest); tile < tiles; ++tile) {
        const uint32_t code = code_at(table_row, tile);
        highest = code > highest ? code : highest;
        sum += width_of_code(code);
    }
    return highest <= largest;
}

// Everything that unpacking relies on. `rows`, `columns` and `dtype` are what the caller expects; on Status::ok `grid`
// describes the chunk and every later access stays inside `size` bytes.
template <class Set>
PYRAD_HD inline Status check(const uint8_t* chunk, uint64_t size, uint32_t rows, uint32_t columns, Dtype dtype,
                             Grid& grid) {
    if (size < fixed_header_bytes) return Status::bounds;
    const uint8_t flags = chunk[3];
    if (chunk[0] != format_version || chunk[1] != mode_pack || !is_dtype(chunk[2]) || (flags & ~flag_gradient) != 0 ||
        load_le<uint16_t>(chunk + 12) != segment_rows) {
        return Status::header;
    }
    if (chunk[2] != static_cast<uint8_t>(dtype) || load_le<uint32_t>(chunk + 4) != rows ||
        load_le<uint32_t>(chunk + 8) != columns || rows == 0 || columns == 0) {
        return Status::geometry;
    }
    grid = grid_of(rows, columns, (flags & flag_gradient) != 0);
    if (load_le<uint16_t>(chunk + 14) != grid.segments) return Status::header;
    uint64_t at = header_bytes(grid);
    if (size < at || segment_offset(chunk, 0) != at) return Status::bounds;
    const uint32_t largest = largest_code(dtype);
    for (uint32_t segment = 0; segment < grid.segments; ++segment) {
        const uint64_t end = segment_offset(chunk, segment + 1);
        const uint64_t table = table_bytes(grid, segment);
        if (end % 16 != 0 || end < at || end > size || end - at < table) return Status::bounds;
        uint64_t widths = 0;
        for (uint32_t row = 0; row < tile_rows_in_segment(grid, segment); ++row) {
            const uint8_t* const table_row = chunk + at + uint64_t{row} * grid.table_row_bytes;
            if (!sum_widths<Set>(table_row, grid.tiles_across, largest, widths)) {
                return Status::widths;
            }
        }
        if (end - at - table != align16(tile_height * widths)) return Status::widths;
        at = end;
    }
    return size - at == slack_bytes ? Status::ok : Status::bounds;
}

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

// Bytes that tiles take in the payload; the first is in a low nibble.
template <class Set>
PYRAD_HD inline uint64_t payload_bytes(const uint8_t* table_row, uint32_t tiles) {
    uint64_t widths = 0;
    sum_widths<Set>(table_row, tiles, 15, widths);
    return tile_height * widths;
}

// One tile row of pixels below `above`, which is null at the top of a segment: nothing (zeros) stands above it. What is
// summed from the left is decoded from the left, else only `span` is. Returns where the next tile row's payload starts.
template <class Set, class Pixel>
PYRAD_HD inline const uint8_t* decode_tile_row(const uint8_t* table_row, const uint8_t* payload, const Grid& grid,
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

// One checked segment into `out`, whose rows lie `stride` pixels apart.
template <class Set, class Pixel>
PYRAD_HD inline void decode_segment(const uint8_t* chunk, const Grid& grid, uint32_t segment, Pixel* out,
                                    size_t stride) {
    const uint8_t* table_row = chunk + segment_offset(chunk, segment);
    const uint8_t* payload = table_row + table_bytes(grid, segment);
    const uint32_t rows = rows_in_segment(grid, segment);
    const Pixel* above = nullptr;
    for (uint32_t row = 0; row < rows; row += tile_height) {
        const uint32_t count = rows - row < tile_height ? rows - row : tile_height;
        payload =
            decode_tile_row<Set>(table_row, payload, grid, whole_row(grid), count, above, out + row * stride, stride);
        above = out + (row + count - 1) * stride;
        table_row += grid.table_row_bytes;
    }
}

}  // namespace pyrad::tilepack

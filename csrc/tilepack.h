// tilepack: the shape of a chunk, and its checks. docs/format.md specifies the format.
//
// chunk -> check() -> Grid -> Segment (segment.h) -> pixels. Everything is checked before anything is unpacked, so that
// unpacking (pack.h, rice.h) needs no checks and can neither read nor write outside, whatever the bytes say.
//
// Pixels are unsigned here whatever the image's dtype: residuals and sums are modulo 2^bits.
#pragma once

#include "common.h"

namespace pyrad::tilepack {

constexpr uint8_t format_version = 1;
constexpr uint8_t flag_gradient = 1;  // mode pack: every segment is predicted by the gradient
constexpr uint32_t segment_rows = 128;
constexpr uint32_t tile_height = 4;
constexpr uint32_t tile_width = 8;
constexpr uint32_t tile_pixels = tile_height * tile_width;
constexpr uint32_t fixed_header_bytes = 16;
constexpr uint32_t slack_bytes = 16;  // zeros behind the last segment: a 16-byte load at any payload byte stays inside

// How residuals are written. `dense` is `rice` with one more predictor.
enum class Mode : uint8_t { pack = 0, rice = 1, dense = 2 };

// What a pixel is predicted from; the first row of a segment always from the left.
enum class Predictor : uint8_t { above = 0, gradient = 1, median = 2 };

PYRAD_HD inline Predictor last_predictor(Mode mode) {
    return mode == Mode::pack ? Predictor::above : mode == Mode::rice ? Predictor::gradient : Predictor::median;
}

// An image cut into segments and tiles.
struct Grid {
    uint32_t rows;
    uint32_t columns;
    uint32_t segments;
    uint32_t tiles_across;
    uint32_t table_row_bytes;  // nibbles of one tile row
    Mode mode;
    bool gradient;  // of mode pack
};

PYRAD_HD inline Grid grid_of(uint32_t rows, uint32_t columns, Mode mode, bool gradient) {
    Grid grid;
    grid.rows = rows;
    grid.columns = columns;
    grid.segments = static_cast<uint32_t>((uint64_t{rows} + segment_rows - 1) / segment_rows);
    grid.tiles_across = static_cast<uint32_t>((uint64_t{columns} + tile_width - 1) / tile_width);
    grid.table_row_bytes = (grid.tiles_across + 1) / 2;
    grid.mode = mode;
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

// Offsets are multiples of 16; the low four bits of a segment's are its predictor.
PYRAD_HD inline uint32_t segment_entry(const uint8_t* chunk, uint32_t segment) {
    return load_le<uint32_t>(chunk + fixed_header_bytes + 4 * uint64_t{segment});
}
PYRAD_HD inline uint32_t segment_offset(const uint8_t* chunk, uint32_t segment) {
    return segment_entry(chunk, segment) & ~15u;
}
PYRAD_HD inline Predictor predictor_of(const uint8_t* chunk, const Grid& grid, uint32_t segment) {
    if (grid.mode == Mode::pack) return grid.gradient ? Predictor::gradient : Predictor::above;
    return static_cast<Predictor>(segment_entry(chunk, segment) & 15u);
}

// Widths 0-10, 12 and 16 are those whose fields never straddle more than two bytes (note in docs/format.md).
PYRAD_HD inline uint32_t width_of_code(uint32_t code) { return code <= 10 ? code : 4 * (code - 8); }
PYRAD_HD inline uint32_t code_of_width(uint32_t width) { return width <= 10 ? width : width <= 12 ? 11 : 12; }

// What the codes of a table mean.
struct Codes {
    uint8_t width[16];      // of a field in the payload; 0 where the code is invalid
    uint8_t quotients[16];  // 1 where each field has a quotient beside it (rice.h)
    uint32_t largest;
};

constexpr Codes make_codes(bool pack, uint32_t pixel_bits) {
    Codes codes{};
    const uint32_t zero_tile = pack ? 0 : 1;  // codes of rice begin with one for tiles of nothing but zeros
    for (uint32_t code = zero_tile; code <= 12 + zero_tile; ++code) {
        const uint32_t step = code - zero_tile;
        const uint32_t width = step <= 10 ? step : 4 * (step - 8);
        if (width > pixel_bits) break;
        codes.width[code] = static_cast<uint8_t>(width);
        codes.quotients[code] = !pack && width < pixel_bits ? 1 : 0;
        codes.largest = code;
    }
    return codes;
}

// Of pack and of the other modes, for pixels of one and of two bytes.
inline constexpr Codes all_codes[2][2] = {{make_codes(true, 8), make_codes(true, 16)},
                                          {make_codes(false, 8), make_codes(false, 16)}};

PYRAD_HD inline const Codes& codes_of(Mode mode, uint32_t pixel_bytes) {
    return all_codes[mode == Mode::pack ? 0 : 1][pixel_bytes - 1];
}

PYRAD_HD inline uint32_t code_at(const uint8_t* table_row, uint32_t tile) {
    return (table_row[tile >> 1] >> (4 * (tile & 1))) & 15;
}

// Adds up what `each` says of the codes of a tile row's first `tiles`, and returns the highest code. In 64 bits: a row
// of 2^29 tiles must not wrap round.
template <class Set>
PYRAD_HD inline uint32_t sum_codes(const uint8_t* table_row, uint32_t tiles, const uint8_t (&each)[16], uint64_t& sum) {
    uint32_t highest = 0;
    for (uint32_t tile = Set::sum_codes(table_row, tiles, each, sum, highest); tile < tiles; ++tile) {
        const uint32_t code = code_at(table_row, tile);
        highest = code > highest ? code : highest;
        sum += each[code];
    }
    return highest;
}

constexpr uint32_t largest_quotient = 127;  // that an encoder writes

// Quotients that end within `bytes`, a multiple of 16: a bit 1 ends each. UINT64_MAX if two words of eight bytes in a
// row are zero: quotients up to 127 never make them so, and without them none reaches 191.
PYRAD_HD inline uint64_t count_quotients(const uint8_t* unary, uint64_t bytes) {
    uint64_t count = 0;
    uint64_t before = 1;
    bool long_run = false;
    for (uint64_t at = 0; at < bytes; at += 8) {
        const uint64_t word = load_le<uint64_t>(unary + at);
        long_run |= (word | before) == 0;
        before = word;
        count += static_cast<uint64_t>(__builtin_popcountll(word));
    }
    return long_run ? UINT64_MAX : count;
}

// The segment at `segment`, of `size` bytes, no fewer than its table: its codes, and that they add up to its size.
template <class Set>
PYRAD_HD inline bool check_segment(const uint8_t* segment, uint64_t size, uint64_t table, uint32_t tile_rows,
                                   const Grid& grid, const Codes& codes) {
    uint64_t widths = 0;
    uint64_t coded = 0;  // tiles with quotients
    for (uint32_t row = 0; row < tile_rows; ++row) {
        const uint8_t* const table_row = segment + uint64_t{row} * grid.table_row_bytes;
        if (sum_codes<Set>(table_row, grid.tiles_across, codes.width, widths) > codes.largest) return false;
        if (grid.mode != Mode::pack) sum_codes<Set>(table_row, grid.tiles_across, codes.quotients, coded);
    }
    const uint64_t unary = table + align16(tile_height * widths);
    if (grid.mode == Mode::pack) return size == unary;
    return size >= unary && count_quotients(segment + unary, size - unary) == tile_pixels * coded;
}

// Everything that unpacking relies on. `rows`, `columns` and `dtype` are what the caller expects; on Status::ok `grid`
// describes the chunk and every later access stays inside `size` bytes.
template <class Set>
PYRAD_HD inline Status check(const uint8_t* chunk, uint64_t size, uint32_t rows, uint32_t columns, Dtype dtype,
                             Grid& grid) {
    if (size < fixed_header_bytes) return Status::bounds;
    const uint8_t flags = chunk[3];
    if (chunk[0] != format_version || chunk[1] > static_cast<uint8_t>(Mode::dense) || !is_dtype(chunk[2]) ||
        load_le<uint16_t>(chunk + 12) != segment_rows) {
        return Status::header;
    }
    const auto mode = static_cast<Mode>(chunk[1]);
    if ((flags & ~(mode == Mode::pack ? flag_gradient : 0)) != 0) return Status::header;
    if (chunk[2] != static_cast<uint8_t>(dtype) || load_le<uint32_t>(chunk + 4) != rows ||
        load_le<uint32_t>(chunk + 8) != columns || rows == 0 || columns == 0) {
        return Status::geometry;
    }
    grid = grid_of(rows, columns, mode, (flags & flag_gradient) != 0);
    if (load_le<uint16_t>(chunk + 14) != grid.segments) return Status::header;
    uint64_t at = header_bytes(grid);
    if (size < at || segment_offset(chunk, 0) != at) return Status::bounds;
    const Codes& codes = codes_of(mode, bytes_per_pixel(dtype));
    for (uint32_t segment = 0; segment < grid.segments; ++segment) {
        const uint64_t end = segment_offset(chunk, segment + 1);
        const uint64_t table = table_bytes(grid, segment);
        if (end < at || end > size || end - at < table) return Status::bounds;
        if ((segment_entry(chunk, segment) & 15) > static_cast<uint32_t>(last_predictor(mode))) return Status::header;
        if (!check_segment<Set>(chunk + at, end - at, table, tile_rows_in_segment(grid, segment), grid, codes)) {
            return Status::widths;
        }
        at = end;
    }
    return size - at == slack_bytes && segment_entry(chunk, grid.segments) == at ? Status::ok : Status::bounds;
}

}  // namespace pyrad::tilepack

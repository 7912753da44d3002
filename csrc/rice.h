// tilepack, modes `rice` and `dense`: low bits and quotients -> zigzag numbers -> residuals -> pixels.
//
// A field's low bits stand in the payload, packed as mode `pack` packs them. What is above them, the quotient q, is
// written as q bits 0 and a bit 1 in the segment's unary stream, which tilepack::check has counted: there are just as
// many bits 1 as quotients, so that reading stops inside.
#pragma once

#include <type_traits>

#include "common.h"
#include "pack.h"
#include "tilepack.h"

namespace pyrad::tilepack {

// What the eight bits of one byte of the unary stream say, lowest bit first.
struct alignas(16) UnaryByte {
    uint8_t quotients[8];  // bits 0 before each bit 1; zeros behind the last
    uint8_t count;         // bits 1
    uint8_t zeros;         // bits 0 behind the last bit 1
};

struct UnaryBytes {
    UnaryByte of[256];
};

constexpr UnaryBytes make_unary_bytes() {
    UnaryBytes bytes{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        UnaryByte& said = bytes.of[byte];
        for (uint32_t bit = 0; bit < 8; ++bit) {
            if ((byte >> bit & 1) != 0) {
                said.quotients[said.count++] = said.zeros;
                said.zeros = 0;
            } else {
                ++said.zeros;
            }
        }
    }
    return bytes;
}

inline constexpr UnaryBytes unary_bytes = make_unary_bytes();

// Reads a unary stream a byte at a time. No quotient is above 255: count_quotients has seen to that.
class Quotients {
   public:
    static constexpr size_t slack = 16;  // bytes that `read` may write behind what was asked for

    Quotients() = default;
    explicit Quotients(const uint8_t* unary) : at_(unary) {}

    inline void read(uint32_t count, uint8_t* out) {
        memcpy(out, ready_, sizeof(ready_));
        uint8_t* next = out + ready_count_;
        uint8_t* const end = out + count;
        const uint8_t* at = at_;
        uint64_t zeros = zeros_;
        while (next < end) {
            const UnaryByte& byte = unary_bytes.of[*at++];
            store_le<uint64_t>(next, load_le<uint64_t>(byte.quotients) + zeros);  // to the first of them
            next += byte.count;
            zeros = byte.count == 0 ? zeros + 8 : byte.zeros;
        }
        at_ = at;
        zeros_ = zeros;
        ready_count_ = static_cast<uint32_t>(next - end);
        memcpy(ready_, end, sizeof(ready_));
    }

   private:
    const uint8_t* at_ = nullptr;
    uint64_t zeros_ = 0;        // bits 0 of the quotient that has begun
    uint32_t ready_count_ = 0;  // quotients that came with the last byte and were not asked for
    uint8_t ready_[8] = {};
};

constexpr uint32_t tiles_at_once = 64;  // whose quotients are read together
constexpr size_t quotient_bytes = tiles_at_once * tile_pixels + Quotients::slack;

// One row of a tile: eight low parts of `width` bits at `packed`, and eight quotients.
template <class Pixel>
inline void join_row(const uint8_t* packed, uint32_t width, const uint8_t* quotients, Pixel* residual) {
    const uint32_t mask = (1u << width) - 1;
    for (uint32_t i = 0; i < tile_width; ++i) {
        const uint32_t low = load_le<uint32_t>(packed + i * width / 8) >> (i * width % 8) & mask;
        const auto zigzag = static_cast<Pixel>(low | uint32_t{quotients[i]} << width);
        residual[i] = static_cast<Pixel>(static_cast<Pixel>(zigzag >> 1) ^ static_cast<Pixel>(0 - (zigzag & 1)));
    }
}

// Residuals of `rows` rows of tiles `tile` to `end` into `out`; see tilepack::unpack_tiles.
template <class Pixel>
inline void join_tiles(const uint8_t* table_row, const uint8_t*& payload, const uint8_t* quotients, const Codes& codes,
                       uint32_t tile, uint32_t end, uint32_t columns, uint32_t rows, Pixel* out, size_t stride) {
    constexpr uint8_t none[tile_pixels] = {};
    for (; tile < end; ++tile) {
        const uint32_t code = code_at(table_row, tile);
        const uint32_t width = codes.width[code];
        const uint32_t column = tile * tile_width;
        const uint32_t inside = columns - column < tile_width ? columns - column : tile_width;
        const uint8_t* const own = codes.quotients[code] != 0 ? quotients : none;
        for (uint32_t y = 0; y < rows; ++y) {
            Pixel residual[tile_width];
            join_row(payload + y * width, width, own + y * tile_width, residual);
            memcpy(out + y * stride + column, residual, inside * sizeof(Pixel));
        }
        payload += tile_height * width;
        quotients += codes.quotients[code] * tile_pixels;
    }
}

// Residuals of one tile row, summed as far as `sums` says. Returns how many columns were.
template <class Set, Sums sums, class Pixel>
inline uint32_t join_tile_row(const uint8_t* table_row, const uint8_t*& payload, Quotients& unary, const Grid& grid,
                              uint32_t rows, const Pixel* above, Pixel* out, size_t stride) {
    const Codes& codes = codes_of(grid.mode, sizeof(Pixel));
    const uint32_t whole = rows == tile_height ? grid.columns / tile_width : 0;
    uint8_t quotients[quotient_bytes];
    uint32_t summed = 0;
    for (uint32_t begin = 0; begin < grid.tiles_across; begin += tiles_at_once) {
        const uint32_t end = grid.tiles_across - begin < tiles_at_once ? grid.tiles_across : begin + tiles_at_once;
        const uint8_t* const table = table_row + begin / 2;
        uint64_t coded = 0;
        sum_codes<Set>(table, end - begin, codes.quotients, coded);
        unary.read(static_cast<uint32_t>(coded) * tile_pixels, quotients);
        const uint8_t* next = quotients;
        const uint32_t vectors = whole < begin ? 0 : (whole < end ? whole : end) - begin;
        const size_t first = size_t{begin} * tile_width;
        const uint32_t done = Set::template join_tiles<Pixel, sums>(table, payload, next, vectors, begin == 0,
                                                                    above + first, out + first, stride);
        if (summed == first) summed = (begin + done) * tile_width;
        join_tiles(table_row, payload, next, codes, begin + done, end, grid.columns, rows, out, stride);
    }
    return sums == Sums::none ? 0 : summed;
}

// Residuals of a row -> pixels, where the median of above, left and above + left - above left is the prediction. With d
// the difference of a pixel to the one above it, and v that of the pixel above to its left neighbour, it comes to
// d = residual - v + max(d_left, v, 0) + min(d_left, v, 0): sums modulo 2^bits, whatever the sign of the dtype.
template <class Pixel>
struct MedianRow {
    using Signed = std::make_signed_t<Pixel>;

    const Pixel* above;
    Pixel* row;
    int d = 0;

    inline void first() {
        d = static_cast<Signed>(row[0]);
        row[0] = static_cast<Pixel>(row[0] + above[0]);
    }
    inline void next(uint32_t x) {
        const int v = static_cast<Signed>(above[x] - above[x - 1]);
        const int most = v > 0 ? v : 0;
        const int least = v < 0 ? v : 0;
        const int both = (d > most ? d : most) + (d < least ? d : least);
        d = static_cast<Signed>(row[x] - v + both);
        row[x] = static_cast<Pixel>(above[x] + d);
    }
    inline void finish(uint32_t x, uint32_t columns) {
        for (; x < columns; ++x) next(x);
    }
};

// A tile row of them. Four rows go side by side, each `median_lag` columns behind the one above it: four sums that do
// not wait for each other.
constexpr uint32_t median_lag = 2;
constexpr uint32_t median_start = tile_height * median_lag;  // where the first row is when they begin

template <class Set, class Pixel>
inline void add_medians(const Pixel* above, Pixel* out, size_t stride, uint32_t rows, uint32_t columns) {
    MedianRow<Pixel> row[tile_height] = {};
    for (uint32_t y = 0; y < rows; ++y) {
        row[y].above = y == 0 ? above : out + (y - 1) * stride;
        row[y].row = out + y * stride;
    }
    const bool side_by_side = rows == tile_height && columns >= median_start;
    for (uint32_t y = 0; y < rows; ++y) {
        row[y].first();
        row[y].finish(1, side_by_side ? median_start - y * median_lag : columns);
    }
    if (!side_by_side) return;
    uint32_t x = Set::add_medians(row, columns);
    MedianRow<Pixel> a = row[0], b = row[1], c = row[2], d = row[3];
    for (; x < columns; ++x) {
        a.next(x);
        b.next(x - median_lag);
        c.next(x - 2 * median_lag);
        d.next(x - 3 * median_lag);
    }
    b.finish(columns - median_lag, columns);
    c.finish(columns - 2 * median_lag, columns);
    d.finish(columns - 3 * median_lag, columns);
}

}  // namespace pyrad::tilepack

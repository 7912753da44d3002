// Pixels -> a tilepack chunk: measure every tile in both orientations, choose one, pack.
#include "encode.h"

#include "transpose.h"

namespace pyrad {
namespace {

using namespace tilepack;

// Residuals of one tile of the stored grid; cells outside the image stay zero. Returns the width code they need.
template <class Pixel>
inline uint32_t tile_residuals(const Pixel* grid_pixels, const Grid& grid, uint32_t row, uint32_t column,
                               Pixel residual[tile_height][tile_width]) {
    const uint32_t rows = grid.rows - row < tile_height ? grid.rows - row : tile_height;
    const uint32_t columns = grid.columns - column < tile_width ? grid.columns - column : tile_width;
    const Pixel* at = grid_pixels + size_t{row} * grid.columns + column;
    const bool first = row % segment_rows == 0;
    Pixel above[tile_width] = {};
    Pixel here[tile_width] = {};
    if (first) {  // the first row of a segment is predicted from the left (tilepack.h, row_above_segment)
        const uint32_t from = column == 0 ? 1 : 0;
        memcpy(above + from, at + from - 1, (columns - from) * sizeof(Pixel));
    } else {
        memcpy(above, at - grid.columns, columns * sizeof(Pixel));
    }
    uint32_t magnitude = 0;
    uint32_t any = 0;
    for (uint32_t y = 0; y < rows; ++y) {
        memcpy(here, at + size_t{y} * grid.columns, columns * sizeof(Pixel));
        for (uint32_t x = 0; x < tile_width; ++x) {
            const Pixel difference = static_cast<Pixel>(here[x] - above[x]);
            const Pixel sign = static_cast<Pixel>(0 - (difference >> (8 * sizeof(Pixel) - 1)));
            residual[y][x] = difference;
            magnitude |= static_cast<Pixel>(difference ^ sign);
            any |= difference;
            above[x] = here[x];
        }
    }
    if (any == 0) return 0;
    const uint32_t width = magnitude == 0 ? 1 : 33 - static_cast<uint32_t>(__builtin_clz(magnitude));
    return code_of_width(width);
}

// Width codes of all tiles and the bytes of the whole chunk.
template <class Pixel>
inline uint64_t measure(const Pixel* pixels, const Grid& grid, uint8_t* codes) {
    Pixel residual[tile_height][tile_width];
    uint64_t bytes = header_bytes(grid) + slack_bytes;
    for (uint32_t segment = 0; segment < grid.segments; ++segment) {
        uint64_t widths = 0;
        const uint32_t first = segment * segment_rows;
        for (uint32_t row = first; row < first + rows_in_segment(grid, segment); row += tile_height) {
            for (uint32_t tile = 0; tile < grid.tiles_across; ++tile) {
                *codes = static_cast<uint8_t>(tile_residuals(pixels, grid, row, tile * tile_width, residual));
                widths += width_of_code(*codes++);
            }
        }
        bytes += table_bytes(grid, segment) + align16(tile_height * widths);
    }
    return bytes;
}

// Writes one segment and returns its end. Stores up to 16 bytes past a row: the next store overwrites them.
template <class Pixel>
inline uint8_t* pack_segment(const Pixel* pixels, const Grid& grid, uint32_t segment, const uint8_t* codes,
                             uint8_t* at) {
    uint8_t* table = at;
    uint8_t* payload = at + table_bytes(grid, segment);
    memset(table, 0, payload - table);
    uint8_t* const start = payload;
    const uint32_t first = segment * segment_rows;
    for (uint32_t row = first; row < first + rows_in_segment(grid, segment); row += tile_height) {
        for (uint32_t tile = 0; tile < grid.tiles_across; ++tile) {
            const uint32_t code = *codes++;
            table[tile >> 1] = static_cast<uint8_t>(table[tile >> 1] | code << (4 * (tile & 1)));
            if (code == 0) continue;
            Pixel residual[tile_height][tile_width] = {};
            tile_residuals(pixels, grid, row, tile * tile_width, residual);
            const uint32_t width = width_of_code(code);
            for (uint32_t y = 0; y < tile_height; ++y) {
                pack_row(residual[y], width, payload);
                payload += width;
            }
        }
        table += grid.table_row_bytes;
    }
    const uint64_t padded = align16(static_cast<uint64_t>(payload - start));
    memset(payload, 0, static_cast<size_t>(start + padded - payload));
    return start + padded;
}

PYRAD_CLONES uint64_t measure_of(const uint8_t* pixels, const Grid& grid, uint8_t* codes) {
    return measure(pixels, grid, codes);
}
PYRAD_CLONES uint64_t measure_of(const uint16_t* pixels, const Grid& grid, uint8_t* codes) {
    return measure(pixels, grid, codes);
}
PYRAD_CLONES uint8_t* pack_segment_of(const uint8_t* pixels, const Grid& grid, uint32_t segment, const uint8_t* codes,
                                      uint8_t* at) {
    return pack_segment(pixels, grid, segment, codes, at);
}
PYRAD_CLONES uint8_t* pack_segment_of(const uint16_t* pixels, const Grid& grid, uint32_t segment, const uint8_t* codes,
                                      uint8_t* at) {
    return pack_segment(pixels, grid, segment, codes, at);
}

uint64_t tiles_of(const Grid& grid) {
    return (uint64_t{grid.rows} + tile_height - 1) / tile_height * grid.tiles_across;
}

bool within_format(const Grid& grid, uint64_t bytes) { return grid.segments <= UINT16_MAX && bytes <= UINT32_MAX; }

}  // namespace

template <class Pixel>
Encoder<Pixel>::Encoder(const Pixel* image, uint32_t rows, uint32_t columns, Dtype dtype)
    : stored_(image), rows_(rows), columns_(columns), dtype_(dtype), grid_(grid_of(rows, columns, false)) {
    codes_.resize(tiles_of(grid_));
    size_ = measure_of(image, grid_, codes_.data());
    const Grid turned = grid_of(rows, columns, true);
    std::vector<uint8_t> turned_codes(tiles_of(turned));
    transposed_.resize(size_t{rows} * columns);
    transpose(image, rows, columns, transposed_.data());
    const uint64_t turned_size = measure_of(transposed_.data(), turned, turned_codes.data());
    // A transposed chunk costs its reader a pass over the image: it must save at least a sixteenth.
    const bool saves = turned_size <= size_ - size_ / 16;
    if ((saves || !within_format(grid_, size_)) && within_format(turned, turned_size)) {
        grid_ = turned;
        size_ = turned_size;
        stored_ = transposed_.data();
        codes_.swap(turned_codes);
    } else {
        transposed_ = std::vector<Pixel>();
    }
    if (!within_format(grid_, size_)) size_ = 0;
}

template <class Pixel>
void Encoder<Pixel>::write(uint8_t* chunk) const {
    uint8_t* at = chunk + header_bytes(grid_);
    memset(chunk, 0, static_cast<size_t>(at - chunk));
    chunk[0] = format_version;
    chunk[1] = mode_pack;
    chunk[2] = static_cast<uint8_t>(dtype_);
    chunk[3] = grid_.transposed ? flag_transposed : 0;
    store_le<uint32_t>(chunk + 4, rows_);
    store_le<uint32_t>(chunk + 8, columns_);
    store_le<uint16_t>(chunk + 12, segment_rows);
    store_le<uint16_t>(chunk + 14, static_cast<uint16_t>(grid_.segments));
    uint8_t* offsets = chunk + fixed_header_bytes;
    const uint8_t* codes = codes_.data();
    for (uint32_t segment = 0; segment < grid_.segments; ++segment) {
        store_le<uint32_t>(offsets + 4 * uint64_t{segment}, static_cast<uint32_t>(at - chunk));
        at = pack_segment_of(stored_, grid_, segment, codes, at);
        codes += size_t{tile_rows_in_segment(grid_, segment)} * grid_.tiles_across;
    }
    store_le<uint32_t>(offsets + 4 * uint64_t{grid_.segments}, static_cast<uint32_t>(at - chunk));
    memset(at, 0, slack_bytes);
}

template class Encoder<uint8_t>;
template class Encoder<uint16_t>;

}  // namespace pyrad

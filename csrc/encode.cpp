// Pixels -> a chunk of mode pack: measure every tile under both predictors, choose one, pack.
#include "encode.h"

#include "instructions.h"
#include "residuals.h"
#include "vectors.h"

namespace pyrad {
namespace {

using namespace tilepack;

// Width codes of all tiles, and the bytes of the whole chunk.
template <class Pixel>
inline uint64_t measure(const Pixel* pixels, const Grid& grid, uint8_t* codes) {
    Residuals<Pixel> residuals(grid);
    const Predictor predictor = grid.gradient ? Predictor::gradient : Predictor::above;
    uint64_t bytes = header_bytes(grid) + slack_bytes;
    for (uint32_t segment = 0; segment < grid.segments; ++segment) {
        uint64_t widths = 0;
        for (uint32_t i = 0; i < tile_rows_in_segment(grid, segment); ++i) {
            residuals.take(pixels, segment * segment_rows + i * tile_height, predictor);
            residuals.fold();
            for (uint32_t tile = 0; tile < grid.tiles_across; ++tile) {
                const uint32_t code = residuals.code(tile);
                widths += width_of_code(code);
                *codes++ = static_cast<uint8_t>(code);
            }
        }
        bytes += table_bytes(grid, segment) + align16(tile_height * widths);
    }
    return bytes;
}

// Writes the segments from `at` on, and their ends into `offsets`; returns the last end. A row stores up to 16 bytes
// past itself, which the next row, the padding or the slack overwrites.
template <class Set, class Pixel>
inline uint8_t* pack(const Pixel* pixels, const Grid& grid, const uint8_t* codes, uint8_t* chunk, uint8_t* offsets,
                     uint8_t* at) {
    Residuals<Pixel> residuals(grid);
    const Predictor predictor = grid.gradient ? Predictor::gradient : Predictor::above;
    for (uint32_t segment = 0; segment < grid.segments; ++segment) {
        uint8_t* table = at;
        uint8_t* const start = at + table_bytes(grid, segment);
        uint8_t* payload = start;
        memset(table, 0, static_cast<size_t>(start - table));
        for (uint32_t i = 0; i < tile_rows_in_segment(grid, segment); ++i) {
            residuals.take(pixels, segment * segment_rows + i * tile_height, predictor);
            for (uint32_t tile = 0; tile < grid.tiles_across; ++tile) {
                const uint32_t code = *codes++;
                table[tile >> 1] = static_cast<uint8_t>(table[tile >> 1] | code << (4 * (tile & 1)));
                const uint32_t width = width_of_code(code);
                for (uint32_t y = 0; y < tile_height; ++y) {
                    Set::pack_row(residuals.row(y) + size_t{tile} * tile_width, width, payload);
                    payload += width;
                }
            }
            table += grid.table_row_bytes;
        }
        at = start + align16(static_cast<uint64_t>(payload - start));
        memset(payload, 0, static_cast<size_t>(at - payload));
        store_le<uint32_t>(offsets + 4 * (uint64_t{segment} + 1), static_cast<uint32_t>(at - chunk));
    }
    return at;
}

}  // namespace

void write_header(uint8_t* chunk, const Grid& grid, Dtype dtype) {
    memset(chunk, 0, header_bytes(grid));
    chunk[0] = format_version;
    chunk[1] = static_cast<uint8_t>(grid.mode);
    chunk[2] = static_cast<uint8_t>(dtype);
    chunk[3] = grid.gradient ? flag_gradient : 0;
    store_le<uint32_t>(chunk + 4, grid.rows);
    store_le<uint32_t>(chunk + 8, grid.columns);
    store_le<uint16_t>(chunk + 12, segment_rows);
    store_le<uint16_t>(chunk + 14, static_cast<uint16_t>(grid.segments));
}

template <class Pixel>
PackEncoder<Pixel>::PackEncoder(const Pixel* pixels, uint32_t rows, uint32_t columns, Dtype dtype)
    : pixels_(pixels), dtype_(dtype), grid_(grid_of(rows, columns, Mode::pack, false)), size_(0) {
    if (grid_.segments > UINT16_MAX) return;
    const auto measured = [&](const Grid& grid, std::vector<uint8_t>& codes) {
        codes.resize((size_t{rows} + tile_height - 1) / tile_height * grid.tiles_across);
        uint64_t bytes = 0;
        run_fastest([&](auto /*tag*/) { bytes = measure(pixels, grid, codes.data()); });
        return bytes;
    };
    size_ = measured(grid_, codes_);
    const Grid gradient = grid_of(rows, columns, Mode::pack, true);
    std::vector<uint8_t> gradient_codes;
    const uint64_t gradient_size = measured(gradient, gradient_codes);
    // Sums from the left slow the reader down: they must save at least a sixteenth of the chunk.
    if (gradient_size <= size_ - size_ / 16) {
        grid_ = gradient;
        size_ = gradient_size;
        codes_.swap(gradient_codes);
    }
    if (size_ > UINT32_MAX) size_ = 0;
}

template <class Pixel>
void PackEncoder<Pixel>::write(uint8_t* chunk) const {
    write_header(chunk, grid_, dtype_);
    uint8_t* const at = chunk + header_bytes(grid_);
    uint8_t* const offsets = chunk + fixed_header_bytes;
    store_le<uint32_t>(offsets, static_cast<uint32_t>(at - chunk));
    uint8_t* end = nullptr;
    run_fastest(
        [&](auto tag) { end = pack<typename decltype(tag)::type>(pixels_, grid_, codes_.data(), chunk, offsets, at); });
    memset(end, 0, slack_bytes);
}

template class PackEncoder<uint8_t>;
template class PackEncoder<uint16_t>;

}  // namespace pyrad

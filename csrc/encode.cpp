// Pixels -> a tilepack chunk: measure every tile under both predictors, choose one, pack.
#include "encode.h"

#include <type_traits>

#include "instructions.h"
#include "vectors.h"

namespace pyrad {
namespace {

using namespace tilepack;

// Residuals of the four rows of one tile row, columns rounded up to whole tiles; cells outside the image are zero.
template <class Pixel>
class Residuals {
   public:
    explicit Residuals(const Grid& grid)
        : grid_(grid),
          stride_(size_t{grid.tiles_across} * tile_width),
          cells_(tile_height * stride_),
          zigzag_(stride_) {}

    const Pixel* row(uint32_t y) const { return cells_.data() + y * stride_; }

    // What decode_tile_row sums up, taken apart again.
    inline void take(const Pixel* pixels, uint32_t first_row) {
        const size_t columns = grid_.columns;
        for (uint32_t y = 0; y < tile_height; ++y) {
            Pixel* const out = cells_.data() + y * stride_;
            const uint32_t row = first_row + y;
            if (row >= grid_.rows) {
                memset(out, 0, stride_ * sizeof(Pixel));
                continue;
            }
            const Pixel* const here = pixels + row * columns;
            if (row % segment_rows == 0) {  // zeros stand above
                out[0] = here[0];
                for (size_t x = 1; x < columns; ++x) out[x] = static_cast<Pixel>(here[x] - here[x - 1]);
                continue;
            }
            const Pixel* const above = here - columns;
            out[0] = static_cast<Pixel>(here[0] - above[0]);
            if (grid_.gradient) {
                for (size_t x = 1; x < columns; ++x) {
                    out[x] = static_cast<Pixel>((here[x] - above[x]) - (here[x - 1] - above[x - 1]));
                }
            } else {
                for (size_t x = 1; x < columns; ++x) out[x] = static_cast<Pixel>(here[x] - above[x]);
            }
        }
    }

    // The width code that the 32 residuals of one tile need. Call fold() first.
    inline uint32_t code(uint32_t tile) const {
        uint64_t words[sizeof(Pixel)];
        memcpy(words, zigzag_.data() + size_t{tile} * tile_width, sizeof(words));
        uint64_t all = words[0] | words[sizeof(Pixel) - 1];
        for (uint32_t bits = 32; bits >= 8 * sizeof(Pixel); bits /= 2) all |= all >> bits;
        const uint32_t largest = static_cast<Pixel>(all);
        return largest == 0 ? 0 : code_of_width(32 - static_cast<uint32_t>(__builtin_clz(largest)));
    }

    // The bits that each column of four residuals needs: as many as its largest zigzag number (0, -1, 1, -2, ...) has.
    inline void fold() {
        using Signed = std::make_signed_t<Pixel>;
        const auto zigzag = [](Pixel residual) {
            const Pixel sign = static_cast<Signed>(residual) < 0 ? static_cast<Pixel>(~0u) : Pixel{0};
            return static_cast<Pixel>(static_cast<Pixel>(residual << 1) ^ sign);
        };
        const Pixel* const cells = cells_.data();
        Pixel* const out = zigzag_.data();
        for (size_t x = 0; x < stride_; ++x) {
            out[x] = static_cast<Pixel>(zigzag(cells[x]) | zigzag(cells[x + stride_]) | zigzag(cells[x + 2 * stride_]) |
                                        zigzag(cells[x + 3 * stride_]));
        }
    }

   private:
    const Grid& grid_;
    size_t stride_;
    std::vector<Pixel> cells_;
    std::vector<Pixel> zigzag_;
};

// Width codes of all tiles, and the bytes of the whole chunk.
template <class Pixel>
inline uint64_t measure(const Pixel* pixels, const Grid& grid, uint8_t* codes) {
    Residuals<Pixel> residuals(grid);
    uint64_t bytes = header_bytes(grid) + slack_bytes;
    for (uint32_t segment = 0; segment < grid.segments; ++segment) {
        uint64_t widths = 0;
        for (uint32_t i = 0; i < tile_rows_in_segment(grid, segment); ++i) {
            residuals.take(pixels, segment * segment_rows + i * tile_height);
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
    for (uint32_t segment = 0; segment < grid.segments; ++segment) {
        uint8_t* table = at;
        uint8_t* const start = at + table_bytes(grid, segment);
        uint8_t* payload = start;
        memset(table, 0, static_cast<size_t>(start - table));
        for (uint32_t i = 0; i < tile_rows_in_segment(grid, segment); ++i) {
            residuals.take(pixels, segment * segment_rows + i * tile_height);
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

template <class Pixel>
Encoder<Pixel>::Encoder(const Pixel* pixels, uint32_t rows, uint32_t columns, Dtype dtype)
    : pixels_(pixels), dtype_(dtype), grid_(grid_of(rows, columns, false)), size_(0) {
    if (grid_.segments > UINT16_MAX) return;
    const auto measured = [&](const Grid& grid, std::vector<uint8_t>& codes) {
        codes.resize((size_t{rows} + tile_height - 1) / tile_height * grid.tiles_across);
        uint64_t bytes = 0;
        run_fastest([&](auto /*tag*/) { bytes = measure(pixels, grid, codes.data()); });
        return bytes;
    };
    size_ = measured(grid_, codes_);
    const Grid gradient = grid_of(rows, columns, true);
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
void Encoder<Pixel>::write(uint8_t* chunk) const {
    uint8_t* const at = chunk + header_bytes(grid_);
    uint8_t* const offsets = chunk + fixed_header_bytes;
    memset(chunk, 0, static_cast<size_t>(at - chunk));
    chunk[0] = format_version;
    chunk[1] = mode_pack;
    chunk[2] = static_cast<uint8_t>(dtype_);
    chunk[3] = grid_.gradient ? flag_gradient : 0;
    store_le<uint32_t>(chunk + 4, grid_.rows);
    store_le<uint32_t>(chunk + 8, grid_.columns);
    store_le<uint16_t>(chunk + 12, segment_rows);
    store_le<uint16_t>(chunk + 14, static_cast<uint16_t>(grid_.segments));
    store_le<uint32_t>(offsets, static_cast<uint32_t>(at - chunk));
    uint8_t* end = nullptr;
    run_fastest(
        [&](auto tag) { end = pack<typename decltype(tag)::type>(pixels_, grid_, codes_.data(), chunk, offsets, at); });
    memset(end, 0, slack_bytes);
}

template class Encoder<uint8_t>;
template class Encoder<uint16_t>;

}  // namespace pyrad

// Pixels -> the residuals of one tile row, and their zigzag numbers.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "common.h"
#include "tilepack.h"

namespace pyrad::tilepack {

// 0, -1, 1, -2, ... -> 0, 1, 2, 3, ...
template <class Pixel>
inline Pixel zigzag(Pixel residual) {
    const Pixel sign = static_cast<std::make_signed_t<Pixel>>(residual) < 0 ? static_cast<Pixel>(~0u) : Pixel{0};
    return static_cast<Pixel>(static_cast<Pixel>(residual << 1) ^ sign);
}

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
    inline void take(const Pixel* pixels, uint32_t first_row, Predictor predictor) {
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
            take_row(here - columns, here, predictor, out);
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
        const Pixel* const cells = cells_.data();
        Pixel* const out = zigzag_.data();
        for (size_t x = 0; x < stride_; ++x) {
            out[x] = static_cast<Pixel>(zigzag(cells[x]) | zigzag(cells[x + stride_]) | zigzag(cells[x + 2 * stride_]) |
                                        zigzag(cells[x + 3 * stride_]));
        }
    }

   private:
    inline void take_row(const Pixel* above, const Pixel* here, Predictor predictor, Pixel* out) const {
        const size_t columns = grid_.columns;
        out[0] = static_cast<Pixel>(here[0] - above[0]);
        if (predictor == Predictor::above) {
            for (size_t x = 1; x < columns; ++x) out[x] = static_cast<Pixel>(here[x] - above[x]);
        } else if (predictor == Predictor::gradient) {
            for (size_t x = 1; x < columns; ++x) {
                out[x] = static_cast<Pixel>((here[x] - above[x]) - (here[x - 1] - above[x - 1]));
            }
        } else {
            using Signed = std::make_signed_t<Pixel>;
            for (size_t x = 1; x < columns; ++x) {
                const auto d_left = static_cast<Signed>(here[x - 1] - above[x - 1]);
                const auto v = static_cast<Signed>(above[x] - above[x - 1]);
                const int most = std::max<int>(std::max(d_left, v), 0);
                const int least = std::min<int>(std::min(d_left, v), 0);
                out[x] = static_cast<Pixel>(here[x] - above[x - 1] - most - least);
            }
        }
    }

    const Grid& grid_;
    size_t stride_;
    std::vector<Pixel> cells_;
    std::vector<Pixel> zigzag_;
};

}  // namespace pyrad::tilepack

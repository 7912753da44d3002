// An image on a grid -> the same turned and sheared: each output pixel is one bilinear sample of the grid. The second
// stage of a record that is `turned`; the first draws the grid as the resize draws any output.
//
// Note [turn]
// Output pixel (u, v) lies at grid pixel (x, y) = (m00 u + m01 v + m02, m10 u + m11 v + m12), in double, whole numbers
// the middles of pixels on both sides: x = fma(m00, u, fma(m01, v, m02 + border)). Outside the grid is y = 0, as the
// bars of a letterbox are; the grid has a border of zeros, and places beyond it are moved onto it, so that four pixels
// can always be read and none is asked about. Between them, in float32: fma(f, right - left, left) on both rows, then
// the same between the rows. Where a place is a pixel's middle the result is that pixel, to the bit.
#pragma once

#include <cmath>

#include "preprocess.h"

namespace pyrad {

constexpr uint32_t border = 1;         // above and to the left of a grid, of zeros
constexpr uint32_t both_borders = 3;   // below and to the right are two: of four pixels the last may lie there
constexpr uint32_t turned_growth = 4;  // a grid's sides are at most so many times the output's mean side

// (rows, columns) with their borders; pixel (x, y) at [(y + border) * stride + x + border].
struct Grid {
    const float* pixels;
    uint32_t rows;
    uint32_t columns;
    size_t stride;
};

// Elements of a grid with its borders.
PYRAD_HD inline size_t grid_size(const Record& r) {
    return (size_t{r.dst_h} + both_borders) * (size_t{r.dst_w} + both_borders);
}

PYRAD_HD inline double clamp_place(double x, double most) {
    const double above = x > 0.0 ? x : 0.0;  // a NaN becomes 0
    return above < most ? above : most;
}

// The sample at a place, counted from the border's corner.
PYRAD_HD inline float bilinear(const Grid& grid, double x, double y) {
    const auto left = static_cast<uint32_t>(x);
    const auto top = static_cast<uint32_t>(y);
    const auto across = static_cast<float>(x - left);
    const auto down = static_cast<float>(y - top);
    const float* const upper = grid.pixels + top * grid.stride + left;
    const float* const lower = upper + grid.stride;
    const float above = fmaf(across, upper[1] - upper[0], upper[0]);
    const float below = fmaf(across, lower[1] - lower[0], lower[0]);
    return fmaf(down, below - above, above);
}

// Row v of the output.
inline void turn_row(const Grid& grid, const double (&m)[2][3], uint32_t v, uint32_t width, float* __restrict out) {
    const double x = fma(m[0][1], v, m[0][2] + border);
    const double y = fma(m[1][1], v, m[1][2] + border);
    const double most_x = grid.columns + border;
    const double most_y = grid.rows + border;
    for (uint32_t u = 0; u < width; ++u) {
        out[u] = bilinear(grid, clamp_place(fma(m[0][0], u, x), most_x), clamp_place(fma(m[1][0], u, y), most_y));
    }
}

}  // namespace pyrad

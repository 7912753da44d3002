// One axis of an antialiased resize: output pixel -> the source pixels (taps) that it averages, and their weights.
//
// The filter is the triangle of Pillow's BILINEAR with `box=` (and of torch's interpolate with antialias): as wide as
// an output pixel where the image shrinks, as a source pixel where it grows. Taps are clipped to the image, not to the
// box. Everything is double until a weight is rounded to float32, once, after the normalisation.
//
// Note [summation order]
// An output is summed in ascending order of its taps in the source, also where the image is flipped: w[0] * v[0], then
// sum = fma(w[k], v[k], sum). Rows first (the vertical pass), then columns. A tap of weight 0 changes no bit of a sum
// of values >= 0, so drivers may add such taps to give every output equally many.
#pragma once

#include "common.h"

namespace pyrad {

// `out` pixels that cover the source coordinates low..high of an axis of `size` pixels; pixel i covers i..i+1.
struct Axis {
    double low;
    double high;
    uint32_t size;
    uint32_t out;
};

struct Taps {
    uint32_t first;
    uint32_t count;
};

PYRAD_HD inline double axis_scale(const Axis& axis) { return (axis.high - axis.low) / axis.out; }

PYRAD_HD inline double axis_support(const Axis& axis) {
    const double scale = axis_scale(axis);
    return scale < 1.0 ? 1.0 : scale;
}

PYRAD_HD inline double axis_center(const Axis& axis, uint32_t i) { return axis.low + (i + 0.5) * axis_scale(axis); }

// Unnormalised weight of source pixel `j` in an output pixel whose centre lies at `center`.
PYRAD_HD inline double triangle(double center, double support, uint32_t j) {
    const double x = (j - center + 0.5) / support;
    const double distance = x < 0.0 ? -x : x;
    return distance < 1.0 ? 1.0 - distance : 0.0;
}

// The taps of output pixel i that have a weight; at least one, the source pixel its centre lies in. Both ends grow
// with i.
PYRAD_HD inline Taps taps_of(const Axis& axis, uint32_t i) {
    const double center = axis_center(axis, i);
    const double support = axis_support(axis);
    const double low = center - support + 0.5;
    const double high = center + support + 0.5;
    uint32_t first = low > 0.0 ? static_cast<uint32_t>(low) : 0;
    uint32_t end = high < axis.size ? static_cast<uint32_t>(high) : axis.size;
    while (end - first > 1 && triangle(center, support, first) == 0.0) ++first;
    while (end - first > 1 && triangle(center, support, end - 1) == 0.0) --end;
    return {first, end - first};
}

PYRAD_HD inline void tap_weights(const Axis& axis, uint32_t i, Taps taps, float* weights) {
    const double center = axis_center(axis, i);
    const double support = axis_support(axis);
    double sum = 0.0;
    for (uint32_t k = 0; k < taps.count; ++k) sum += triangle(center, support, taps.first + k);
    for (uint32_t k = 0; k < taps.count; ++k) {
        weights[k] = static_cast<float>(triangle(center, support, taps.first + k) / sum);
    }
}

// No output pixel has more taps.
PYRAD_HD inline uint32_t most_taps(const Axis& axis) {
    const double bound = 2.0 * axis_support(axis) + 1.0;
    return bound < axis.size ? static_cast<uint32_t>(bound) : axis.size;
}

}  // namespace pyrad

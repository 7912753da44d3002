// Stored value -> y in [0, 1]: rescale and VOI window in one step, or lookup tables; MONOCHROME1, padding. float32,
// host and device.
//
// Note [s_ref]
// Rescale and window are one affine step of the stored value s. Written as a*s + b it cancels: a CR's window may be 100
// wide at 30,000. So the step is a*(s - s_ref) + b, s_ref a stored value near the window's centre: the difference is
// exact in integers and in float32, and b is small wherever the result is not clamped. pyrad/voi.py (window_params)
// computes a and b in double from slope, intercept, centre and width, and rounds them to float32.
//
// Note [clip]
// Most ramps run from one whole stored value to another: CT's do, percentiles do, 0 to 255 does. Then s is clamped to
// them as the integer it is, and counted from the black end, s_ref, in the direction of a: 0 to `span`. What is resized
// is the count, and the division by `span` is left for the normalisation of what was resized.
//
// Note [lookup tables]
// A Modality LUT takes the place of the rescale: stored value -> modality value, both integers. A VOI LUT takes the
// place of the window: modality value -> entry, and y is the entry's share of the greatest. What a VOI LUT looks up is
// an integer too: a rescale before it is folded into its table, or its first value, by pyrad/loader/luts.py. So tables
// are exact, whatever the processor.
#pragma once

#include <cmath>

#include "common.h"

namespace pyrad {

// What becomes of t = a * (s - s_ref) + b; or, last, of s itself.
enum class Voi : uint8_t {
    ramp = 0,       // LINEAR and LINEAR_EXACT: t clamped to [0, 1]         PS3.3 C.11.2.1.2.1, C.11.2.1.3.2
    threshold = 1,  // LINEAR of width 1: 1 where t > 0, else 0             PS3.3 C.11.2.1.2.1
    sigmoid = 2,    // SIGMOID: 1 / (1 + exp(-t)), t = 4 * (x - c) / w      PS3.3 C.11.2.1.3.1
    table = 3,      // the VOI LUT's entry of s, over its greatest, a       PS3.3 C.11.2.1.1
    clip = 4,       // LINEAR and LINEAR_EXACT between stored values: Note [clip]
};

// `first` becomes entries[0], the next value entries[1]; a value outside takes the nearest end. No entries: no table.
struct Lut {
    const uint16_t* entries;
    uint32_t count;
    int32_t first;
};

struct Luts {
    Lut modality;
    Lut voi;
};

struct WindowParams {
    int32_t s_ref;
    float a;     // a stored step's share of the ramp; of a threshold or clip its sign alone; of a table the greatest
    float b;     // t at s_ref
    float sign;  // y becomes sign * y + lift: 1 and 0, or -1 and 1 for MONOCHROME1 (1 - y, to the bit)
    float lift;
    int32_t span;     // of a clip: the count at the white end
    int32_t pad_low;  // padding, inclusive, stored values; used where the caller says there is any
    int32_t pad_high;
};

// What an image is seen through.
struct Window {
    Voi voi;
    WindowParams params;
    Luts luts;
};

constexpr int32_t largest_s_ref = 1 << 17;  // |s - s_ref| stays below 2^18: exact in float32

PYRAD_HD inline int32_t look_up(const Lut& lut, int32_t x) {
    const int32_t last = static_cast<int32_t>(lut.count) - 1;
    const int32_t at = x - lut.first;  // both stay below 2^18
    return lut.entries[at < 0 ? 0 : at > last ? last : at];
}

PYRAD_HD inline float clamp(float x, float low, float high) {
    const float above = x > low ? x : low;  // a NaN becomes `low`
    return above < high ? above : high;
}

// exp of |x| <= 80: 2^n * exp(r), n the integer nearest to x / ln 2. The Taylor polynomial of degree 7 errs by less
// than 6e-9 of exp(r) on |r| <= ln(2) / 2, a tenth of a float32 step. ln 2 is subtracted in two parts, the first short
// enough that n times it is exact (W. J. Cody and W. Waite, Software Manual for the Elementary Functions, 1980).
PYRAD_HD inline float exp_float32(float x) {
    const float round_to_integer = 12582912.0f;  // 1.5 * 2^23: adding it drops the fraction, to nearest even
    const float n = fmaf(x, 1.44269504f, round_to_integer) - round_to_integer;
    float r = fmaf(n, -0.693359375f, x);
    r = fmaf(n, 2.12194440e-4f, r);
    float p = 1.0f / 5040;
    p = fmaf(p, r, 1.0f / 720);
    p = fmaf(p, r, 1.0f / 120);
    p = fmaf(p, r, 1.0f / 24);
    p = fmaf(p, r, 1.0f / 6);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    const int32_t bits = (static_cast<int32_t>(n) + 127) * (1 << 23);  // 2^n; |n| <= 116, so it is a normal number
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

template <Voi voi>
PYRAD_HD inline float apply_voi(float t) {
    if constexpr (voi == Voi::ramp) return clamp(t, 0.0f, 1.0f);
    if constexpr (voi == Voi::threshold) return t > 0.0f ? 1.0f : 0.0f;
    return 1.0f / (1.0f + exp_float32(-clamp(t, -80.0f, 80.0f)));
}

template <Voi voi>
PYRAD_HD inline float apply_window(int32_t x, const WindowParams& window) {
    if constexpr (voi == Voi::clip) {
        const int32_t steps = window.a > 0.0f ? x - window.s_ref : window.s_ref - x;
        return static_cast<float>(steps < 0 ? 0 : steps < window.span ? steps : window.span);
    }
    return apply_voi<voi>(fmaf(static_cast<float>(x - window.s_ref), window.a, window.b));
}

// MONOCHROME1 is inverted after the VOI, and padding is background, 0, in both polarities (PS3.3 C.7.6.3.1.2,
// C.7.5.1.1.2).
template <bool padded>
PYRAD_HD inline float seen(float y, int32_t stored, const WindowParams& window) {
    const float polar = fmaf(y, window.sign, window.lift);
    if constexpr (!padded) return polar;
    return ((stored >= window.pad_low) & (stored <= window.pad_high)) ? 0.0f : polar;
}

template <Voi voi, bool padded>
PYRAD_HD inline float windowed(int32_t stored, const WindowParams& window) {
    return seen<padded>(apply_window<voi>(stored, window), stored, window);
}

// The same through lookup tables: Note [lookup tables]. Padding is always looked for: none is pad_low > pad_high.
template <Voi voi>
PYRAD_HD inline float tabled(int32_t stored, const WindowParams& window, const Luts& luts) {
    const int32_t x = luts.modality.count != 0 ? look_up(luts.modality, stored) : stored;
    if constexpr (voi == Voi::table) {
        const float share = static_cast<float>(look_up(luts.voi, x)) / window.a;
        return seen<true>(clamp(share, 0.0f, 1.0f), stored, window);
    } else {
        return seen<true>(apply_window<voi>(x, window), stored, window);
    }
}

}  // namespace pyrad

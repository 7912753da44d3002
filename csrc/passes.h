// The passes over rows that the CPU makes: plain loops around window.h and resize.h that a compiler vectorises.
//
// stored row -> window_row -> y; rows of y -> weighted_sum (vertical) -> to_columns -> resize_columns -> to_rows ->
// store_row -> normalised samples.
#pragma once

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "preprocess.h"
#include "scratch.h"
#include "window.h"

namespace pyrad {

constexpr uint32_t most_unrolled = 8;  // taps whose sum stays in a register

template <class Set, class Pixel, Voi voi>
inline void window_row(const uint8_t* __restrict stored, uint32_t width, const WindowParams window,
                       float* __restrict out) {
    uint32_t x = 0;
    if constexpr (voi == Voi::ramp) x = Set::template ramp_row<Pixel>(stored, width, window, out);
    for (; x < width; ++x) {
        out[x] = apply_window<voi>(load_le<Pixel>(stored + x * sizeof(Pixel)), window);
    }
}

// What `seen` does after the window, where there is something to do.
template <class Pixel>
inline void polarise_row(const Record& r, const uint8_t* __restrict stored, uint32_t width, const WindowParams window,
                         float* __restrict y) {
    if (r.padded != 0) {
        for (uint32_t x = 0; x < width; ++x) {
            y[x] = seen<true>(y[x], load_le<Pixel>(stored + x * sizeof(Pixel)), window);
        }
    } else if (r.invert != 0) {
        for (uint32_t x = 0; x < width; ++x) y[x] = seen<false>(y[x], 0, window);
    }
}

template <class Pixel, Voi voi>
inline void table_row(const uint8_t* __restrict stored, uint32_t width, const WindowParams window, const Luts luts,
                      float* __restrict out) {
    for (uint32_t x = 0; x < width; ++x) {
        out[x] = tabled<voi>(load_le<Pixel>(stored + x * sizeof(Pixel)), window, luts);
    }
}

template <class Pixel>
inline void table_row(Voi voi, const uint8_t* stored, uint32_t width, const WindowParams& window, const Luts& luts,
                      float* out) {
    switch (voi) {
        case Voi::ramp:
            return table_row<Pixel, Voi::ramp>(stored, width, window, luts, out);
        case Voi::threshold:
            return table_row<Pixel, Voi::threshold>(stored, width, window, luts, out);
        case Voi::sigmoid:
            return table_row<Pixel, Voi::sigmoid>(stored, width, window, luts, out);
        case Voi::table:
            return table_row<Pixel, Voi::table>(stored, width, window, luts, out);
    }
}

template <class Set, class Pixel>
inline void window_row(const Record& r, const uint8_t* stored, uint32_t width, const WindowParams& window,
                       const Luts& luts, float* out) {
    if (luts.modality.count + luts.voi.count != 0) {
        return table_row<Pixel>(static_cast<Voi>(r.voi), stored, width, window, luts, out);
    }
    const auto run = [&](auto voi) {
        window_row<Set, Pixel, voi.value>(stored, width, window, out);
        polarise_row<Pixel>(r, stored, width, window, out);
    };
    switch (static_cast<Voi>(r.voi)) {
        case Voi::ramp:
            return run(std::integral_constant<Voi, Voi::ramp>{});
        case Voi::threshold:
            return run(std::integral_constant<Voi, Voi::threshold>{});
        case Voi::sigmoid:
            return run(std::integral_constant<Voi, Voi::sigmoid>{});
        case Voi::table:
            return;  // never without a table: is_sane in preprocess.cpp
    }
}

// --- Weighted sums: Note [summation order] in resize.h ---

// out[x] = sum over k < taps of w[k] * row(k)[x]; where not `first`, added to what stands in `out`.
template <uint32_t taps, bool first, class Row>
inline void sum_taps(const float* w, const Row& row, uint32_t width, float* __restrict out) {
    const float* v[taps];
    for (uint32_t k = 0; k < taps; ++k) v[k] = row(k);
    for (uint32_t x = 0; x < width; ++x) {
        float sum = first ? w[0] * v[0][x] : fmaf(w[0], v[0][x], out[x]);
#pragma GCC unroll 8
        for (uint32_t k = 1; k < taps; ++k) sum = fmaf(w[k], v[k][x], sum);
        out[x] = sum;
    }
}

// Calls body with `taps` as a constant, 1 to most_unrolled.
template <class Body, uint32_t n = most_unrolled>
inline void with_taps(uint32_t taps, const Body& body) {
    if (taps == n) {
        body(std::integral_constant<uint32_t, n>{});
    } else if constexpr (n > 1) {
        with_taps<Body, n - 1>(taps, body);
    }
}

template <class Row>
inline void weighted_sum(const float* w, uint32_t count, const Row& row, uint32_t width, float* out) {
    const uint32_t at_first = std::min(count, most_unrolled);
    with_taps(at_first, [&](auto taps) { sum_taps<taps.value, true>(w, row, width, out); });
    for (uint32_t k = at_first; k < count; k += most_unrolled) {
        const auto later = [&](uint32_t j) { return row(k + j); };
        with_taps(std::min(count - k, most_unrolled),
                  [&](auto taps) { sum_taps<taps.value, false>(w + k, later, width, out); });
    }
}

// `lanes` rows, `stride` apart -> column after column, and back.
template <class Set>
inline void to_columns(const float* __restrict rows, size_t stride, uint32_t width, float* __restrict columns) {
    uint32_t x = 0;
    for (; x + lanes <= width; x += lanes) Set::transpose(rows + x, stride, columns + x * lanes, lanes);
    for (; x < width; ++x) {
        for (uint32_t lane = 0; lane < lanes; ++lane) columns[x * lanes + lane] = rows[lane * stride + x];
    }
}

template <class Set>
inline void to_rows(const float* __restrict columns, uint32_t width, float* __restrict rows, size_t stride) {
    uint32_t x = 0;
    for (; x + lanes <= width; x += lanes) Set::transpose(columns + x * lanes, lanes, rows + x, stride);
    for (; x < width; ++x) {
        for (uint32_t lane = 0; lane < lanes; ++lane) rows[lane * stride + x] = columns[x * lanes + lane];
    }
}

inline void resize_columns(const TapTable& table, uint32_t width, const float* across, float* out) {
    if (table.count() <= most_unrolled) {
        with_taps(table.count(), [&](auto taps) {
            for (uint32_t x = 0; x < width; ++x) {
                const float* from = across + size_t{table.first(x) - table.begin()} * lanes;
                const auto tap = [&](uint32_t k) { return from + size_t{k} * lanes; };
                sum_taps<taps.value, true>(table.weights(x), tap, lanes, out + size_t{x} * lanes);
            }
        });
        return;
    }
    for (uint32_t x = 0; x < width; ++x) {
        const float* from = across + size_t{table.first(x) - table.begin()} * lanes;
        const auto tap = [&](uint32_t k) { return from + size_t{k} * lanes; };
        weighted_sum(table.weights(x), table.count(), tap, lanes, out + size_t{x} * lanes);
    }
}

// --- Normalised rows into the output ---

inline float as_sample(float value, float /*type*/) { return value; }
inline Bfloat16 as_sample(float value, Bfloat16 /*type*/) { return {bfloat16_bits(value)}; }
inline Float16 as_sample(float value, Float16 /*type*/) { return {float16_bits(value)}; }

template <class Set, class Sample>
inline void store_row(const float* __restrict y, uint32_t width, float scale, float shift, Sample* __restrict out,
                      size_t step) {
    uint32_t x = 0;
    if constexpr (std::is_same_v<Sample, Float16>) x = Set::float16_row(y, width, scale, shift, out, step);
    if (step == 1) {
        for (; x < width; ++x) out[x] = as_sample(fmaf(y[x], scale, shift), Sample{});
    } else {
        for (; x < width; ++x) out[x * step] = as_sample(fmaf(y[x], scale, shift), Sample{});
    }
}

}  // namespace pyrad

// The passes over rows that the CPU makes: plain loops around window.h and resize.h that a compiler vectorises.
//
// stored row -> window_row -> y; rows of y -> resize_rows -> transpose_tiles -> resize_columns -> transpose_tiles ->
// store_tiles -> normalised samples.
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
    if constexpr (voi == Voi::clip) x = Set::template clip_row<Pixel>(stored, width, window, out);
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
    } else if (window.sign < 0.0f) {
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
        case Voi::clip:
            return table_row<Pixel, Voi::clip>(stored, width, window, luts, out);
    }
}

template <class Set, class Pixel>
inline void window_row(const Record& r, const uint8_t* stored, uint32_t width, const Window& window, float* out) {
    if (window.luts.modality.count + window.luts.voi.count != 0) {
        return table_row<Pixel>(window.voi, stored, width, window.params, window.luts, out);
    }
    const auto run = [&](auto voi) {
        window_row<Set, Pixel, voi.value>(stored, width, window.params, out);
        polarise_row<Pixel>(r, stored, width, window.params, out);
    };
    switch (window.voi) {
        case Voi::ramp:
            return run(std::integral_constant<Voi, Voi::ramp>{});
        case Voi::threshold:
            return run(std::integral_constant<Voi, Voi::threshold>{});
        case Voi::sigmoid:
            return run(std::integral_constant<Voi, Voi::sigmoid>{});
        case Voi::clip:
            return run(std::integral_constant<Voi, Voi::clip>{});
        case Voi::table:
            return;  // never without a table: is_sane in preprocess.cpp
    }
}

// --- Weighted sums: Note [summation order] in resize.h ---
//
// Note [tiles]
// Between the passes pixels lie in tiles of 8 x 8, one after the other, each transposed in place: row after row for the
// vertical pass and for the output, column after column for the horizontal one, where its eight lanes are eight rows.

// out[i] = sum over k < taps of w[k] * row(k)[i], a lane each; where not `first`, added to what stands in `out`.
template <uint32_t taps, bool first, class Row>
inline void sum_taps(const float* w, const Row& row, float* __restrict out) {
    for (uint32_t i = 0; i < lanes; ++i) {
        float sum = first ? w[0] * row(0)[i] : fmaf(w[0], row(0)[i], out[i]);
#pragma GCC unroll 8
        for (uint32_t k = 1; k < taps; ++k) sum = fmaf(w[k], row(k)[i], sum);
        out[i] = sum;
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

// Calls body(taps, first, k): so many taps as a constant, the first of them k, until it has had all.
template <class Body>
inline void in_parts(uint32_t count, const Body& body) {
    const uint32_t at_first = std::min(count, most_unrolled);
    with_taps(at_first, [&](auto taps) { body(taps, std::true_type{}, 0); });
    for (uint32_t k = at_first; k < count; k += most_unrolled) {
        with_taps(std::min(count - k, most_unrolled), [&](auto taps) { body(taps, std::false_type{}, k); });
    }
}

// A row of the tiles at `out` from rows of the source: Note [tiles].
template <class Row>
inline void resize_rows(const float* w, uint32_t count, const Row& row, uint32_t width, float* __restrict out) {
    in_parts(count, [&](auto taps, auto first, uint32_t k) {
        float weights[taps.value];
        const float* rows[taps.value];
        for (uint32_t j = 0; j < taps.value; ++j) {
            weights[j] = w[k + j];
            rows[j] = row(k + j);
        }
        for (uint32_t x = 0; x < width; x += lanes) {
            sum_taps<taps.value, first.value>(
                weights, [&](uint32_t j) { return rows[j] + x; }, out + size_t{x} * lanes);
        }
    });
}

template <class Set>
inline void transpose_tiles(float* tiles, uint32_t width) {
    for (uint32_t x = 0; x < width; x += lanes) Set::transpose(tiles + size_t{x} * lanes);
}

inline void resize_columns(const TapTable& table, uint32_t width, const float* across, float* out) {
    in_parts(table.count(), [&](auto taps, auto first, uint32_t k) {
        for (uint32_t x = 0; x < width; ++x) {
            const float* from = across + size_t{table.first(x) - table.begin() + k} * lanes;
            sum_taps<taps.value, first.value>(
                table.weights(x) + k, [&](uint32_t j) { return from + size_t{j} * lanes; }, out + size_t{x} * lanes);
        }
    });
}

// --- Normalised rows into the output ---

inline float as_sample(float value, float /*type*/) { return value; }
inline Bfloat16 as_sample(float value, Bfloat16 /*type*/) { return {bfloat16_bits(value)}; }
inline Float16 as_sample(float value, Float16 /*type*/) { return {float16_bits(value)}; }

template <class Set, class Sample>
inline void store_row(const float* __restrict y, uint32_t width, float scale, float shift, Sample* __restrict out,
                      size_t step) {
    for (uint32_t x = Set::sample_row(y, width, scale, shift, out, step); x < width; ++x)
        out[x * step] = as_sample(fmaf(y[x], scale, shift), Sample{});
}

// The first `rows` rows of the tiles into rows of the output, `stride` samples apart.
template <class Set, class Sample>
inline void store_tiles(const float* __restrict tiles, uint32_t rows, uint32_t width, float scale, float shift,
                        Sample* __restrict out, ptrdiff_t stride, size_t step) {
    uint32_t x = 0;
    for (; step == 1 && x + lanes <= width; x += lanes) {
        for (uint32_t row = 0; row < rows; ++row) {
            store_row<Set>(tiles + (size_t{x} + row) * lanes, lanes, scale, shift, out + row * stride + x, 1);
        }
    }
    for (; x < width; x += lanes) {
        for (uint32_t row = 0; row < rows; ++row) {
            store_row<Set>(tiles + (size_t{x} + row) * lanes, std::min(lanes, width - x), scale, shift,
                           out + row * stride + x * step, step);
        }
    }
}

}  // namespace pyrad

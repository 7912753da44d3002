// Finished rows of y -> the samples of one image of the batch, normalised.
#pragma once

#include "passes.h"

namespace pyrad {

struct Image {
    const Output& output;
    void* pixels;

    // Calls body(first, step): the channel's samples, of the output's type, are first[0], first[step] and so on.
    template <class Body>
    inline void visit(uint32_t channel, const Body& body) const {
        const size_t step = output.channels_last ? output.channels : 1;
        const size_t first = output.channels_last ? channel : channel * area();
        switch (output.sample) {
            case Sample::float32:
                return body(static_cast<float*>(pixels) + first, step);
            case Sample::bfloat16:
                return body(static_cast<Bfloat16*>(pixels) + first, step);
            case Sample::float16:
                return body(static_cast<Float16*>(pixels) + first, step);
        }
    }

    size_t area() const { return size_t{output.rows} * output.columns; }
    size_t bytes() const { return output.channels * area() * bytes_per_sample(output.sample); }

    // The first `rows` rows of tiles, the upper left corner at (y, x); `up`: the first of them the lowest.
    template <class Set>
    inline void store(const float* tiles, uint32_t rows, uint32_t width, uint32_t y, uint32_t x, bool up,
                      uint32_t channel, float scale) const {
        visit(channel, [&](auto* first, size_t step) {
            const auto stride = static_cast<ptrdiff_t>(output.columns * step);
            const size_t corner = (size_t{up ? y + rows - 1 : y} * output.columns + x) * step;
            store_tiles<Set>(tiles, rows, width, scale, output.shift[channel], first + corner, up ? -stride : stride,
                             step);
        });
    }

    // A whole row.
    template <class Set>
    inline void store_line(const float* line, uint32_t y, uint32_t channel, float scale) const {
        visit(channel, [&](auto* first, size_t step) {
            store_row<Set>(line, output.columns, scale, output.shift[channel],
                           first + size_t{y} * output.columns * step, step);
        });
    }

    // What y = 0 looks like, where a letterbox shows it.
    inline void fill_background(uint32_t channel) const {
        visit(channel, [&](auto* first, size_t step) {
            const float background = fmaf(0.0f, output.scale[channel], output.shift[channel]);
            const auto sample = as_sample(background, *first);
            for (size_t i = 0; i < area(); ++i) first[i * step] = sample;
        });
    }
};

}  // namespace pyrad

// rows x columns -> columns x rows, block by block so that both sides stay in the cache.
#pragma once

#include "common.h"

namespace pyrad {

template <class Pixel>
inline void transpose(const Pixel* in, uint32_t rows, uint32_t columns, Pixel* out) {
    constexpr uint32_t block = 16;
    for (uint32_t row = 0; row < rows; row += block) {
        const uint32_t row_end = rows - row < block ? rows : row + block;
        for (uint32_t column = 0; column < columns; column += block) {
            const uint32_t column_end = columns - column < block ? columns : column + block;
            for (uint32_t x = column; x < column_end; ++x) {
                for (uint32_t y = row; y < row_end; ++y) out[size_t{x} * rows + y] = in[size_t{y} * columns + x];
            }
        }
    }
}

}  // namespace pyrad

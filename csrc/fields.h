// Codes of tiles -> the operands by which vector instructions take their fields apart.
#pragma once

#include "common.h"
#include "tilepack.h"

namespace pyrad {

// How the eight fields of one width become eight lanes: each lane is brought the two bytes its field lies in (0x80
// brings a zero), `left` drops the bits above the field, `right` those below, with the sign.
struct alignas(16) FieldLayout {
    uint8_t shuffle[16];
    int16_t left[tilepack::tile_width];
    int16_t right[tilepack::tile_width];
};

struct FieldLayouts {
    FieldLayout of_code[16];
};

// `Set::left(width, bit)` and `Set::right(width)` are the operands that a set's `spread` and `join` take.
template <class Set>
constexpr FieldLayouts make_field_layouts(const tilepack::Codes& codes) {
    FieldLayouts layouts{};
    for (uint32_t code = 0; code < 16; ++code) {
        const uint32_t width = codes.width[code];
        for (uint32_t field = 0; field < tilepack::tile_width; ++field) {
            const uint32_t byte = field * width / 8;
            const uint32_t bit = field * width % 8;
            FieldLayout& layout = layouts.of_code[code];
            layout.shuffle[2 * field] = static_cast<uint8_t>(width == 0 ? 0x80 : byte);
            layout.shuffle[2 * field + 1] = static_cast<uint8_t>(bit + width > 8 ? byte + 1 : 0x80);
            layout.left[field] = Set::left(width == 0 ? 16 : width, width == 0 ? 0 : bit);
            layout.right[field] = Set::right(width);
        }
    }
    return layouts;
}

// Of mode pack, and of the others.
template <class Set>
inline constexpr FieldLayouts field_layouts = make_field_layouts<Set>(tilepack::all_codes[0][1]);
template <class Set>
inline constexpr FieldLayouts low_layouts = make_field_layouts<Set>(tilepack::all_codes[1][1]);

}  // namespace pyrad

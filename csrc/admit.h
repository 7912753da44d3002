// A caller's record of an image -> whether it is possible: nothing of it is trusted.
#pragma once

#include "preprocess.h"
#include "turn.h"
#include "window.h"

namespace pyrad {

constexpr uint32_t crc_bytes = 4;          // at the end of a chunk
constexpr int32_t largest_span = 65535;    // of a clip
constexpr uint32_t largest_lut = 1 << 17;  // entries: as many as there are values in 16 bits, signed and unsigned
constexpr uint64_t pixels_a_byte = 64;  // no tilepack chunk holds more: 32 pixels cost at least the 4 bits of a width

inline bool is_clip(const Record& r, uint32_t w) { return r.voi[w] == static_cast<uint8_t>(Voi::clip); }

inline bool is_finite(double value) { return value - value == 0.0; }

inline bool is_sane(const LutRange& lut, uint64_t entries) {
    return lut.count == 0 || (lut.at <= entries && lut.count <= entries - lut.at && lut.count <= largest_lut &&
                              lut.first >= -largest_s_ref && lut.first <= largest_s_ref);
}

inline bool is_sane_window(const Record& r, uint32_t w, uint64_t lut_entries) {
    const bool by_table = r.voi[w] == static_cast<uint8_t>(Voi::table);
    return r.s_ref[w] >= -largest_s_ref && r.s_ref[w] <= largest_s_ref && is_finite(r.a[w]) && is_finite(r.b[w]) &&
           r.voi[w] <= static_cast<uint8_t>(Voi::clip) &&
           (!is_clip(r, w) || (r.span[w] >= 1 && r.span[w] <= largest_span)) && is_sane(r.voi_lut[w], lut_entries) &&
           by_table == (r.voi_lut[w].count != 0) && (!by_table || r.a[w] >= 1.0f);
}

inline bool is_sane_destination(const Record& r, const Output& out) {
    return r.dst_w >= 1 && r.dst_h >= 1 && r.dst_w <= out.columns && r.dst_h <= out.rows &&
           r.dst_x <= out.columns - r.dst_w && r.dst_y <= out.rows - r.dst_h;
}

inline bool is_sane_grid(const Record& r, const Output& out) {
    bool finite = true;
    for (const auto& axis : r.turn) {
        for (const double value : axis) finite = finite && is_finite(value);
    }
    const uint32_t most = turned_growth * (out.columns + out.rows) / 2;
    return finite && r.dst_w >= 1 && r.dst_h >= 1 && r.dst_w <= most && r.dst_h <= most;
}

inline bool is_sane(const Record& r, const Output& out, uint64_t lut_entries) {
    const bool image = r.rows >= 1 && r.rows <= largest_side && r.columns >= 1 && r.columns <= largest_side &&
                       is_dtype(r.dtype) && (r.planes == 1 || (r.planes == most_planes && out.channels == most_planes));
    const bool box = r.x0 >= 0 && r.x0 < r.x1 && r.x1 <= r.columns && r.y0 >= 0 && r.y0 < r.y1 && r.y1 <= r.rows;
    bool windows = is_sane(r.modality_lut, lut_entries) &&
                   (r.windows == 1 || (r.windows == most_windows && r.planes == 1 && out.channels == most_windows));
    for (uint32_t w = 0; windows && w < r.windows; ++w) windows = is_sane_window(r, w, lut_entries);
    return image && box && windows && (r.turned != 0 ? is_sane_grid(r, out) : is_sane_destination(r, out)) &&
           r.codec <= static_cast<uint8_t>(Codec::tilepack);
}

constexpr int32_t no_file = -1;

inline int32_t file_of(const Input& input, size_t image) {
    return input.files == nullptr ? no_file : input.files[image];
}

// More than any chunk of the image has, of any codec: what may be claimed of a file and had as memory.
inline uint64_t most_chunk_bytes(const Record& r) {
    return 2 * uint64_t{r.rows + 7} * (r.columns + 7) * bytes_per_pixel(static_cast<Dtype>(r.dtype)) + 4096;
}

// Sizes only: what decides how much memory the image takes.
inline Status admit(const Record& r, const Output& out, const Input& input, size_t image) {
    if (!is_sane(r, out, input.lut_count)) return Status::record;
    const uint64_t pixels = uint64_t{r.rows} * r.columns;
    for (uint32_t plane = 0; plane < r.planes; ++plane) {
        const uint64_t offset = r.chunk_offset[plane];
        const uint64_t size = r.chunk_size[plane];
        const uint64_t trailer = r.crc != 0 ? crc_bytes : 0;
        const bool held = file_of(input, image) < 0 ? offset <= input.slab_bytes && size <= input.slab_bytes - offset
                                                    : size <= most_chunk_bytes(r);
        if (!held || size < trailer) return Status::bounds;
        const uint64_t payload = size - trailer;
        const bool fits = r.codec == static_cast<uint8_t>(Codec::raw)
                              ? payload == pixels * bytes_per_pixel(static_cast<Dtype>(r.dtype))
                              : pixels / pixels_a_byte <= payload;
        if (!fits) return Status::bounds;
    }
    return Status::ok;
}

}  // namespace pyrad

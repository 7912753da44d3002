// Chunks in a slab or in files -> a batch of normalised images: decode, window, antialiased resize, normalise, in one
// pass.
#pragma once

#include "common.h"
#include "window.h"

namespace pyrad {

enum class Codec : uint8_t {
    raw = 0,  // little-endian pixels, row by row
    tilepack = 1,
};

constexpr uint32_t largest_side = 65535;  // of an image and of an output, in pixels
constexpr uint32_t most_planes = 3;
constexpr uint32_t most_windows = 3;

// Where a lookup table lies among the entries given to `preprocess`; count 0: there is none.
struct LutRange {
    uint64_t at;  // entries from the first of all
    uint32_t count;
    int32_t first;
};

// One image: where its chunks lie, how it is windowed, and where it goes. pyrad/ops.py mirrors it as RECORD_DTYPE.
struct Record {
    uint64_t chunk_offset[most_planes];  // bytes into the slab, or into the image's file; one a plane
    uint64_t chunk_size[most_planes];    // bytes, a trailing crc32c included
    LutRange modality_lut;               // Note [lookup tables] in window.h
    LutRange voi_lut[most_windows];      // of each window
    double x0, y0, x1, y1;               // source box, in source pixels, inside the image
    double turn[2][3];                   // of the output's pixels to the grid's, x and y: Note [turn] in turn.h
    uint32_t rows, columns;
    int32_t s_ref[most_windows];  // Note [s_ref] in window.h
    float a[most_windows], b[most_windows];
    int32_t span[most_windows];           // of a clip: Note [clip] in window.h
    int32_t pad_low, pad_high;            // inclusive, stored values
    uint32_t dst_x, dst_y, dst_w, dst_h;  // rectangle of the output that the box fills; the rest is y = 0
    uint8_t dtype;                        // Dtype
    uint8_t planes;                       // 1 or 3
    uint8_t codec;                        // Codec
    uint8_t crc;                          // 1: each chunk ends in its crc32c, little-endian, which is checked
    uint8_t windows;                      // 1, or 3: each channel's own, of an image of one plane
    uint8_t voi[most_windows];            // Voi
    uint8_t invert;                       // 1: MONOCHROME1
    uint8_t padded;                       // 1: pad_low..pad_high is padding
    uint8_t flip_x, flip_y;               // 1: mirrored
    uint8_t turned;                       // 1: the box fills a grid of dst_w x dst_h, and that the output, by `turn`
};

// What a sample of the output is; the last two are their bits.
enum class Sample : uint8_t { float32 = 0, bfloat16 = 1, float16 = 2 };

struct Bfloat16 {
    uint16_t bits;
};

struct Float16 {
    uint16_t bits;
};

inline size_t bytes_per_sample(Sample sample) { return sample == Sample::float32 ? 4 : 2; }

// The batch, a caller's memory: (N, channels, rows, columns), or (N, rows, columns, channels) if channels_last.
struct Output {
    void* pixels;
    Sample sample;
    bool channels_last;
    uint32_t rows;
    uint32_t columns;
    uint32_t channels;         // 1 or 3
    float scale[most_planes];  // out = fma(y, scale, shift): 1 / std and -mean / std, a channel each
    float shift[most_planes];
};

// Round to nearest, ties to even; not for NaN.
PYRAD_HD inline uint16_t bfloat16_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// Round to nearest, ties to even; from 65520 on infinity, as IEEE 754 has it. Not for NaN.
PYRAD_HD inline uint16_t float16_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits >= 0x47800000) return static_cast<uint16_t>(sign | 0x7c00);  // 65536
    if (bits < 0x38800000) {  // 2^-14: below it steps are of 2^-24, which are the steps of float32 at 1/2
        float magnitude;
        memcpy(&magnitude, &bits, sizeof bits);
        magnitude += 0.5f;
        memcpy(&bits, &magnitude, sizeof bits);
        return static_cast<uint16_t>(sign | (bits - 0x3f000000));
    }
    return static_cast<uint16_t>(sign | ((bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13));
}

// What a batch is made of: chunks, and the entries of all lookup tables.
struct Input {
    const uint8_t* slab;
    uint64_t slab_bytes;
    const uint16_t* lut_entries;
    uint64_t lut_count;
    const int32_t* files = nullptr;  // one an image: the open file its chunks lie in, below 0 the slab; null: all slab
};

// Writes `count` images and one status each, and, unless `read_ns` is null, the nanoseconds that were spent on reading
// each. An image whose status is not ok is all zeros. Neither records nor slab nor files are trusted: nothing outside
// the input is read and nothing outside the image's own output is written. Up to `threads` threads share the images,
// and each reads a chunk of a file (read_range, with its statuses) just before it decodes it; every image's bits are
// the same for any number of them. Throws std::bad_alloc, before anything is written, where the scratch memory cannot
// be had.
void preprocess(const Input& input, const Record* records, size_t count, const Output& output, int32_t* statuses,
                unsigned threads, int64_t* read_ns = nullptr);

}  // namespace pyrad

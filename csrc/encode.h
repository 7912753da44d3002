// Pixels -> a tilepack chunk.
#pragma once

#include <vector>

#include "common.h"
#include "tilepack.h"

namespace pyrad {

// An encoder is an image measured and ready to be packed: first the size, so that the caller allocates exactly, then
// the bytes. The pixels must outlive the object. Throws std::bad_alloc only.
//
// `size` is the bytes of the chunk, or 0 if the image is too large for one (4 GiB, 65,535 segments). `write` writes
// that many. Deterministic: every byte, padding included, follows from the image and the mode.

// Mode pack.
template <class Pixel>
class PackEncoder {
   public:
    PackEncoder(const Pixel* pixels, uint32_t rows, uint32_t columns, Dtype dtype);
    uint64_t size() const { return size_; }
    void write(uint8_t* chunk) const;

   private:
    const Pixel* pixels_;
    Dtype dtype_;
    tilepack::Grid grid_;
    uint64_t size_;
    std::vector<uint8_t> codes_;  // one a tile, in the order of the payload
};

// Modes rice and dense.
template <class Pixel>
class RiceEncoder {
   public:
    RiceEncoder(const Pixel* pixels, uint32_t rows, uint32_t columns, Dtype dtype, tilepack::Mode mode);
    uint64_t size() const { return size_; }
    void write(uint8_t* chunk) const;

   private:
    // What a segment takes, padding included, under its predictor.
    struct Segment {
        tilepack::Predictor predictor;
        uint64_t low_bytes;
        uint64_t unary_bytes;
    };

    template <class Set>
    void pack(uint32_t index, const uint8_t* codes, uint8_t* at) const;

    const Pixel* pixels_;
    Dtype dtype_;
    tilepack::Grid grid_;
    uint64_t size_;
    std::vector<Segment> segments_;
    std::vector<uint8_t> codes_;  // one a tile, in the order of the payload
};

// Everything of a chunk before its offsets; zeros in their place.
void write_header(uint8_t* chunk, const tilepack::Grid& grid, Dtype dtype);

extern template class PackEncoder<uint8_t>;
extern template class PackEncoder<uint16_t>;
extern template class RiceEncoder<uint8_t>;
extern template class RiceEncoder<uint16_t>;

}  // namespace pyrad

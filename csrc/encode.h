// Pixels -> a tilepack chunk.
#pragma once

#include <vector>

#include "common.h"
#include "tilepack.h"

namespace pyrad {

// An image measured and ready to be packed: first the size, so that the caller allocates exactly, then the bytes.
// The pixels must outlive the object. Throws std::bad_alloc only.
template <class Pixel>
class Encoder {
   public:
    Encoder(const Pixel* pixels, uint32_t rows, uint32_t columns, Dtype dtype);

    // Bytes of the chunk, or 0 if the image is too large for one (4 GiB, 65,535 segments).
    uint64_t size() const { return size_; }

    // Writes size() bytes. Deterministic: every byte, padding included, follows from the image.
    void write(uint8_t* chunk) const;

   private:
    const Pixel* pixels_;
    Dtype dtype_;
    tilepack::Grid grid_;
    uint64_t size_;
    std::vector<uint8_t> codes_;  // one a tile, in the order of the payload
};

extern template class Encoder<uint8_t>;
extern template class Encoder<uint16_t>;

}  // namespace pyrad

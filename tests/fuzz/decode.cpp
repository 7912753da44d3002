// Any bytes as a tilepack chunk, and any pixels through encode and decode. ASan sees every access outside.
#include "decode.h"

#include <cstdlib>
#include <memory>
#include <vector>

#include "encode.h"
#include "instructions.h"

namespace {

constexpr pyrad::Dtype dtypes[] = {pyrad::Dtype::u8, pyrad::Dtype::u16, pyrad::Dtype::i8, pyrad::Dtype::i16};

void require(bool condition) {
    if (!condition) abort();
}

// Both compilations agree, in status and in pixels; a refused chunk leaves the pixels as they were.
void decode(const uint8_t* chunk, size_t size, uint32_t rows, uint32_t columns, pyrad::Dtype dtype) {
    const size_t bytes = size_t{rows} * columns * pyrad::bytes_per_pixel(dtype);
    std::vector<uint8_t> fast(bytes, 0xA5), portable(bytes, 0xA5), before(bytes, 0xA5);
    std::unique_ptr<uint8_t[]> exact(new uint8_t[size]);  // so that ASan guards its very end
    memcpy(exact.get(), chunk, size);
    const pyrad::Status status = pyrad::decode_chunk(exact.get(), size, rows, columns, dtype, fast.data());
    pyrad::instructions_in_use = pyrad::Instructions::portable;
    require(pyrad::decode_chunk(exact.get(), size, rows, columns, dtype, portable.data()) == status);
    pyrad::instructions_in_use = pyrad::best_instructions();
    require(fast == portable);
    if (status != pyrad::Status::ok) require(fast == before);
}

template <class Pixel, class Encoder>
void read_back(const Encoder& encoder, const std::vector<Pixel>& pixels, uint32_t rows, uint32_t columns,
               pyrad::Dtype dtype) {
    std::unique_ptr<uint8_t[]> chunk(new uint8_t[encoder.size()]);
    encoder.write(chunk.get());
    std::vector<Pixel> back(pixels.size());
    require(pyrad::decode_chunk(chunk.get(), encoder.size(), rows, columns, dtype, back.data()) == pyrad::Status::ok);
    require(back == pixels);
}

template <class Pixel>
void round_trip(const uint8_t* bytes, size_t size, pyrad::Dtype dtype, uint32_t columns, uint32_t mode) {
    std::vector<Pixel> pixels(size / sizeof(Pixel));
    const uint32_t rows = static_cast<uint32_t>(pixels.size() / columns);
    if (rows == 0) return;
    memcpy(pixels.data(), bytes, pixels.size() * sizeof(Pixel));
    pixels.resize(size_t{rows} * columns);
    if (mode == 0) {
        read_back(pyrad::PackEncoder<Pixel>(pixels.data(), rows, columns, dtype), pixels, rows, columns, dtype);
    } else {
        const auto other = mode == 1 ? pyrad::tilepack::Mode::rice : pyrad::tilepack::Mode::dense;
        read_back(pyrad::RiceEncoder<Pixel>(pixels.data(), rows, columns, dtype, other), pixels, rows, columns, dtype);
    }
}

}  // namespace

// Byte 0: what to do, which type and which mode; 1-2: columns; 3-4: rows; the rest: chunk or pixels.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 5) return 0;
    const pyrad::Dtype dtype = dtypes[data[0] & 3];
    const uint32_t columns = 1 + pyrad::load_le<uint16_t>(data + 1) % 600;
    const uint32_t rows = 1 + pyrad::load_le<uint16_t>(data + 3) % 600;
    if (data[0] & 4) {
        const uint32_t mode = (data[0] >> 3) % 3;
        if (pyrad::bytes_per_pixel(dtype) == 1) {
            round_trip<uint8_t>(data + 5, size - 5, dtype, columns, mode);
        } else {
            round_trip<uint16_t>(data + 5, size - 5, dtype, columns, mode);
        }
    } else {
        decode(data + 5, size - 5, rows, columns, dtype);
    }
    return 0;
}

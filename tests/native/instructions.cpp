// Random images through the core as compiled for each set of instructions of this processor: the same bits as the
// portable one, or a line that says where not. For processors on which Python does not run (test_instructions.py).
#include "instructions.h"

#include <cstdio>
#include <random>
#include <vector>

#include "crc32c.h"
#include "decode.h"
#include "encode.h"
#include "preprocess.h"

using namespace pyrad;

namespace {

std::mt19937 draw(1);

uint32_t below(uint32_t end) { return draw() % end; }

// Differences to the pixel above of every width, one drawn for each tile of 4 x 8.
template <class Pixel>
std::vector<Pixel> image_of(uint32_t rows, uint32_t columns) {
    std::vector<Pixel> pixels(size_t{rows} * columns);
    std::vector<uint32_t> bits((columns + 7) / 8);
    for (uint32_t y = 0; y < rows; ++y) {
        if (y % 4 == 0) {
            for (uint32_t& b : bits) b = below(8 * sizeof(Pixel) + 1);
        }
        for (uint32_t x = 0; x < columns; ++x) {
            const uint32_t above = y == 0 ? 0 : pixels[(y - 1) * size_t{columns} + x];
            pixels[y * size_t{columns} + x] =
                static_cast<Pixel>(above + (draw() >> (32 - bits[x / 8])) % (1u << bits[x / 8]));
        }
    }
    return pixels;
}

template <class Encoder>
std::vector<uint8_t> written(const Encoder& encoder) {
    std::vector<uint8_t> chunk(encoder.size());
    encoder.write(chunk.data());
    return chunk;
}

template <class Pixel>
std::vector<uint8_t> encoded(const std::vector<Pixel>& pixels, uint32_t rows, uint32_t columns, Dtype dtype,
                             uint32_t mode) {
    if (mode == 0) return written(PackEncoder<Pixel>(pixels.data(), rows, columns, dtype));
    return written(RiceEncoder<Pixel>(pixels.data(), rows, columns, dtype, static_cast<tilepack::Mode>(mode)));
}

Record record_of(uint32_t rows, uint32_t columns, Dtype dtype, uint64_t size, const Output& out) {
    Record r{};
    r.chunk_size[0] = size;
    r.x0 = below(columns);
    r.y0 = below(rows);
    r.x1 = r.x0 + 1 + below(columns - static_cast<uint32_t>(r.x0));
    r.y1 = r.y0 + 1 + below(rows - static_cast<uint32_t>(r.y0));
    r.rows = rows;
    r.columns = columns;
    r.windows = out.channels == most_windows && below(2) != 0 ? most_windows : 1;
    for (uint32_t w = 0; w < r.windows; ++w) {
        r.s_ref[w] = static_cast<int32_t>(below(1000));
        r.a[w] = 1.0f / (1 + below(3000));
        r.b[w] = 0.25f;
        r.voi[w] = static_cast<uint8_t>(below(4));
        if (r.voi[w] == static_cast<uint8_t>(Voi::table)) {  // a clip instead, of any reach: also outside the dtype
            r.voi[w] = static_cast<uint8_t>(Voi::clip);
            r.s_ref[w] = static_cast<int32_t>(below(200000)) - 100000;
            r.a[w] = below(2) != 0 ? 1.0f : -1.0f;
            r.span[w] = 1 + static_cast<int32_t>(below(65535));
        }
    }
    r.turned = static_cast<uint8_t>(below(2));
    for (auto& axis : r.turn) {
        for (double& value : axis) value = (below(4001) - 2000.0) / 1500;
    }
    r.pad_low = 0;
    r.pad_high = 3;
    r.dst_w = 1 + below(out.columns);
    r.dst_h = 1 + below(out.rows);
    r.dtype = static_cast<uint8_t>(dtype);
    r.planes = 1;
    r.codec = static_cast<uint8_t>(Codec::tilepack);
    r.invert = static_cast<uint8_t>(below(2));
    r.padded = static_cast<uint8_t>(below(2));
    r.flip_x = static_cast<uint8_t>(below(2));
    r.flip_y = static_cast<uint8_t>(below(2));
    return r;
}

template <class Pixel>
int compare(Instructions set, Dtype dtype) {
    const uint32_t rows = 1 + below(270);
    const uint32_t columns = 1 + below(300);
    const auto pixels = image_of<Pixel>(rows, columns);
    instructions_in_use = Instructions::portable;
    const uint32_t mode = below(3);
    const std::vector<uint8_t> chunk = encoded(pixels, rows, columns, dtype, mode);

    std::vector<float> out[2];
    std::vector<Pixel> decoded(pixels.size());
    Record r{};
    Output output{nullptr,       static_cast<Sample>(below(3)), below(2) != 0,      1 + below(90),
                  1 + below(90), below(2) != 0 ? 3u : 1u,       {1.5f, 2.5f, 3.5f}, {-0.5f, 0.25f, 0.125f}};
    r = record_of(rows, columns, dtype, chunk.size(), output);
    const Input input = {chunk.data(), chunk.size(), nullptr, 0};
    for (const bool portable : {true, false}) {
        instructions_in_use = portable ? Instructions::portable : set;
        if (encoded(pixels, rows, columns, dtype, mode) != chunk) {
            return std::printf("encoded otherwise: %u x %u, mode %u\n", rows, columns, mode);
        }
        if (decode_chunk(chunk.data(), chunk.size(), rows, columns, dtype, decoded.data()) != Status::ok ||
            decoded != pixels) {
            return std::printf("decoded otherwise: %u x %u, dtype %d, mode %u\n", rows, columns,
                               static_cast<int>(dtype), mode);
        }
        auto& images = out[portable ? 0 : 1];
        images.assign(size_t{output.rows} * output.columns * output.channels, 0.0f);
        output.pixels = images.data();
        int32_t status = -1;
        preprocess(input, &r, 1, output, &status, 1);
        if (status != 0) return std::printf("status %d: %u x %u\n", status, rows, columns);
    }
    if (memcmp(out[0].data(), out[1].data(), out[0].size() * sizeof(float)) != 0) {
        return std::printf("seen otherwise: %u x %u, dtype %d, voi %d\n", rows, columns, static_cast<int>(dtype),
                           r.voi[0]);
    }
    const size_t from = below(static_cast<uint32_t>(chunk.size()));
    if (crc32c(chunk.data() + from, chunk.size() - from) != crc32c_portable(chunk.data() + from, chunk.size() - from)) {
        return std::printf("another checksum of %zu bytes\n", chunk.size() - from);
    }
    return 0;
}

}  // namespace

int main() {
    constexpr int images = 400;
    for (const auto& [name, set] : instruction_sets) {
        if (set == Instructions::portable || !has(set)) continue;
        for (int i = 0; i < images; ++i) {
            if (compare<uint8_t>(set, i % 2 != 0 ? Dtype::u8 : Dtype::i8) != 0) return 1;
            if (compare<uint16_t>(set, i % 2 != 0 ? Dtype::u16 : Dtype::i16) != 0) return 1;
        }
        std::printf("%s: %d images agree\n", name, 2 * images);
    }
    return 0;
}

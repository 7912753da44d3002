// Pixels -> a chunk of mode rice or dense: each segment by the predictor that makes it smallest.
#include "encode.h"
#include "instructions.h"
#include "residuals.h"
#include "rice.h"
#include "vectors.h"

namespace pyrad {
namespace {

using namespace tilepack;

// The code of a tile, and the bits that its quotients take in the unary stream.
struct Choice {
    uint32_t code;
    uint32_t unary_bits;
};

// The cheapest code of the 32 zigzag numbers of a tile, the lowest of equals.
inline Choice choose(const uint32_t* numbers, const Codes& codes) {
    uint32_t all = 0;
    for (uint32_t i = 0; i < tile_pixels; ++i) all |= numbers[i];
    if (all == 0) return {0, 0};
    Choice best = {0, 0};
    uint32_t least = UINT32_MAX;
    for (uint32_t code = 1; code <= codes.largest; ++code) {
        const uint32_t width = codes.width[code];
        if (all >> width > largest_quotient) continue;
        uint32_t unary = 0;
        if (codes.quotients[code] != 0) {
            for (uint32_t i = 0; i < tile_pixels; ++i) unary += numbers[i] >> width;
            unary += tile_pixels;
        }
        if (tile_pixels * width + unary < least) {
            least = tile_pixels * width + unary;
            best = {code, unary};
        }
        if (all >> width == 0) break;  // wider fields only take more
    }
    return best;
}

// Writes bits to whole words of eight bytes.
class UnaryWriter {
   public:
    explicit UnaryWriter(uint8_t* at) : at_(at) {}

    inline void put(uint32_t quotient) {
        while (used_ + quotient >= 64) {
            quotient -= 64 - used_;
            flush();
        }
        word_ |= uint64_t{1} << (used_ + quotient);
        used_ += quotient + 1;
    }
    // Returns where the stream ends.
    inline uint8_t* finish() {
        if (used_ != 0) flush();
        return at_;
    }

   private:
    inline void flush() {
        store_le<uint64_t>(at_, word_);
        at_ += 8;
        word_ = 0;
        used_ = 0;
    }

    uint8_t* at_;
    uint64_t word_ = 0;
    uint32_t used_ = 0;  // bits of the word
};

// The 32 zigzag numbers of a tile, row by row.
template <class Pixel, class Number>
inline void numbers_of(const Residuals<Pixel>& residuals, uint32_t tile, Number* numbers) {
    for (uint32_t y = 0; y < tile_height; ++y) {
        const Pixel* const row = residuals.row(y) + size_t{tile} * tile_width;
        for (uint32_t x = 0; x < tile_width; ++x) numbers[y * tile_width + x] = zigzag(row[x]);
    }
}

struct Sizes {
    uint64_t low_bytes;
    uint64_t unary_bytes;
};

// Codes of a segment's tiles under one predictor, and what they come to.
template <class Pixel>
inline Sizes measure(const Pixel* pixels, const Grid& grid, uint32_t index, Predictor predictor,
                     Residuals<Pixel>& residuals, uint8_t* codes) {
    const Codes& meaning = codes_of(grid.mode, sizeof(Pixel));
    uint64_t widths = 0;
    uint64_t unary_bits = 0;
    for (uint32_t i = 0; i < tile_rows_in_segment(grid, index); ++i) {
        residuals.take(pixels, index * segment_rows + i * tile_height, predictor);
        for (uint32_t tile = 0; tile < grid.tiles_across; ++tile) {
            uint32_t numbers[tile_pixels];
            numbers_of(residuals, tile, numbers);
            const Choice choice = choose(numbers, meaning);
            *codes++ = static_cast<uint8_t>(choice.code);
            widths += meaning.width[choice.code];
            unary_bits += choice.unary_bits;
        }
    }
    return {align16(tile_height * widths), align16((unary_bits + 7) / 8)};
}

}  // namespace

template <class Pixel>
RiceEncoder<Pixel>::RiceEncoder(const Pixel* pixels, uint32_t rows, uint32_t columns, Dtype dtype, Mode mode)
    : pixels_(pixels), dtype_(dtype), grid_(grid_of(rows, columns, mode, false)), size_(0) {
    if (grid_.segments > UINT16_MAX) return;
    Residuals<Pixel> residuals(grid_);
    size_ = header_bytes(grid_) + slack_bytes;
    for (uint32_t index = 0; index < grid_.segments; ++index) {
        std::vector<uint8_t> codes(size_t{tile_rows_in_segment(grid_, index)} * grid_.tiles_across);
        std::vector<uint8_t> best_codes;
        Segment best{};
        for (uint32_t number = 0; number <= static_cast<uint32_t>(last_predictor(mode)); ++number) {
            const auto predictor = static_cast<Predictor>(number);
            Sizes sizes{};
            run_fastest(
                [&](auto /*tag*/) { sizes = measure(pixels, grid_, index, predictor, residuals, codes.data()); });
            const bool smaller = sizes.low_bytes + sizes.unary_bytes < best.low_bytes + best.unary_bytes;
            if (!best_codes.empty() && !smaller) continue;
            best = {predictor, sizes.low_bytes, sizes.unary_bytes};
            best_codes = codes;
        }
        segments_.push_back(best);
        codes_.insert(codes_.end(), best_codes.begin(), best_codes.end());
        size_ += table_bytes(grid_, index) + best.low_bytes + best.unary_bytes;
    }
    if (size_ > UINT32_MAX) size_ = 0;
}

template <class Pixel>
void RiceEncoder<Pixel>::write(uint8_t* chunk) const {
    write_header(chunk, grid_, dtype_);
    uint8_t* offsets = chunk + fixed_header_bytes;
    uint64_t at = header_bytes(grid_);
    const uint8_t* codes = codes_.data();
    for (uint32_t index = 0; index < grid_.segments; ++index) {
        const Segment& segment = segments_[index];
        store_le<uint32_t>(offsets, static_cast<uint32_t>(at) | static_cast<uint32_t>(segment.predictor));
        run_fastest([&](auto tag) { pack<typename decltype(tag)::type>(index, codes, chunk + at); });
        at += table_bytes(grid_, index) + segment.low_bytes + segment.unary_bytes;
        codes += size_t{tile_rows_in_segment(grid_, index)} * grid_.tiles_across;
        offsets += 4;
    }
    store_le<uint32_t>(offsets, static_cast<uint32_t>(at));
    memset(chunk + at, 0, slack_bytes);
}

// One segment from `at` on. Where the 16 bytes that a row of low bits stores reach into the unary stream, it goes by
// way of `apart`.
template <class Pixel>
template <class Set>
inline void RiceEncoder<Pixel>::pack(uint32_t index, const uint8_t* codes, uint8_t* at) const {
    const Segment& segment = segments_[index];
    const Codes& meaning = codes_of(grid_.mode, sizeof(Pixel));
    uint8_t* table = at;
    uint8_t* const start = at + table_bytes(grid_, index);
    uint8_t* low = start;
    memset(at, 0, static_cast<size_t>(start - at));
    uint8_t* const low_end = start + segment.low_bytes;
    if (low_end != start) memset(low_end - 16, 0, 16);
    uint8_t apart[16];
    Residuals<Pixel> residuals(grid_);
    UnaryWriter unary(low_end);
    for (uint32_t i = 0; i < tile_rows_in_segment(grid_, index); ++i) {
        residuals.take(pixels_, index * segment_rows + i * tile_height, segment.predictor);
        for (uint32_t tile = 0; tile < grid_.tiles_across; ++tile) {
            const uint32_t code = *codes++;
            table[tile >> 1] = static_cast<uint8_t>(table[tile >> 1] | code << (4 * (tile & 1)));
            const uint32_t width = meaning.width[code];
            Pixel numbers[tile_pixels];
            numbers_of(residuals, tile, numbers);
            for (uint32_t y = 0; y < tile_height; ++y, low += width) {
                const bool inside = low_end - low >= 16;
                Set::pack_row(numbers + y * tile_width, width, inside ? low : apart);
                if (!inside) memcpy(low, apart, width);
            }
            if (meaning.quotients[code] == 0) continue;
            for (const Pixel number : numbers) unary.put(static_cast<uint32_t>(number) >> width);
        }
        table += grid_.table_row_bytes;
    }
    uint8_t* const unary_end = unary.finish();
    uint8_t* const end = start + segment.low_bytes + segment.unary_bytes;
    memset(unary_end, 0, static_cast<size_t>(end - unary_end));
}

template class RiceEncoder<uint8_t>;
template class RiceEncoder<uint16_t>;

}  // namespace pyrad

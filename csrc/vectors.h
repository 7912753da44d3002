// tilepack by vector instructions, a struct for each set of them: the same bits as tilepack.h.
//
// Note [one kernel a set] A function that uses vector instructions must be compiled for them, and its callers too if it
// is to be inlined. So each struct names its few operations and takes the kernels in by including kernels.inc.
//
// `Words` are `tiles` groups of eight lanes of 16 bits: a row of so many tiles. `Block` is 16 bytes,
// `Floats` eight floats.
#pragma once

#include <limits>
#include <type_traits>
#include <utility>

#include "fields.h"
#include "instructions.h"
#include "pack.h"
#include "preprocess.h"
#include "rice.h"
#include "tilepack.h"
#include "window.h"

#if defined(PYRAD_X86)
#include <immintrin.h>
#elif defined(PYRAD_ARM)
#include <arm_neon.h>
#endif

namespace pyrad {

// The operations that there are without vectors: none of the tiles and pixels is done.
struct Portable {
    PYRAD_HD static uint32_t sum_codes(const uint8_t*, uint32_t, const uint8_t*, uint64_t&, uint32_t&) { return 0; }
    static constexpr bool sums_from_left_at_once = false;
    template <class Pixel, tilepack::Sums>
    PYRAD_HD static uint32_t unpack_tiles(const uint8_t*, const uint8_t*&, uint32_t, const Pixel*, Pixel*, size_t) {
        return 0;
    }
    template <class Pixel, tilepack::Sums>
    static uint32_t join_tiles(const uint8_t*, const uint8_t*&, const uint8_t*&, uint32_t, bool, const Pixel*, Pixel*,
                               size_t) {
        return 0;
    }
    template <class Row>
    static uint32_t add_medians(Row*, uint32_t) {
        return tilepack::median_start;
    }
    template <class Pixel>
    PYRAD_HD static uint32_t sum_from_left(Pixel*, uint32_t) {
        return 0;
    }
    template <class Pixel>
    static void pack_row(const Pixel* residual, uint32_t width, uint8_t* packed) {
        tilepack::pack_row(residual, width, packed);
    }
    template <class Pixel>
    static uint32_t clip_row(const uint8_t*, uint32_t, const WindowParams&, float*) {
        return 0;
    }
    template <class Pixel>
    static uint32_t ramp_row(const uint8_t*, uint32_t, const WindowParams&, float*) {
        return 0;
    }
    template <class Sample>
    static uint32_t sample_row(const float*, uint32_t, float, float, Sample*, size_t) {
        return 0;
    }
    static void finish_samples() {}
    static void transpose(float* tile) {
        for (uint32_t row = 0; row < 8; ++row) {
            for (uint32_t column = 0; column < row; ++column) std::swap(tile[row * 8 + column], tile[column * 8 + row]);
        }
    }
};

#if defined(PYRAD_X86)

PYRAD_COMPILE_FOR(PYRAD_AVX2)
struct Avx2 {
    using Set = Avx2;
    static constexpr uint32_t tiles = 2;
    using Words = __m256i;
    using Block = __m128i;
    using Floats = __m256;

    // No instruction shifts 16-bit lanes each by its own count: both shifts are multiplications, the second by 2^width
    // for the upper half of the product. That is 0 of 16 bits for a width of 16, which is told apart by it.
    static constexpr bool full_width_apart = true;
    static constexpr int16_t left(uint32_t width, uint32_t bit) {
        return static_cast<int16_t>(1 << (16 - width - bit));
    }
    static constexpr int16_t right(uint32_t width) { return static_cast<int16_t>(1 << width); }
    template <bool some_are_full>
    static inline Words spread(Words packed, Words shuffle, Words left, Words right) {
        const Words bytes = _mm256_shuffle_epi8(packed, shuffle);
        const Words fields = _mm256_mulhi_epi16(_mm256_mullo_epi16(bytes, left), right);
        if constexpr (!some_are_full) return fields;
        return _mm256_or_si256(fields, _mm256_and_si256(bytes, _mm256_cmpeq_epi16(right, zero())));
    }
    static inline Words add(Words a, Words b, uint16_t /*pixel*/) { return _mm256_add_epi16(a, b); }
    static inline Words add(Words a, Words b, uint8_t /*pixel*/) { return _mm256_add_epi8(a, b); }
    static inline Words narrow(Words even, Words odd) { return _mm256_packs_epi16(even, odd); }

    // Low bits and quotients of Rice codes; the quotients of eight pixels lie at each of `quotients`.
    template <bool some_are_full>
    static inline Words join(Words packed, Words shuffle, Words left, Words right, const void* const* quotients) {
        const Words bytes = _mm256_shuffle_epi8(packed, shuffle);
        const Words low = _mm256_mulhi_epu16(_mm256_mullo_epi16(bytes, left), right);
        const Words high = _mm256_mullo_epi16(
            _mm256_cvtepu8_epi16(_mm_unpacklo_epi64(load_half(quotients[0]), load_half(quotients[1]))), right);
        const Words fields = _mm256_add_epi16(low, high);
        if constexpr (!some_are_full) return fields;
        return _mm256_or_si256(fields, _mm256_and_si256(bytes, _mm256_cmpeq_epi16(right, zero())));
    }
    static inline Words from_zigzag(Words x, uint16_t /*pixel*/) {
        const Words sign = _mm256_sub_epi16(zero(), _mm256_and_si256(x, _mm256_set1_epi16(1)));
        return _mm256_xor_si256(_mm256_srli_epi16(x, 1), sign);
    }
    static inline Words from_zigzag(Words x, uint8_t /*pixel*/) {
        const Words sign = _mm256_sub_epi8(zero(), _mm256_and_si256(x, _mm256_set1_epi8(1)));
        return _mm256_xor_si256(_mm256_and_si256(_mm256_srli_epi16(x, 1), _mm256_set1_epi8(0x7f)), sign);
    }
    static inline Words narrow_low(Words even, Words odd) {  // the low byte of each lane
        const Words low = _mm256_set1_epi16(0xff);
        return _mm256_packus_epi16(_mm256_and_si256(even, low), _mm256_and_si256(odd, low));
    }

    static constexpr bool sums_from_left_at_once = true;
    template <class Pixel>
    static inline Words sums_from_left(Words lanes, Pixel pixel) {
        if constexpr (sizeof(Pixel) == 1) lanes = add(lanes, _mm256_slli_si256(lanes, 1), pixel);
        lanes = add(lanes, _mm256_slli_si256(lanes, 2), pixel);
        lanes = add(lanes, _mm256_slli_si256(lanes, 4), pixel);
        lanes = add(lanes, _mm256_slli_si256(lanes, 8), pixel);
        const Words low_half = _mm256_permute2x128_si256(lanes, lanes, 0x08);  // in the high half, zeros in the low
        return add(lanes, last_of_halves(low_half, pixel), pixel);
    }
    static inline Words last_of_halves(Words lanes, uint16_t /*pixel*/) {
        return _mm256_shuffle_epi8(lanes, _mm256_set1_epi16(0x0f0e));
    }
    static inline Words last_of_halves(Words lanes, uint8_t /*pixel*/) {
        return _mm256_shuffle_epi8(lanes, _mm256_set1_epi8(15));
    }
    template <class Pixel>
    static inline Words last_of_all(Words lanes, Pixel pixel) {
        return last_of_halves(_mm256_permute2x128_si256(lanes, lanes, 0x11), pixel);
    }

    static inline Words zero() { return _mm256_setzero_si256(); }
    static inline Words all_lanes(uint16_t value) { return _mm256_set1_epi16(static_cast<int16_t>(value)); }
    static inline Words all_lanes(uint8_t value) { return _mm256_set1_epi8(static_cast<int8_t>(value)); }
    static inline Words load(const void* at) { return _mm256_loadu_si256(static_cast<const Words*>(at)); }
    static inline void store(void* at, Words words) { _mm256_storeu_si256(static_cast<Words*>(at), words); }
    static inline Words gather(const void* const* at) {
        return _mm256_inserti128_si256(_mm256_castsi128_si256(load_block(at[0])), load_block(at[1]), 1);
    }

#include "kernels.inc"
#include "x86.inc"
};
PYRAD_COMPILE_FOR_ANY

PYRAD_COMPILE_FOR(PYRAD_AVX512)
struct Avx512 {
    using Set = Avx512;
    static constexpr uint32_t tiles = 4;
    using Words = __m512i;
    using Block = __m128i;
    using Floats = __m256;

    static constexpr bool full_width_apart = false;
    static constexpr int16_t left(uint32_t width, uint32_t bit) { return static_cast<int16_t>(16 - width - bit); }
    static constexpr int16_t right(uint32_t width) { return static_cast<int16_t>(16 - width); }
    template <bool some_are_full>
    static inline Words spread(Words packed, Words shuffle, Words left, Words right) {
        return _mm512_srav_epi16(_mm512_sllv_epi16(_mm512_shuffle_epi8(packed, shuffle), left), right);
    }
    static inline Words add(Words a, Words b, uint16_t /*pixel*/) { return _mm512_add_epi16(a, b); }
    static inline Words add(Words a, Words b, uint8_t /*pixel*/) { return _mm512_add_epi8(a, b); }
    static inline Words narrow(Words even, Words odd) { return _mm512_packs_epi16(even, odd); }

    template <bool some_are_full>
    static inline Words join(Words packed, Words shuffle, Words left, Words right, const void* const* quotients) {
        const Block front = _mm_unpacklo_epi64(load_half(quotients[0]), load_half(quotients[1]));
        const Block back = _mm_unpacklo_epi64(load_half(quotients[2]), load_half(quotients[3]));
        const Words high = _mm512_cvtepu8_epi16(_mm256_inserti128_si256(_mm256_castsi128_si256(front), back, 1));
        const Words low = _mm512_srlv_epi16(_mm512_sllv_epi16(_mm512_shuffle_epi8(packed, shuffle), left), right);
        return _mm512_add_epi16(low, _mm512_sllv_epi16(high, _mm512_sub_epi16(_mm512_set1_epi16(16), right)));
    }
    static inline Words from_zigzag(Words x, uint16_t /*pixel*/) {
        const Words sign = _mm512_sub_epi16(zero(), _mm512_and_si512(x, _mm512_set1_epi16(1)));
        return _mm512_xor_si512(_mm512_srli_epi16(x, 1), sign);
    }
    static inline Words from_zigzag(Words x, uint8_t /*pixel*/) {
        const Words sign = _mm512_sub_epi8(zero(), _mm512_and_si512(x, _mm512_set1_epi8(1)));
        return _mm512_xor_si512(_mm512_and_si512(_mm512_srli_epi16(x, 1), _mm512_set1_epi8(0x7f)), sign);
    }
    static inline Words narrow_low(Words even, Words odd) {
        const Words low = _mm512_set1_epi16(0xff);
        return _mm512_packus_epi16(_mm512_and_si512(even, low), _mm512_and_si512(odd, low));
    }

    static constexpr bool sums_from_left_at_once = false;
    template <class Pixel>
    static inline Words sums_from_left(Words lanes, Pixel /*pixel*/) {
        return lanes;
    }
    template <class Pixel>
    static inline Words last_of_all(Words lanes, Pixel /*pixel*/) {
        return lanes;
    }

    static inline Words zero() { return _mm512_setzero_si512(); }
    static inline Words all_lanes(uint16_t value) { return _mm512_set1_epi16(static_cast<int16_t>(value)); }
    static inline Words all_lanes(uint8_t value) { return _mm512_set1_epi8(static_cast<int8_t>(value)); }
    static inline Words load(const void* at) { return _mm512_loadu_si512(at); }
    static inline void store(void* at, Words words) { _mm512_storeu_si512(at, words); }
    static inline Words gather(const void* const* at) {
        const __m512i two = _mm512_inserti64x2(_mm512_castsi128_si512(load_block(at[0])), load_block(at[1]), 1);
        return _mm512_inserti64x2(_mm512_inserti64x2(two, load_block(at[2]), 2), load_block(at[3]), 3);
    }

#include "kernels.inc"
#include "x86.inc"
};
PYRAD_COMPILE_FOR_ANY

#elif defined(PYRAD_ARM)

struct Neon {
    using Set = Neon;
    static constexpr uint32_t tiles = 1;
    using Words = int16x8_t;
    using Block = uint8x16_t;
    using Floats = float32x4x2_t;

    static constexpr bool full_width_apart = false;
    static constexpr int16_t left(uint32_t width, uint32_t bit) { return static_cast<int16_t>(16 - width - bit); }
    static constexpr int16_t right(uint32_t width) {
        return static_cast<int16_t>(static_cast<int>(width) - 16);
    }  // a shift to the left by less than 0
    template <bool some_are_full>
    static inline Words spread(Words packed, Words shuffle, Words left, Words right) {
        const Block bytes = vqtbl1q_u8(vreinterpretq_u8_s16(packed), vreinterpretq_u8_s16(shuffle));
        return vshlq_s16(vshlq_s16(vreinterpretq_s16_u8(bytes), left), right);
    }
    static inline Words add(Words a, Words b, uint16_t /*pixel*/) { return vaddq_s16(a, b); }
    static inline Words add(Words a, Words b, uint8_t /*pixel*/) {
        return vreinterpretq_s16_s8(vaddq_s8(vreinterpretq_s8_s16(a), vreinterpretq_s8_s16(b)));
    }
    static inline Words narrow(Words even, Words odd) {
        return vreinterpretq_s16_s8(vcombine_s8(vmovn_s16(even), vmovn_s16(odd)));
    }

    template <bool some_are_full>
    static inline Words join(Words packed, Words shuffle, Words left, Words right, const void* const* quotients) {
        const Block bytes = vqtbl1q_u8(vreinterpretq_u8_s16(packed), vreinterpretq_u8_s16(shuffle));
        const uint16x8_t low = vshlq_u16(vshlq_u16(vreinterpretq_u16_u8(bytes), left), right);
        const uint16x8_t high = vmovl_u8(vld1_u8(static_cast<const uint8_t*>(quotients[0])));
        return vreinterpretq_s16_u16(vaddq_u16(low, vshlq_u16(high, vaddq_s16(right, vdupq_n_s16(16)))));
    }
    static inline Words from_zigzag(Words x, uint16_t /*pixel*/) {
        const int16x8_t sign = vnegq_s16(vandq_s16(x, vdupq_n_s16(1)));
        return veorq_s16(vreinterpretq_s16_u16(vshrq_n_u16(vreinterpretq_u16_s16(x), 1)), sign);
    }
    static inline Words from_zigzag(Words x, uint8_t /*pixel*/) {
        const int8x16_t bytes = vreinterpretq_s8_s16(x);
        const int8x16_t sign = vnegq_s8(vandq_s8(bytes, vdupq_n_s8(1)));
        const int8x16_t half = vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(bytes), 1));
        return vreinterpretq_s16_s8(veorq_s8(half, sign));
    }
    static inline Words narrow_low(Words even, Words odd) { return narrow(even, odd); }

    static constexpr bool sums_from_left_at_once = true;
    template <class Pixel>
    static inline Words sums_from_left(Words lanes, Pixel pixel) {
        Block sums = vreinterpretq_u8_s16(lanes);
        if constexpr (sizeof(Pixel) == 1) sums = add_block(sums, shift_block<1>(sums), pixel);
        sums = add_block(sums, shift_block<2>(sums), pixel);
        sums = add_block(sums, shift_block<4>(sums), pixel);
        sums = add_block(sums, shift_block<8>(sums), pixel);
        return vreinterpretq_s16_u8(sums);
    }
    template <class Pixel>
    static inline Words last_of_all(Words lanes, Pixel pixel) {
        return vreinterpretq_s16_u8(last_lane(vreinterpretq_u8_s16(lanes), pixel));
    }

    static inline Words zero() { return vdupq_n_s16(0); }
    static inline Words all_lanes(uint16_t value) { return vreinterpretq_s16_u16(vdupq_n_u16(value)); }
    static inline Words all_lanes(uint8_t value) { return vreinterpretq_s16_u8(vdupq_n_u8(value)); }
    static inline Words load(const void* at) { return vreinterpretq_s16_u8(load_block(at)); }
    static inline void store(void* at, Words words) { store_block(at, vreinterpretq_u8_s16(words)); }
    static inline Words gather(const void* const* at) { return load(at[0]); }

#include "kernels.inc"
#include "neon.inc"
};

#endif

}  // namespace pyrad

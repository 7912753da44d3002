// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78, RFC 3720 appendix B.4): bytes -> 32 bits.
#pragma once

#include "common.h"
#include "instructions.h"

#if defined(PYRAD_ARM) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace pyrad {
namespace crc32c_detail {

constexpr uint32_t polynomial = 0x82f63b78;

struct Table {
    uint32_t entry[8][256];
};

// entry[k][b]: the register after byte b and k zero bytes ("slicing by eight").
constexpr Table make_table() {
    Table table{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? polynomial : 0u);
        table.entry[0][byte] = crc;
    }
    for (int k = 1; k < 8; ++k) {
        for (uint32_t byte = 0; byte < 256; ++byte) {
            const uint32_t before = table.entry[k - 1][byte];
            table.entry[k][byte] = (before >> 8) ^ table.entry[0][before & 255];
        }
    }
    return table;
}

inline constexpr Table table = make_table();

inline uint32_t update_portable(uint32_t crc, const uint8_t* data, size_t size) {
    for (; size >= 8; data += 8, size -= 8) {
        const uint64_t word = load_le<uint64_t>(data) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; ++k) crc ^= table.entry[7 - k][(word >> (8 * k)) & 255];
    }
    for (; size > 0; ++data, --size) crc = (crc >> 8) ^ table.entry[0][(crc ^ *data) & 255];
    return crc;
}

#if defined(PYRAD_X86) || (defined(PYRAD_ARM) && defined(__linux__))
#define PYRAD_CRC32C_HARDWARE 1

// Note [three streams] The instruction takes a word a cycle and answers three cycles later, so three stretches of the
// data are summed side by side and joined: a register followed by n zero bytes is the register times x^(8n), which is
// linear in its four bytes, so a table each.

// a * b modulo the polynomial, the highest power in the lowest bit.
constexpr uint32_t times(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (uint32_t bit = uint32_t{1} << 31; bit != 0; bit >>= 1) {
        if ((a & bit) != 0) product ^= b;
        b = (b >> 1) ^ ((b & 1) != 0 ? polynomial : 0u);
    }
    return product;
}

template <size_t bytes>
struct Zeros {
    uint32_t entry[4][256] = {};

    constexpr Zeros() {
        uint32_t power = uint32_t{1} << 31;                                                     // x^0
        for (size_t i = 0; i < bytes; ++i) power = table.entry[0][power & 255] ^ (power >> 8);  // times x^8
        for (uint32_t k = 0; k < 4; ++k) {
            for (uint32_t byte = 0; byte < 256; ++byte) entry[k][byte] = times(power, byte << (8 * k));
        }
    }
    uint32_t after(uint64_t crc) const {
        return entry[0][crc & 255] ^ entry[1][(crc >> 8) & 255] ^ entry[2][(crc >> 16) & 255] ^
               entry[3][(crc >> 24) & 255];
    }
};

template <size_t bytes>
inline constexpr Zeros<bytes> zeros{};

#if defined(PYRAD_X86)
inline bool has_hardware() { return __builtin_cpu_supports("sse4.2") != 0; }
PYRAD_COMPILE_FOR("sse4.2")
inline uint64_t add_word(uint64_t crc, uint64_t word) { return __builtin_ia32_crc32di(crc, word); }
inline uint64_t add_byte(uint64_t crc, uint8_t byte) {
    return __builtin_ia32_crc32qi(static_cast<uint32_t>(crc), byte);
}
#else
inline bool has_hardware() { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
PYRAD_COMPILE_FOR("+crc")
inline uint64_t add_word(uint64_t crc, uint64_t word) {
    return __builtin_aarch64_crc32cx(static_cast<uint32_t>(crc), word);
}
inline uint64_t add_byte(uint64_t crc, uint8_t byte) {
    return __builtin_aarch64_crc32cb(static_cast<uint32_t>(crc), byte);
}
#endif

// As many thirds of `stretch` bytes as there are.
template <size_t stretch>
inline uint64_t add_thirds(uint64_t crc, const uint8_t*& data, size_t& size) {
    for (; size >= 3 * stretch; data += 3 * stretch, size -= 3 * stretch) {
        uint64_t second = 0;
        uint64_t third = 0;
        for (size_t at = 0; at < stretch; at += 8) {
            crc = add_word(crc, load_le<uint64_t>(data + at));
            second = add_word(second, load_le<uint64_t>(data + stretch + at));
            third = add_word(third, load_le<uint64_t>(data + 2 * stretch + at));
        }
        crc = zeros<stretch>.after(zeros<stretch>.after(crc) ^ second) ^ third;
    }
    return crc;
}

inline uint32_t update_hardware(uint32_t start, const uint8_t* data, size_t size) {
    uint64_t crc = add_thirds<4096>(start, data, size);
    crc = add_thirds<256>(crc, data, size);
    for (; size >= 8; data += 8, size -= 8) crc = add_word(crc, load_le<uint64_t>(data));
    for (; size > 0; ++data, --size) crc = add_byte(crc, *data);
    return static_cast<uint32_t>(crc);
}
PYRAD_COMPILE_FOR_ANY
#endif

}  // namespace crc32c_detail

inline uint32_t crc32c_portable(const uint8_t* data, size_t size) {
    return ~crc32c_detail::update_portable(~0u, data, size);
}

// The processor's own instruction where it has one (asked once), else the table; the same number either way.
inline uint32_t crc32c(const uint8_t* data, size_t size) {
#ifdef PYRAD_CRC32C_HARDWARE
    static const bool hardware = crc32c_detail::has_hardware();
    if (hardware) return ~crc32c_detail::update_hardware(~0u, data, size);
#endif
    return crc32c_portable(data, size);
}

}  // namespace pyrad

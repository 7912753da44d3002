// CRC-32C (Castagnoli, reflected polynomial 0x82f63b78, RFC 3720 appendix B.4): bytes -> 32 bits.
#pragma once

#include "common.h"

namespace pyrad {
namespace crc32c_detail {

struct Table {
    uint32_t entry[8][256];
};

// entry[k][b]: the register after byte b and k zero bytes ("slicing by eight").
constexpr Table make_table() {
    Table table{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
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

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__CUDACC__)
#define PYRAD_CRC32C_SSE42 1
__attribute__((target("sse4.2"))) inline uint32_t update_sse42(uint32_t crc, const uint8_t* data, size_t size) {
    uint64_t wide = crc;
    for (; size >= 8; data += 8, size -= 8) wide = __builtin_ia32_crc32di(wide, load_le<uint64_t>(data));
    crc = static_cast<uint32_t>(wide);
    for (; size > 0; ++data, --size) crc = __builtin_ia32_crc32qi(crc, *data);
    return crc;
}
#endif

}  // namespace crc32c_detail

inline uint32_t crc32c_portable(const uint8_t* data, size_t size) {
    return ~crc32c_detail::update_portable(~0u, data, size);
}

// The processor's own instruction where it has one (asked once), else the table; the same number either way.
inline uint32_t crc32c(const uint8_t* data, size_t size) {
#ifdef PYRAD_CRC32C_SSE42
    static const bool hardware = __builtin_cpu_supports("sse4.2") != 0;
    if (hardware) return ~crc32c_detail::update_sse42(~0u, data, size);
#endif
    return crc32c_portable(data, size);
}

}  // namespace pyrad

// What every file of csrc shares: where a function may run, pixel types, status words, careful loads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

// Mathematics is written once, as `PYRAD_HD inline`, for the host and for the device.
#if defined(__CUDACC__)
#define PYRAD_HD __host__ __device__
#else
#define PYRAD_HD
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pyrad's compiled core is written for little-endian processors"
#endif

namespace pyrad {

// Low seven bits: bytes a pixel; top bit: signed. The same codes stand in a chunk's header.
enum class Dtype : uint8_t { u8 = 0x01, u16 = 0x02, i8 = 0x81, i16 = 0x82 };

PYRAD_HD inline bool is_dtype(uint8_t code) { return (code & 0x7f) == 1 || (code & 0x7f) == 2; }
PYRAD_HD inline uint32_t bytes_per_pixel(Dtype dtype) { return static_cast<uint8_t>(dtype) & 0x7f; }
PYRAD_HD inline bool is_signed(Dtype dtype) { return (static_cast<uint8_t>(dtype) & 0x80) != 0; }

// What became of one chunk or one image. pyrad/ops.py holds the same list with a sentence each.
enum class Status : int32_t {
    ok = 0,
    checksum = 1,   // the bytes do not match their crc32c
    header = 2,     // unknown version, mode, dtype, flag or segment height
    geometry = 3,   // sound, but of another shape or dtype than the array's
    bounds = 4,     // a size or an offset does not fit the chunk
    widths = 5,     // a tile's width is invalid, or the widths do not add up to the payload
    record = 6,     // the caller's record of the image is impossible: its shape, box, window or destination
    truncated = 7,  // the file ends before the chunk does
};

// What a read that failed is told by, beside the statuses above: -errno.
inline Status failed(int error) { return static_cast<Status>(-error); }

// Little-endian load without alignment; the caller has checked that sizeof(T) bytes are there.
template <class T>
PYRAD_HD inline T load_le(const void* at) {
    T value;
    memcpy(&value, at, sizeof(T));
    return value;
}

// The same, checked: false, and nothing read, unless the whole value lies inside the `size` bytes at `base`.
template <class T>
PYRAD_HD inline bool load_checked(const uint8_t* base, uint64_t size, uint64_t at, T& value) {
    if (at > size || size - at < sizeof(T)) return false;
    value = load_le<T>(base + at);
    return true;
}

template <class T>
inline void store_le(void* at, T value) {
    memcpy(at, &value, sizeof(T));
}

PYRAD_HD inline uint64_t align16(uint64_t bytes) { return (bytes + 15) & ~uint64_t{15}; }

}  // namespace pyrad

// Stored values -> their percentiles, exact, by one pass that counts them.
#include "statistics.h"

#include <algorithm>
#include <numeric>

namespace pyrad {
namespace {

// How often each value occurs. Neighbours are counted in tables of their own: a run of equal pixels would wait for
// its own counter otherwise. Signed values are moved up to begin at 0, which is one flipped bit.
template <class Pixel>
std::vector<uint32_t>& count_values(const Pixel* pixels, uint64_t count, bool is_signed) {
    constexpr size_t values = size_t{1} << (8 * sizeof(Pixel));
    constexpr size_t ways = 2;
    const size_t flip = is_signed ? values / 2 : 0;
    thread_local std::vector<uint32_t> tables;  // kept: half a megabyte of fresh pages costs as much as the counting
    tables.assign(ways * values, 0);
    uint32_t* even = tables.data();
    uint32_t* odd = even + values;
    uint64_t i = 0;
    for (; i + ways <= count; i += ways) {
        ++even[pixels[i] ^ flip];
        ++odd[pixels[i + 1] ^ flip];
    }
    if (i < count) ++even[pixels[i] ^ flip];
    std::transform(even, odd, odd, even, std::plus<>());
    tables.resize(values);
    return tables;
}

}  // namespace

std::vector<double> percentiles(const void* pixels, uint64_t count, Dtype dtype, const std::vector<double>& fractions,
                                Range left_out) {
    auto& counts = bytes_per_pixel(dtype) == 1
                       ? count_values(static_cast<const uint8_t*>(pixels), count, is_signed(dtype))
                       : count_values(static_cast<const uint16_t*>(pixels), count, is_signed(dtype));
    const auto values = static_cast<int64_t>(counts.size());
    const int64_t lowest = is_signed(dtype) ? -values / 2 : 0;
    const int64_t from = std::max<int64_t>(left_out.low - lowest, 0);
    for (int64_t at = from; at < values && at <= left_out.high - lowest; ++at) counts[at] = 0;

    const uint64_t total = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
    if (total == 0) return {};
    const auto value_at = [&](uint64_t rank) {
        uint64_t below = 0;
        int64_t at = 0;
        while ((below += counts[at]) <= rank) ++at;
        return at;
    };
    std::vector<double> results;
    for (const double fraction : fractions) {
        const double position = static_cast<double>(total - 1) * fraction;
        const auto rank = static_cast<uint64_t>(position);
        const int64_t first = value_at(rank);
        const int64_t second = value_at(std::min(rank + 1, total - 1));
        results.push_back(static_cast<double>(lowest + first) +
                          (position - static_cast<double>(rank)) * static_cast<double>(second - first));
    }
    return results;
}

}  // namespace pyrad

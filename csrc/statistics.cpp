// Stored values -> their percentiles, exact, by one pass that counts them.
#include "statistics.h"

#include <algorithm>
#include <functional>
#include <numeric>

namespace pyrad {
namespace {

// How often each value from `first` on occurs; a value is its key, the pixel with `flip` undone.
struct Counts {
    int64_t first;
    std::vector<uint32_t>& of;
};

// Neighbours are counted in tables of their own: a run of equal pixels would wait for its own counter otherwise.
// The tables span the values that occur: those of twelve bits lie in the first cache.
template <class Pixel>
Counts count_keys(const Pixel* pixels, uint64_t count, Pixel flip) {
    constexpr size_t ways = 2;
    Pixel least = static_cast<Pixel>(~Pixel{0}), most = 0;
    for (uint64_t i = 0; i < count; ++i) {
        const auto key = static_cast<Pixel>(pixels[i] ^ flip);
        least = std::min(least, key);
        most = std::max(most, key);
    }
    thread_local std::vector<uint32_t> tables;  // kept: fresh pages for every image cost as much as the counting
    const size_t values = count == 0 ? 1 : size_t{most} - least + 1;
    tables.assign(ways * values, 0);
    uint32_t* even = tables.data();
    uint32_t* odd = even + values;
    const auto at = [&](uint64_t i) { return static_cast<Pixel>(pixels[i] ^ flip) - least; };
    uint64_t i = 0;
    for (; i + ways <= count; i += ways) {
        ++even[at(i)];
        ++odd[at(i + 1)];
    }
    if (i < count) ++even[at(i)];
    std::transform(even, odd, odd, even, std::plus<>());
    tables.resize(values);
    return {static_cast<int64_t>(least), tables};
}

Counts count_values(const void* pixels, uint64_t count, Dtype dtype) {
    const bool sign = is_signed(dtype);  // signed values are moved up to begin at 0, which is one flipped bit
    if (bytes_per_pixel(dtype) == 1) {
        const uint8_t flip = sign ? 0x80 : 0;
        auto counts = count_keys(static_cast<const uint8_t*>(pixels), count, flip);
        return {counts.first - flip, counts.of};
    }
    const uint16_t flip = sign ? 0x8000 : 0;
    auto counts = count_keys(static_cast<const uint16_t*>(pixels), count, flip);
    return {counts.first - flip, counts.of};
}

}  // namespace

std::vector<double> percentiles(const void* pixels, uint64_t count, Dtype dtype, const std::vector<double>& fractions,
                                Range left_out) {
    const auto [lowest, counts] = count_values(pixels, count, dtype);
    const auto values = static_cast<int64_t>(counts.size());
    const int64_t from = std::max<int64_t>(left_out.low - lowest, 0);
    for (int64_t at = from; at < values && at <= left_out.high - lowest; ++at) counts[at] = 0;

    const uint64_t total = std::accumulate(counts.begin(), counts.end(), uint64_t{0});
    if (total == 0) return {};
    const auto value_at = [&counts = counts](uint64_t rank) {
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

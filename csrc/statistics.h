// Stored values -> their percentiles, exact, by one pass that counts them.
#pragma once

#include <vector>

#include "common.h"

namespace pyrad {

// Values from low to high (inclusive, stored values) do not count.
struct Range {
    int64_t low, high;
};

// For each fraction p in [0, 1] the value at rank p (n - 1) of the n values that count, linear between neighbours;
// empty where none counts. Source: Hyndman and Fan 1996, type 7, which is NumPy's default.
std::vector<double> percentiles(const void* pixels, uint64_t count, Dtype dtype, const std::vector<double>& fractions,
                                Range left_out);

}  // namespace pyrad

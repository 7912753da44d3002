// Any records and any slab -> a batch: nothing outside the slab is read, nothing outside the output written, and both
// compilations agree in every bit.
#include "preprocess.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "instructions.h"

namespace {

constexpr uint32_t side = 24;  // of the output
constexpr size_t most_records = 3;
constexpr size_t lut_count = 64;

void run(const pyrad::Input& input, const std::vector<pyrad::Record>& records, uint8_t form,
         std::vector<uint8_t>& pixels, std::vector<int32_t>& statuses) {
    pyrad::Output output{};
    output.sample = form & 1 ? pyrad::Sample::bfloat16 : form & 8 ? pyrad::Sample::float16 : pyrad::Sample::float32;
    output.channels_last = form & 2;
    output.channels = form & 4 ? 3 : 1;
    output.rows = output.columns = side;
    for (uint32_t c = 0; c < pyrad::most_planes; ++c) output.scale[c] = 1.0f;
    const size_t bytes = size_t{side} * side * output.channels * pyrad::bytes_per_sample(output.sample) * records.size();
    pixels.assign(bytes, 0xA5);
    statuses.assign(records.size(), -1);
    std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes]);
    output.pixels = exact.get();
    pyrad::preprocess(input, records.data(), records.size(), output, statuses.data(), 1);
    memcpy(pixels.data(), exact.get(), bytes);
}

}  // namespace

// Byte 0: form of the output and number of records; then the records as they lie in memory; the rest: the slab, whose
// end also serves as entries of lookup tables.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size < 1) return 0;
    const size_t count = 1 + (data[0] >> 4) % most_records;
    if (size < 1 + count * sizeof(pyrad::Record)) return 0;
    std::vector<pyrad::Record> records(count);
    memcpy(records.data(), data + 1, count * sizeof(pyrad::Record));
    for (const pyrad::Record& record : records) {
        if (uint64_t{record.rows} * record.columns > 1 << 18) return 0;  // large images are slow, not interesting
    }
    const size_t at = 1 + count * sizeof(pyrad::Record);
    std::unique_ptr<uint8_t[]> slab(new uint8_t[size - at]);
    memcpy(slab.get(), data + at, size - at);
    const size_t entries = std::min((size - at) / 2, lut_count);
    std::unique_ptr<uint16_t[]> luts(new uint16_t[entries]);
    memcpy(luts.get(), data + size - 2 * entries, 2 * entries);
    const pyrad::Input input{slab.get(), size - at, luts.get(), entries};
    std::vector<uint8_t> fast, portable;
    std::vector<int32_t> fast_statuses, portable_statuses;
    run(input, records, data[0], fast, fast_statuses);
    pyrad::instructions_in_use = pyrad::Instructions::portable;
    run(input, records, data[0], portable, portable_statuses);
    pyrad::instructions_in_use = pyrad::best_instructions();
    if (fast != portable || fast_statuses != portable_statuses) abort();
    return 0;
}

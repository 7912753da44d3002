// Chunks of 512x512 images on stdin -> the nanoseconds an image that each stage of preprocess() takes, on stdout.
//
// Each stage runs alone, again and again on what fits the first cache; "in all" is preprocess() over the same chunks.
// Five more lines tell what the machine has: nanoseconds of a cycle, of a byte that is read from memory or copied, and
// of a loop of multiplications alone and while another thread runs it too: what a second core brings at most.
// Arguments: rounds, and images a round. A chunk: its dtype (1 byte), its size (4 bytes, little-endian), its bytes with
// their crc32c. A line of output: the stage, then one figure a round.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "crc32c.h"
#include "instructions.h"
#include "passes.h"
#include "preprocess.h"
#include "segment.h"
#include "vectors.h"

using namespace pyrad;

namespace {

constexpr uint32_t side = 512;
constexpr uint32_t out_side = 224;
constexpr uint32_t strips = side / tilepack::tile_height;
constexpr uint32_t blocks = out_side / lanes;

struct Chunk {
    Dtype dtype;
    std::vector<uint8_t> bytes;
    size_t size() const { return bytes.size() - 4; }  // without the crc32c
};

std::vector<Chunk> read_chunks() {
    std::vector<Chunk> chunks;
    uint8_t head[5];
    while (std::fread(head, 1, sizeof head, stdin) == sizeof head) {
        Chunk chunk{static_cast<Dtype>(head[0]), std::vector<uint8_t>(load_le<uint32_t>(head + 1))};
        if (std::fread(chunk.bytes.data(), 1, chunk.bytes.size(), stdin) != chunk.bytes.size()) std::exit(1);
        chunks.push_back(std::move(chunk));
    }
    return chunks;
}

Record record_of(const Chunk& chunk, uint64_t offset) {
    Record r{};
    r.chunk_offset[0] = offset;
    r.chunk_size[0] = chunk.bytes.size();
    r.x1 = r.y1 = side;
    r.rows = r.columns = side;
    r.windows = 1;
    r.a[0] = 1.0f;
    r.span[0] = 1500;
    r.dst_w = r.dst_h = out_side;
    r.dtype = static_cast<uint8_t>(chunk.dtype);
    r.planes = 1;
    r.codec = static_cast<uint8_t>(Codec::tilepack);
    r.crc = 1;
    r.voi[0] = static_cast<uint8_t>(Voi::clip);
    return r;
}

using Pass = std::function<void()>;  // one image of a stage

double ns_of(const Pass& pass, uint32_t images) {
    const auto began = std::chrono::steady_clock::now();
    for (uint32_t i = 0; i < images; ++i) pass();
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - began).count() / images;
}

template <class Work>
Pass fastest(const Work& work) {
    return [work] { run_fastest(work); };
}

template <class Set>
void decode(const Chunk& chunk, uint16_t* strip) {
    tilepack::Grid grid;
    if (tilepack::check<Set>(chunk.bytes.data(), chunk.size(), side, side, chunk.dtype, grid) != Status::ok)
        std::exit(1);
    tilepack::Segment segment{};
    for (uint32_t y = 0; y < side; y += tilepack::tile_height) {
        const bool top = y % tilepack::segment_rows == 0;
        if (top) {
            segment = tilepack::open_segment<Set, uint16_t>(chunk.bytes.data(), grid, y / tilepack::segment_rows);
        }
        const uint16_t* const above = top ? nullptr : strip + (y - 1) % strip_rows * side;
        tilepack::decode_tile_row<Set>(segment, grid, tilepack::whole_row(grid), tilepack::tile_height, above,
                                       strip + y % strip_rows * side, side);
    }
}

}  // namespace

int main(int count, char** arguments) {
    const int rounds = count > 1 ? std::atoi(arguments[1]) : 1;
    const uint32_t images = count > 2 ? static_cast<uint32_t>(std::atoi(arguments[2])) : 1;
    const std::vector<Chunk> chunks = read_chunks();
    if (chunks.empty()) return 1;

    const Record r = record_of(chunks[0], 0);
    Needs needs;
    needs.add(r, {}, false);
    Scratch scratch(needs);
    scratch.x.build(axis_x(r), false);
    scratch.y.build(axis_y(r), false);
    const WindowParams window = {0, 1.0f, 0.0f, 1.0f, 0.0f, 1500, 1, 0};
    WindowParams ramp = window;
    ramp.a = 1.0f / 1500;
    std::vector<uint8_t> slab;
    std::vector<Record> records;
    for (const Chunk& chunk : chunks) {
        records.push_back(record_of(chunk, slab.size()));
        slab.insert(slab.end(), chunk.bytes.begin(), chunk.bytes.end());
        slab.resize((slab.size() + 63) / 64 * 64 + 64);
    }
    std::vector<float> batch(records.size() * out_side * out_side + 16);
    std::vector<int32_t> statuses(records.size());
    float* const out = batch.data() + (64 - reinterpret_cast<uintptr_t>(batch.data()) % 64) / sizeof(float);

    float* const ring = scratch.ring.get();
    float* const tiles = scratch.across.get();
    float* const finished = scratch.finished.get();
    uint16_t* const strip = scratch.strip.get();
    const auto* const stored = reinterpret_cast<const uint8_t*>(strip);
    size_t next = 0;  // the chunk that is next
    volatile uint32_t kept = 0;

    const auto store = [&](auto set, auto sample) {
        using Sample = decltype(sample);
        for (uint32_t i = 0; i < blocks; ++i) {
            store_tiles<typename decltype(set)::type>(finished, lanes, out_side, 2.0f, -1.0f,
                                                      reinterpret_cast<Sample*>(out) + i * lanes * out_side, out_side,
                                                      1);
        }
    };
    const auto in_all = [&](Sample sample) {
        const Output output = {out, sample, false, out_side, out_side, 1, {2.0f}, {-1.0f}};
        preprocess({slab.data(), slab.size(), nullptr, 0}, records.data(), records.size(), output, statuses.data(), 1);
        for (const int32_t status : statuses) kept = kept | static_cast<uint32_t>(status);
    };
    struct Stage {
        const char* name;
        Pass pass;
        size_t images;  // of a pass
    };
    const std::vector<Stage> stages = {
        {"crc32c",
         [&] {
             const Chunk& chunk = chunks[next++ % chunks.size()];
             kept = kept + crc32c(chunk.bytes.data(), chunk.size());
         },
         1},
        {"check and decode",
         fastest([&](auto set) { decode<typename decltype(set)::type>(chunks[next++ % chunks.size()], strip); }), 1},
        {"window, clip", fastest([&](auto set) {
             for (uint32_t y = 0; y < side; ++y) {
                 window_row<typename decltype(set)::type, uint16_t, Voi::clip>(stored + y % strip_rows * side * 2, side,
                                                                               window, ring + y % 5 * side);
             }
         }),
         1},
        {"window, ramp", fastest([&](auto set) {
             for (uint32_t y = 0; y < side; ++y) {
                 window_row<typename decltype(set)::type, uint16_t, Voi::ramp>(stored + y % strip_rows * side * 2, side,
                                                                               ramp, ring + y % 5 * side);
             }
         }),
         1},
        {"vertical", fastest([&](auto) {
             const auto row = [&](uint32_t k) { return ring + k * side; };
             for (uint32_t y = 0; y < out_side; ++y) {
                 resize_rows(scratch.y.weights(y), scratch.y.count(), row, side, tiles + y % lanes * lanes);
             }
         }),
         1},
        {"transpose", fastest([&](auto set) {
             for (uint32_t i = 0; i < blocks; ++i) transpose_tiles<typename decltype(set)::type>(tiles, side);
         }),
         1},
        {"horizontal", fastest([&](auto) {
             for (uint32_t i = 0; i < blocks; ++i) resize_columns(scratch.x, out_side, tiles, finished);
         }),
         1},
        {"transpose back", fastest([&](auto set) {
             for (uint32_t i = 0; i < blocks; ++i) transpose_tiles<typename decltype(set)::type>(finished, out_side);
         }),
         1},
        {"store, float32", fastest([&](auto set) { store(set, float{}); }), 1},
        {"store, bfloat16", fastest([&](auto set) { store(set, Bfloat16{}); }), 1},
        {"in all, float32", [&] { in_all(Sample::float32); }, records.size()},
        {"in all, bfloat16", [&] { in_all(Sample::bfloat16); }, records.size()},
    };
    std::vector<uint64_t> memory(size_t{32} << 20, 1), copy(memory.size());  // 256 MiB, beyond every cache
    const double memory_bytes = static_cast<double>(memory.size() * sizeof memory[0]);
    constexpr uint32_t cycles = 10'000'000;
    const Pass compute = fastest([&](auto) {
        float sums[64] = {};
        const float by = 1.0f + static_cast<float>(next % 2);
        for (uint32_t i = 0; i < cycles; ++i) {
            for (float& sum : sums) sum = fmaf(sum, by, by);
        }
        kept = kept + static_cast<uint32_t>(sums[next % 64] < 0.0f);
    });
    struct Machine {
        const char* name;
        Pass pass;
        double units;  // of a pass
    };
    const std::vector<Machine> machine = {
        {"cycle",
         [&] {
             uint64_t sum = 0;
             for (uint32_t i = 0; i < cycles; ++i) asm volatile("" : "+r"(++sum));  // each waits for the last
             kept = kept + static_cast<uint32_t>(sum);
         },
         cycles},
        {"read a byte", fastest([&](auto) {
             uint64_t sum = 0;
             for (const uint64_t word : memory) sum += word;
             kept = kept + static_cast<uint32_t>(sum);
         }),
         memory_bytes},
        {"copy a byte",
         [&] {
             std::memcpy(copy.data(), memory.data(), memory.size() * sizeof memory[0]);
             kept = kept + static_cast<uint32_t>(copy[next % copy.size()]);
         },
         memory_bytes},
        {"compute", compute, cycles},
        {"compute, beside another",
         [&] {
             std::thread other(compute);
             compute();
             other.join();
         },
         cycles},
    };
    std::vector<std::string> lines;
    for (const Stage& stage : stages) lines.emplace_back(stage.name);
    for (const Machine& fact : machine) lines.emplace_back(fact.name);
    for (int round = 0; round < rounds; ++round) {
        for (size_t i = 0; i < stages.size(); ++i) {
            const size_t passes = (images + stages[i].images - 1) / stages[i].images;
            const double ns = ns_of(stages[i].pass, static_cast<uint32_t>(passes)) / stages[i].images;
            lines[i] += "\t" + std::to_string(ns);
        }
        for (size_t i = 0; i < machine.size(); ++i) {
            lines[stages.size() + i] += "\t" + std::to_string(ns_of(machine[i].pass, 1) / machine[i].units);
        }
    }
    for (const std::string& line : lines) std::puts(line.c_str());
    return kept == 0xffffffff ? 1 : 0;
}

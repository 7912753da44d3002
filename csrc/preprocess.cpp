// Chunks -> normalised images: the driver around tilepack.h, window.h and resize.h. csrc/README.md draws the flow.
#include "preprocess.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <system_error>
#include <thread>
#include <vector>

#include "admit.h"
#include "crc32c.h"
#include "image.h"
#include "instructions.h"
#include "passes.h"
#include "reader.h"
#include "scratch.h"
#include "segment.h"
#include "turn.h"
#include "vectors.h"

namespace pyrad {
namespace {

// --- Stored rows ---

struct Plane {
    const uint8_t* chunk;
    bool packed;
    tilepack::Grid grid;
    tilepack::Span span;
    uint32_t next;  // the first row that is not decoded; of a tile row
    tilepack::Segment segment;
};

// The chunk of a plane: where it lies in the slab, or read, so that a cache still has it when it is decoded.
inline Status fetch_chunk(const Input& input, int32_t file, const Record& r, uint32_t index, Scratch& scratch,
                          const uint8_t*& chunk) {
    if (file < 0) {
        chunk = input.slab + r.chunk_offset[index];
        return Status::ok;
    }
    using Clock = std::chrono::steady_clock;
    const auto began = Clock::now();
    chunk = scratch.chunk.get();
    const Status status = read_range(file, r.chunk_offset[index], r.chunk_size[index], scratch.chunk.get());
    scratch.read_ns += std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - began).count();
    return status;
}

template <class Set>
inline Status open_plane(const Record& r, uint32_t index, Plane& plane) {
    uint64_t size = r.chunk_size[index];
    plane.packed = r.codec == static_cast<uint8_t>(Codec::tilepack);
    if (r.crc != 0) {
        size -= crc_bytes;
        if (crc32c(plane.chunk, size) != load_le<uint32_t>(plane.chunk + size)) return Status::checksum;
    }
    if (!plane.packed) return Status::ok;
    return tilepack::check<Set>(plane.chunk, size, r.rows, r.columns, static_cast<Dtype>(r.dtype), plane.grid);
}

// Decodes a tile row into the strip. All four rows of it, also those below the image: there is room for them.
template <class Set, class Pixel>
inline void decode_next(Plane& plane, Pixel* strip, size_t stride) {
    const bool top = plane.next % tilepack::segment_rows == 0;
    if (top) {
        const uint32_t index = plane.next / tilepack::segment_rows;
        plane.segment = tilepack::open_segment<Set, Pixel>(plane.chunk, plane.grid, index);
    }
    const Pixel* const above = top ? nullptr : strip + (plane.next - 1) % strip_rows * stride;
    Pixel* const out = strip + plane.next % strip_rows * stride;
    tilepack::decode_tile_row<Set>(plane.segment, plane.grid, plane.span, tilepack::tile_height, above, out, stride);
    plane.next += tilepack::tile_height;
}

// Row y as bytes. Rows are asked for in ascending order, so each tile row is decoded once.
template <class Set, class Pixel>
inline const uint8_t* stored_row(const Record& r, Plane& plane, uint32_t y, uint16_t* strip) {
    if (!plane.packed) return plane.chunk + size_t{y} * r.columns * sizeof(Pixel);
    auto* const pixels = reinterpret_cast<std::make_unsigned_t<Pixel>*>(strip);
    const size_t stride = padded_width(r.columns);
    while (plane.next <= y) decode_next<Set>(plane, pixels, stride);
    return reinterpret_cast<const uint8_t*>(pixels + y % strip_rows * stride);
}

// Row y of the source, columns begin to end, as y in [0, 1].
template <class Set>
inline void windowed_row(const Record& r, Plane& plane, uint32_t y, uint32_t begin, uint32_t end, const Window& window,
                         uint16_t* strip, float* out) {
    const auto run = [&](auto pixel) {
        using Pixel = decltype(pixel);
        const uint8_t* row = stored_row<Set, Pixel>(r, plane, y, strip);
        window_row<Set, Pixel>(r, row + begin * sizeof(Pixel), end - begin, window, out);
    };
    switch (static_cast<Dtype>(r.dtype)) {
        case Dtype::u8:
            return run(uint8_t{});
        case Dtype::i8:
            return run(int8_t{});
        case Dtype::u16:
            return run(uint16_t{});
        case Dtype::i16:
            return run(int16_t{});
    }
}

inline Lut lut_of(const LutRange& range, const uint16_t* entries) {
    return range.count == 0 ? Lut{} : Lut{entries + range.at, range.count, range.first};
}

inline WindowParams params_of(const Record& r, uint32_t w) {
    const int32_t pad_low = r.padded != 0 ? r.pad_low : 1;
    const int32_t pad_high = r.padded != 0 ? r.pad_high : 0;
    const int32_t s_ref = r.s_ref[w];
    const int32_t span = r.span[w];
    const float a = r.a[w];
    if (!is_clip(r, w)) {
        return {s_ref, a, r.b[w], r.invert != 0 ? -1.0f : 1.0f, r.invert != 0 ? 1.0f : 0.0f, 0, pad_low, pad_high};
    }
    if (r.invert == 0) return {s_ref, a, 0.0f, 1.0f, 0.0f, span, pad_low, pad_high};
    const int32_t white = a > 0.0f ? s_ref + span : s_ref - span;
    return {white, -a, 0.0f, 1.0f, 0.0f, span, pad_low, pad_high};  // counted from the other end
}

inline Window window_of(const Record& r, uint32_t w, const uint16_t* lut_entries) {
    const Luts luts = {lut_of(r.modality_lut, lut_entries), lut_of(r.voi_lut[w], lut_entries)};
    return {static_cast<Voi>(r.voi[w]), params_of(r, w), luts};
}

// What window w left for the normalisation: Note [clip] in window.h.
inline float scale_of(const Record& r, uint32_t w, float scale) {
    return is_clip(r, w) ? scale / static_cast<float>(r.span[w]) : scale;
}

// The channels of the output that show a plane, or one of its windows: equal but for the normalisation.
struct Channels {
    uint32_t first;
    uint32_t end;
};

inline Channels channels_of(const Record& r, uint32_t w, Channels plane) {
    return r.windows == 1 ? plane : Channels{w, w + 1};
}

// Rows `begin` and on, so far resized down, in tiles: resized across, and into the output.
template <class Set>
inline void finish_rows(const Record& r, uint32_t w, const Image& image, Channels channels, uint32_t begin,
                        uint32_t rows, float* tiles, Scratch& scratch) {
    const TapTable& across = scratch.x;
    float* const finished = scratch.finished.get();
    transpose_tiles<Set>(tiles, across.end() - across.begin());
    resize_columns(across, r.dst_w, tiles, finished);
    transpose_tiles<Set>(finished, r.dst_w);
    const bool up = r.flip_y != 0;
    const uint32_t y = up ? r.dst_h - begin - rows : begin;
    for (uint32_t c = channels.first; c < channels.end; ++c) {
        image.store<Set>(finished, rows, r.dst_w, r.dst_y + y, r.dst_x, up, c, scale_of(r, w, image.output.scale[c]));
    }
}

// One opened plane, through its windows.
template <class Set>
inline void render_plane(const Record& r, Plane& plane, const Image& image, Channels channels,
                         const uint16_t* lut_entries, Scratch& scratch) {
    const uint32_t windows = r.windows;
    Window window[most_windows];
    for (uint32_t w = 0; w < windows; ++w) window[w] = window_of(r, w, lut_entries);
    const TapTable& across = scratch.x;
    const TapTable& down = scratch.y;
    const uint32_t width = across.end() - across.begin();
    const size_t stride = padded_width(width);
    float* const ring = scratch.ring.get();
    float* const across_tiles = scratch.across.get();
    const auto in_ring = [&](uint32_t w, uint32_t y) { return ring + (w * down.count() + y % down.count()) * stride; };
    const auto tiles = [&](uint32_t w) { return across_tiles + w * lanes * stride; };
    uint32_t next_row = down.begin();
    plane.next = next_row / tilepack::segment_rows * tilepack::segment_rows;
    if (plane.packed) plane.span = tilepack::span_of(plane.grid, across.begin(), across.end());
    for (uint32_t begin = 0; begin < r.dst_h; begin += lanes) {
        const uint32_t rows = std::min(lanes, r.dst_h - begin);
        for (uint32_t lane = 0; lane < rows; ++lane) {
            const uint32_t first = down.first(begin + lane);
            for (next_row = std::max(next_row, first); next_row < first + down.count(); ++next_row) {
                for (uint32_t w = 0; w < windows; ++w) {
                    windowed_row<Set>(r, plane, next_row, across.begin(), across.end(), window[w], scratch.strip.get(),
                                      in_ring(w, next_row));
                }
            }
            for (uint32_t w = 0; w < windows; ++w) {
                const auto row = [&](uint32_t k) { return in_ring(w, first + k); };
                resize_rows(down.weights(begin + lane), down.count(), row, width, tiles(w) + lane * lanes);
            }
        }
        for (uint32_t w = 0; w < windows; ++w) {
            finish_rows<Set>(r, w, image, channels_of(r, w, channels), begin, rows, tiles(w), scratch);
        }
    }
}

template <class Set>
inline Status render(const Input& input, int32_t file, const Record& r, const Image& image, Scratch& scratch) {
    scratch.y.build(axis_y(r), false);  // a vertical flip is the order in which rows are stored
    scratch.x.build(axis_x(r), r.flip_x != 0);
    if (r.dst_w != image.output.columns || r.dst_h != image.output.rows) {
        for (uint32_t channel = 0; channel < image.output.channels; ++channel) image.fill_background(channel);
    }
    for (uint32_t index = 0; index < r.planes; ++index) {
        Plane plane{};
        Status status = fetch_chunk(input, file, r, index, scratch, plane.chunk);
        if (status == Status::ok) status = open_plane<Set>(r, index, plane);
        if (status != Status::ok) return status;
        const Channels channels = {index, r.planes == 1 ? image.output.channels : index + 1};
        render_plane<Set>(r, plane, image, channels, input.lut_entries, scratch);
    }
    Set::finish_samples();
    return Status::ok;
}

// The grids of an image that is turned, as an output: one for each channel that differs, with their borders. What a
// clip leaves to the normalisation is left to that of the output.
inline Output grids_of(const Record& r, float* pixels) {
    Output grids{};
    grids.pixels = pixels;
    grids.sample = Sample::float32;
    grids.rows = r.dst_h + both_borders;
    grids.columns = r.dst_w + both_borders;
    grids.channels = std::max<uint32_t>(r.windows, r.planes);
    for (uint32_t c = 0; c < grids.channels; ++c) {
        const uint32_t w = r.windows == 1 ? 0 : c;
        grids.scale[c] = is_clip(r, w) ? static_cast<float>(r.span[w]) : 1.0f;
    }
    return grids;
}

// What was drawn on the grids into the output.
template <class Set>
inline void turn_image(const Record& r, const Output& grids, const Image& image, float* line) {
    for (uint32_t channel = 0; channel < grids.channels; ++channel) {
        const Grid grid = {static_cast<float*>(grids.pixels) + channel * grid_size(r), r.dst_h, r.dst_w, grids.columns};
        const uint32_t w = r.windows == 1 ? 0 : channel;
        const uint32_t end = grids.channels == 1 ? image.output.channels : channel + 1;
        for (uint32_t v = 0; v < image.output.rows; ++v) {
            turn_row(grid, r.turn, v, image.output.columns, line);
            for (uint32_t c = channel; c < end; ++c)
                image.store_line<Set>(line, v, c, scale_of(r, w, image.output.scale[c]));
        }
    }
}

// One image: drawn at once, or on grids and then turned.
Status make(const Input& input, int32_t file, const Record& r, const Image& image, Scratch& scratch) {
    Record drawn = r;
    Output drawn_on = image.output;
    if (r.turned != 0) {
        drawn_on = grids_of(r, scratch.grids.get());
        drawn.dst_x = drawn.dst_y = border;
    }
    const Image target = {drawn_on, r.turned != 0 ? drawn_on.pixels : image.pixels};
    Status status = Status::ok;
    run_fastest([&](auto tag) { status = render<typename decltype(tag)::type>(input, file, drawn, target, scratch); });
    if (status == Status::ok && r.turned != 0) {
        run_fastest(
            [&](auto tag) { turn_image<typename decltype(tag)::type>(r, drawn_on, image, scratch.line.get()); });
    }
    return status;
}

}  // namespace

void preprocess(const Input& input, const Record* records, size_t count, const Output& output, int32_t* statuses,
                unsigned threads, int64_t* read_ns) {
    Needs needs;
    for (size_t i = 0; i < count; ++i) {
        const Status status = admit(records[i], output, input, i);
        statuses[i] = static_cast<int32_t>(status);
        if (status == Status::ok) needs.add(records[i], output, file_of(input, i) >= 0);
    }
    const size_t wanted = std::max<size_t>(1, std::min<size_t>(threads, count));
    std::vector<Scratch> scratch;
    scratch.reserve(wanted);
    while (scratch.size() < wanted) scratch.emplace_back(needs);

    std::atomic<size_t> next{0};
    const auto work = [&](Scratch& own) {
        for (size_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
            Image image = {output, output.pixels};
            image.pixels = static_cast<uint8_t*>(output.pixels) + i * image.bytes();
            auto status = static_cast<Status>(statuses[i]);
            own.read_ns = 0;
            if (status == Status::ok) status = make(input, file_of(input, i), records[i], image, own);
            if (status != Status::ok) memset(image.pixels, 0, image.bytes());
            statuses[i] = static_cast<int32_t>(status);
            if (read_ns != nullptr) read_ns[i] = own.read_ns;
        }
    };
    std::vector<std::thread> helpers;
    helpers.reserve(wanted);
    try {
        while (helpers.size() + 1 < wanted) helpers.emplace_back(work, std::ref(scratch[helpers.size() + 1]));
    } catch (const std::system_error&) {
        // No more threads to be had: those that run, this one included, do all the work.
    }
    work(scratch[0]);
    for (std::thread& helper : helpers) helper.join();
}

}  // namespace pyrad

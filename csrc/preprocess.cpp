// Chunks -> normalised images: the driver around tilepack.h, window.h and resize.h. csrc/README.md draws the flow.
#include "preprocess.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <system_error>
#include <thread>
#include <vector>

#include "crc32c.h"
#include "instructions.h"
#include "passes.h"
#include "reader.h"
#include "scratch.h"
#include "segment.h"
#include "vectors.h"

namespace pyrad {
namespace {

constexpr uint32_t crc_bytes = 4;          // at the end of a chunk
constexpr int32_t largest_span = 65535;    // of a clip
constexpr uint32_t largest_lut = 1 << 17;  // entries: as many as there are values in 16 bits, signed and unsigned
constexpr uint64_t pixels_a_byte = 64;  // no tilepack chunk holds more: 32 pixels cost at least the 4 bits of a width

// --- Trust nothing ---

inline bool is_clip(const Record& r) { return r.voi == static_cast<uint8_t>(Voi::clip); }

bool is_finite(float value) { return value - value == 0.0f; }

bool is_sane(const LutRange& lut, uint64_t entries) {
    return lut.count == 0 || (lut.at <= entries && lut.count <= entries - lut.at && lut.count <= largest_lut &&
                              lut.first >= -largest_s_ref && lut.first <= largest_s_ref);
}

bool is_sane(const Record& r, const Output& out, uint64_t lut_entries) {
    const bool image = r.rows >= 1 && r.rows <= largest_side && r.columns >= 1 && r.columns <= largest_side &&
                       is_dtype(r.dtype) && (r.planes == 1 || (r.planes == most_planes && out.channels == most_planes));
    const bool box = r.x0 >= 0 && r.x0 < r.x1 && r.x1 <= r.columns && r.y0 >= 0 && r.y0 < r.y1 && r.y1 <= r.rows;
    const bool destination = r.dst_w >= 1 && r.dst_h >= 1 && r.dst_w <= out.columns && r.dst_h <= out.rows &&
                             r.dst_x <= out.columns - r.dst_w && r.dst_y <= out.rows - r.dst_h;
    const bool window = r.s_ref >= -largest_s_ref && r.s_ref <= largest_s_ref && is_finite(r.a) && is_finite(r.b) &&
                        r.voi <= static_cast<uint8_t>(Voi::clip) &&
                        (!is_clip(r) || (r.span >= 1 && r.span <= largest_span));
    const bool by_table = r.voi == static_cast<uint8_t>(Voi::table);
    const bool luts = is_sane(r.modality_lut, lut_entries) && is_sane(r.voi_lut, lut_entries) &&
                      by_table == (r.voi_lut.count != 0) && (!by_table || r.a >= 1.0f);
    return image && box && destination && window && luts && r.codec <= static_cast<uint8_t>(Codec::tilepack);
}

constexpr int32_t no_file = -1;

int32_t file_of(const Input& input, size_t image) { return input.files == nullptr ? no_file : input.files[image]; }

// More than any chunk of the image has, of any codec: what may be claimed of a file and had as memory.
uint64_t most_chunk_bytes(const Record& r) {
    return 2 * uint64_t{r.rows + 7} * (r.columns + 7) * bytes_per_pixel(static_cast<Dtype>(r.dtype)) + 4096;
}

// Sizes only: what decides how much memory the image takes.
Status admit(const Record& r, const Output& out, const Input& input, size_t image) {
    if (!is_sane(r, out, input.lut_count)) return Status::record;
    const uint64_t pixels = uint64_t{r.rows} * r.columns;
    for (uint32_t plane = 0; plane < r.planes; ++plane) {
        const uint64_t offset = r.chunk_offset[plane];
        const uint64_t size = r.chunk_size[plane];
        const uint64_t trailer = r.crc != 0 ? crc_bytes : 0;
        const bool held = file_of(input, image) < 0 ? offset <= input.slab_bytes && size <= input.slab_bytes - offset
                                                    : size <= most_chunk_bytes(r);
        if (!held || size < trailer) return Status::bounds;
        const uint64_t payload = size - trailer;
        const bool fits = r.codec == static_cast<uint8_t>(Codec::raw)
                              ? payload == pixels * bytes_per_pixel(static_cast<Dtype>(r.dtype))
                              : pixels / pixels_a_byte <= payload;
        if (!fits) return Status::bounds;
    }
    return Status::ok;
}

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
inline void windowed_row(const Record& r, Plane& plane, uint32_t y, uint32_t begin, uint32_t end,
                         const WindowParams& window, const Luts& luts, uint16_t* strip, float* out) {
    const auto run = [&](auto pixel) {
        using Pixel = decltype(pixel);
        const uint8_t* row = stored_row<Set, Pixel>(r, plane, y, strip);
        window_row<Set, Pixel>(r, row + begin * sizeof(Pixel), end - begin, window, luts, out);
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

// One image of the output.
struct Image {
    const Output& output;
    void* pixels;

    // Calls body(first, step): the channel's samples, of the output's type, are first[0], first[step] and so on.
    template <class Body>
    inline void visit(uint32_t channel, const Body& body) const {
        const size_t step = output.channels_last ? output.channels : 1;
        const size_t first = output.channels_last ? channel : channel * area();
        switch (output.sample) {
            case Sample::float32:
                return body(static_cast<float*>(pixels) + first, step);
            case Sample::bfloat16:
                return body(static_cast<Bfloat16*>(pixels) + first, step);
            case Sample::float16:
                return body(static_cast<Float16*>(pixels) + first, step);
        }
    }

    size_t area() const { return size_t{output.rows} * output.columns; }
    size_t bytes() const { return output.channels * area() * bytes_per_sample(output.sample); }

    // The first `rows` rows of tiles, the upper left corner at (y, x); `up`: the first of them the lowest.
    template <class Set>
    inline void store(const float* tiles, uint32_t rows, uint32_t width, uint32_t y, uint32_t x, bool up,
                      uint32_t channel, float scale) const {
        visit(channel, [&](auto* first, size_t step) {
            const auto stride = static_cast<ptrdiff_t>(output.columns * step);
            const size_t corner = (size_t{up ? y + rows - 1 : y} * output.columns + x) * step;
            store_tiles<Set>(tiles, rows, width, scale, output.shift[channel], first + corner, up ? -stride : stride,
                             step);
        });
    }

    // What y = 0 looks like, where a letterbox shows it.
    inline void fill_background(uint32_t channel) const {
        visit(channel, [&](auto* first, size_t step) {
            const float background = fmaf(0.0f, output.scale[channel], output.shift[channel]);
            const auto sample = as_sample(background, *first);
            for (size_t i = 0; i < area(); ++i) first[i * step] = sample;
        });
    }
};

inline Lut lut_of(const LutRange& range, const uint16_t* entries) {
    return range.count == 0 ? Lut{} : Lut{entries + range.at, range.count, range.first};
}

inline WindowParams window_of(const Record& r) {
    const int32_t pad_low = r.padded != 0 ? r.pad_low : 1;
    const int32_t pad_high = r.padded != 0 ? r.pad_high : 0;
    if (!is_clip(r)) {
        return {r.s_ref, r.a, r.b, r.invert != 0 ? -1.0f : 1.0f, r.invert != 0 ? 1.0f : 0.0f, 0, pad_low, pad_high};
    }
    if (r.invert == 0) return {r.s_ref, r.a, 0.0f, 1.0f, 0.0f, r.span, pad_low, pad_high};
    const int32_t white = r.a > 0.0f ? r.s_ref + r.span : r.s_ref - r.span;
    return {white, -r.a, 0.0f, 1.0f, 0.0f, r.span, pad_low, pad_high};  // counted from the other end
}

// One opened plane into channels `channel` to `end_channel`, all equal but for the normalisation.
template <class Set>
inline void render_plane(const Record& r, Plane& plane, const Image& image, uint32_t channel, uint32_t end_channel,
                         const uint16_t* lut_entries, Scratch& scratch) {
    const WindowParams window = window_of(r);
    const Luts luts = {lut_of(r.modality_lut, lut_entries), lut_of(r.voi_lut, lut_entries)};
    const TapTable& across = scratch.x;
    const TapTable& down = scratch.y;
    const uint32_t width = across.end() - across.begin();
    const size_t stride = padded_width(width);
    float* const ring = scratch.ring.get();
    float* const across_tiles = scratch.across.get();
    float* const finished = scratch.finished.get();
    const auto in_ring = [&](uint32_t y) { return ring + y % down.count() * stride; };
    uint32_t next_row = down.begin();
    plane.next = next_row / tilepack::segment_rows * tilepack::segment_rows;
    if (plane.packed) plane.span = tilepack::span_of(plane.grid, across.begin(), across.end());
    for (uint32_t begin = 0; begin < r.dst_h; begin += lanes) {
        const uint32_t rows = std::min(lanes, r.dst_h - begin);
        for (uint32_t lane = 0; lane < rows; ++lane) {
            const uint32_t first = down.first(begin + lane);
            for (next_row = std::max(next_row, first); next_row < first + down.count(); ++next_row) {
                windowed_row<Set>(r, plane, next_row, across.begin(), across.end(), window, luts, scratch.strip.get(),
                                  in_ring(next_row));
            }
            const auto row = [&](uint32_t k) { return in_ring(first + k); };
            resize_rows(down.weights(begin + lane), down.count(), row, width, across_tiles + lane * lanes);
        }
        transpose_tiles<Set>(across_tiles, width);
        resize_columns(across, r.dst_w, across_tiles, finished);
        transpose_tiles<Set>(finished, r.dst_w);
        const uint32_t y = r.dst_y + (r.flip_y != 0 ? r.dst_h - begin - rows : begin);
        for (uint32_t c = channel; c < end_channel; ++c) {
            const float scale = is_clip(r) ? image.output.scale[c] / static_cast<float>(r.span) : image.output.scale[c];
            image.store<Set>(finished, rows, r.dst_w, y, r.dst_x, r.flip_y != 0, c, scale);
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
        const uint32_t end_channel = r.planes == 1 ? image.output.channels : index + 1;
        render_plane<Set>(r, plane, image, index, end_channel, input.lut_entries, scratch);
    }
    Set::finish_samples();
    return Status::ok;
}

}  // namespace

void preprocess(const Input& input, const Record* records, size_t count, const Output& output, int32_t* statuses,
                unsigned threads, int64_t* read_ns) {
    Needs needs;
    for (size_t i = 0; i < count; ++i) {
        const Status status = admit(records[i], output, input, i);
        statuses[i] = static_cast<int32_t>(status);
        if (status == Status::ok) needs.add(records[i], file_of(input, i) >= 0);
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
            if (status == Status::ok) {
                const int32_t file = file_of(input, i);
                run_fastest([&](auto tag) {
                    status = render<typename decltype(tag)::type>(input, file, records[i], image, own);
                });
            }
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

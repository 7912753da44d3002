// Records -> the memory that one thread works in: allocated once a batch, for the largest image in it.
#pragma once

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

#include "preprocess.h"
#include "resize.h"
#include "tilepack.h"
#include "turn.h"

namespace pyrad {

constexpr uint32_t lanes = 8;  // output rows that go through the horizontal pass side by side

constexpr uint32_t strip_rows = 2 * tilepack::tile_height;

constexpr size_t spare_bytes = 64;  // behind a chunk: what a decoder may load past its end

inline size_t padded_width(size_t floats) { return (floats + 15) / 16 * 16; }

// --- What one thread works in: allocated once, for the largest image ---

template <class T>
class Buffer {
   public:
    explicit Buffer(size_t count) : data_(static_cast<T*>(::operator new(count * sizeof(T), alignment))) {
        std::fill(data_, data_ + count, T{});
    }
    Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
    ~Buffer() { ::operator delete(data_, alignment); }
    T* get() { return data_; }

   private:
    static constexpr std::align_val_t alignment{64};
    T* data_;
};

// The taps of every output pixel of an axis, each given equally many (by taps of weight 0).
class TapTable {
   public:
    void reserve(uint32_t most_out, size_t most_weights) {
        first_.reserve(most_out);
        weights_.reserve(most_weights);
    }

    // Entry i is output pixel i, or, `mirrored`, pixel out - 1 - i. Nothing is done where the table is that already.
    void build(const Axis& axis, bool mirrored) {
        if (first_.size() == axis.out && axis.low == axis_.low && axis.high == axis_.high && axis.size == axis_.size &&
            mirrored == mirrored_) {
            return;
        }
        axis_ = axis;
        mirrored_ = mirrored;
        first_.resize(axis.out);
        count_ = 0;
        begin_ = taps_of(axis, 0).first;
        end_ = begin_;
        for (uint32_t i = 0; i < axis.out; ++i) {
            const Taps taps = taps_of(axis, i);
            count_ = std::max(count_, taps.count);
            end_ = std::max(end_, taps.first + taps.count);
        }
        weights_.assign(size_t{axis.out} * count_, 0.0f);
        for (uint32_t i = 0; i < axis.out; ++i) {
            const Taps taps = taps_of(axis, i);
            const uint32_t entry = mirrored ? axis.out - 1 - i : i;
            first_[entry] = std::min(taps.first, end_ - count_);
            tap_weights(axis, i, taps, &weights_[size_t{entry} * count_ + (taps.first - first_[entry])]);
        }
    }

    uint32_t begin() const { return begin_; }  // the source pixels that any output reads
    uint32_t end() const { return end_; }
    uint32_t count() const { return count_; }
    uint32_t first(uint32_t entry) const { return first_[entry]; }
    const float* weights(uint32_t entry) const { return &weights_[size_t{entry} * count_]; }

   private:
    Axis axis_{};
    bool mirrored_ = false;
    uint32_t begin_ = 0;
    uint32_t end_ = 0;
    uint32_t count_ = 0;
    std::vector<uint32_t> first_;
    std::vector<float> weights_;
};

inline Axis axis_y(const Record& r) { return {r.y0, r.y1, r.rows, r.dst_h}; }
inline Axis axis_x(const Record& r) { return {r.x0, r.x1, r.columns, r.dst_w}; }

// Elements of each buffer that the images given to `add` need.
struct Needs {
    size_t chunk = 0;
    size_t strip = 0;
    size_t columns = 0;
    size_t ring = 0;
    size_t out_columns = 0;
    uint32_t out_y = 0;
    uint32_t out_x = 0;
    size_t weights_y = 0;
    size_t weights_x = 0;
    size_t grids = 0;
    size_t line = 0;

    void add(const Record& r, const Output& output, bool in_file) {
        for (uint32_t plane = 0; in_file && plane < r.planes; ++plane) {
            chunk = std::max<size_t>(chunk, r.chunk_size[plane] + spare_bytes);
        }
        const size_t width = padded_width(r.columns);
        strip = std::max(strip, strip_rows * width);
        columns = std::max(columns, r.windows * width);
        ring = std::max(ring, r.windows * most_taps(axis_y(r)) * width);
        out_columns = std::max(out_columns, padded_width(r.dst_w));
        out_y = std::max(out_y, r.dst_h);
        out_x = std::max(out_x, r.dst_w);
        weights_y = std::max(weights_y, size_t{r.dst_h} * most_taps(axis_y(r)));
        weights_x = std::max(weights_x, size_t{r.dst_w} * most_taps(axis_x(r)));
        if (r.turned != 0) {
            grids = std::max(grids, std::max(r.windows, r.planes) * grid_size(r));
            line = padded_width(output.columns);
        }
    }
};

struct Scratch {
    Buffer<uint8_t> chunk;   // of one plane, where it lies in a file
    Buffer<uint16_t> strip;  // stored pixels of two tile rows; row y lies at y modulo strip_rows
    Buffer<float> ring;      // windowed source rows; row y lies at y modulo the number of taps, window after window
    Buffer<float> across;    // `lanes` rows after the vertical pass, each window's: Note [tiles] in passes.h
    Buffer<float> finished;  // the same after the horizontal pass, of one window
    Buffer<float> grids;     // of what is turned: turn.h
    Buffer<float> line;      // a row of what is turned
    TapTable y;
    TapTable x;
    int64_t read_ns = 0;  // spent on reading the chunks of an image

    explicit Scratch(const Needs& needs)
        : chunk(needs.chunk),
          strip(needs.strip),
          ring(needs.ring),
          across(lanes * needs.columns),
          finished(lanes * needs.out_columns),
          grids(needs.grids),
          line(needs.line) {
        y.reserve(needs.out_y, needs.weights_y);
        x.reserve(needs.out_x, needs.weights_x);
    }
};

}  // namespace pyrad

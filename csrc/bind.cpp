// The door between Python and C++: one m.def a function. Data is positional, options are keyword-only, the GIL is
// released around the work, and every docstring names shapes and dtypes. Only pyrad/ops.py imports this module.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "common.h"
#include "crc32c.h"
#include "decode.h"
#include "device.h"
#include "encode.h"
#include "instructions.h"
#include "preprocess.h"
#include "reader.h"
#include "statistics.h"

namespace py = pybind11;
using namespace pyrad;

namespace {

Dtype dtype_of(const py::dtype& dtype) {
    const bool integer = dtype.kind() == 'u' || dtype.kind() == 'i';
    if (integer && dtype.itemsize() <= 2 && (dtype.itemsize() == 1 || dtype.byteorder() != '>')) {
        return static_cast<Dtype>(dtype.itemsize() | (dtype.kind() == 'i' ? 0x80 : 0));
    }
    throw py::type_error("dtype is " + py::str(dtype).cast<std::string>() +
                         "; pixels are uint8, int8, uint16 or int16");
}

// A contiguous read-only view of any object with the buffer protocol; nothing is copied.
class Bytes {
   public:
    explicit Bytes(const py::buffer& source) {
        if (PyObject_GetBuffer(source.ptr(), &view_, PyBUF_SIMPLE) != 0) throw py::error_already_set();
    }
    ~Bytes() { PyBuffer_Release(&view_); }
    Bytes(const Bytes&) = delete;
    Bytes& operator=(const Bytes&) = delete;

    const uint8_t* data() const { return static_cast<const uint8_t*>(view_.buf); }
    size_t size() const { return static_cast<size_t>(view_.len); }

   private:
    Py_buffer view_;
};

// `measure` makes an encoder.
template <class Measure>
py::bytes encode_with(const Measure& measure) {
    const auto encoder = [&] {
        py::gil_scoped_release unlocked;
        return measure();
    }();
    if (encoder.size() == 0) throw py::value_error("the image is too large for one tilepack chunk (4 GiB)");
    PyObject* bytes = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(encoder.size()));
    if (bytes == nullptr) throw py::error_already_set();
    auto* chunk = reinterpret_cast<uint8_t*>(PyBytes_AS_STRING(bytes));
    {
        py::gil_scoped_release unlocked;
        encoder.write(chunk);
    }
    return py::reinterpret_steal<py::bytes>(bytes);
}

template <class Pixel>
py::bytes encode_pixels(const py::array& image, Dtype dtype, tilepack::Mode mode) {
    const auto rows = static_cast<uint32_t>(image.shape(0));
    const auto columns = static_cast<uint32_t>(image.shape(1));
    const auto* pixels = static_cast<const Pixel*>(image.data());
    if (mode == tilepack::Mode::pack) {
        return encode_with([=] { return PackEncoder<Pixel>(pixels, rows, columns, dtype); });
    }
    return encode_with([=] { return RiceEncoder<Pixel>(pixels, rows, columns, dtype, mode); });
}

py::bytes tilepack_encode(const py::array& image, uint32_t mode) {
    const Dtype dtype = dtype_of(image.dtype());
    if (image.ndim() != 2 || (image.flags() & py::array::c_style) == 0) {
        throw py::value_error("an image is a C-contiguous array (rows, columns)");
    }
    if (image.shape(0) < 1 || image.shape(1) < 1 || image.shape(0) > INT32_MAX || image.shape(1) > INT32_MAX) {
        throw py::value_error("an image has 1 to 2^31 - 1 rows and columns");
    }
    if (mode > static_cast<uint32_t>(tilepack::Mode::dense)) throw py::value_error("the modes are 0, 1 and 2");
    const auto known = static_cast<tilepack::Mode>(mode);
    return bytes_per_pixel(dtype) == 1 ? encode_pixels<uint8_t>(image, dtype, known)
                                       : encode_pixels<uint16_t>(image, dtype, known);
}

int tilepack_decode(const py::buffer& payload, py::array image) {
    const Dtype dtype = dtype_of(image.dtype());
    if (image.ndim() != 2 || (image.flags() & py::array::c_style) == 0 || !image.writeable()) {
        throw py::value_error("pixels are decoded into a writeable C-contiguous array (rows, columns)");
    }
    const Bytes chunk(payload);
    const auto rows = static_cast<uint32_t>(image.shape(0));
    const auto columns = static_cast<uint32_t>(image.shape(1));
    void* pixels = image.mutable_data();
    py::gil_scoped_release unlocked;
    return static_cast<int>(decode_chunk(chunk.data(), chunk.size(), rows, columns, dtype, pixels));
}

template <class T>
using Column = py::array_t<T, py::array::c_style>;

Column<int32_t> read_byte_ranges(const Column<int32_t>& fds, const Column<uint64_t>& offsets,
                                 const Column<uint64_t>& sizes, Column<uint8_t>& slab,
                                 const Column<uint64_t>& slab_offsets, unsigned threads) {
    const auto count = static_cast<size_t>(fds.size());
    const auto is_column = [&](const py::array& array) {
        return array.ndim() == 1 && static_cast<size_t>(array.size()) == count;
    };
    if (!is_column(fds) || !is_column(offsets) || !is_column(sizes) || !is_column(slab_offsets)) {
        throw py::value_error("fds, offsets, sizes and slab_offsets are one-dimensional and equally long");
    }
    const auto slab_bytes = static_cast<uint64_t>(slab.nbytes());
    std::vector<ByteRange> ranges(count);
    for (size_t i = 0; i < count; ++i) {
        ranges[i] = {fds.data()[i], offsets.data()[i], sizes.data()[i], slab_offsets.data()[i]};
        if (ranges[i].slab_offset > slab_bytes || ranges[i].size > slab_bytes - ranges[i].slab_offset) {
            throw py::value_error("range " + std::to_string(i) + " does not lie inside the slab");
        }
    }
    Column<int32_t> results(static_cast<py::ssize_t>(count));
    uint8_t* bytes = slab.mutable_data();  // throws if the slab is read-only
    int32_t* each = results.mutable_data();
    {
        py::gil_scoped_release unlocked;
        read_ranges(ranges.data(), count, bytes, each, threads);
    }
    return results;
}

void announce_byte_ranges(const Column<int32_t>& fds, const Column<uint64_t>& offsets, const Column<uint64_t>& sizes) {
    const auto count = static_cast<size_t>(fds.size());
    if (fds.ndim() != 1 || offsets.ndim() != 1 || sizes.ndim() != 1 || offsets.size() != fds.size() ||
        sizes.size() != fds.size()) {
        throw py::value_error("fds, offsets and sizes are one-dimensional and equally long");
    }
    std::vector<ByteRange> ranges(count);
    for (size_t i = 0; i < count; ++i) ranges[i] = {fds.data()[i], offsets.data()[i], sizes.data()[i], 0};
    py::gil_scoped_release unlocked;
    read_ahead(ranges.data(), count);
}

std::vector<double> percentiles_of(const py::array& image, const std::vector<double>& fractions, int64_t low,
                                   int64_t high) {
    const Dtype dtype = dtype_of(image.dtype());
    if ((image.flags() & py::array::c_style) == 0) throw py::value_error("an image is a C-contiguous array");
    const void* pixels = image.data();
    const auto count = static_cast<uint64_t>(image.size());
    py::gil_scoped_release unlocked;
    return percentiles(pixels, count, dtype, fractions, {low, high});
}

uint32_t checksum(const py::buffer& data, bool portable) {
    const Bytes bytes(data);
    py::gil_scoped_release unlocked;
    return portable ? crc32c_portable(bytes.data(), bytes.size()) : crc32c(bytes.data(), bytes.size());
}

std::vector<std::string> instructions() {
    std::vector<std::string> names;
    for (const auto& [name, set] : instruction_sets) {
        if (has(set)) names.emplace_back(name);
    }
    return names;
}

void use_instructions(const std::string& name) {
    for (const auto& [known, set] : instruction_sets) {
        if (name == known && has(set)) {
            instructions_in_use = set;
            return;
        }
    }
    throw py::value_error("this processor has no instructions named '" + name + "'; see instructions()");
}

bool is_plain(const py::array& array) {
    constexpr int needed = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    return (array.flags() & needed) == needed;
}

Sample sample_of(const py::array& out) {
    if (py::isinstance<py::array_t<float>>(out)) return Sample::float32;
    if (py::isinstance<py::array_t<uint16_t>>(out)) return Sample::bfloat16;
    if (out.dtype().equal(py::dtype("float16"))) return Sample::float16;
    throw py::type_error("out is float32, float16, or uint16 for the bits of bfloat16");
}

Output output_of(py::array& out, const Column<float>& scale, const Column<float>& shift, bool channels_last) {
    Output output{};
    output.sample = sample_of(out);
    output.channels_last = channels_last;
    if (!is_plain(out) || out.ndim() != 4) throw py::value_error("out is C-contiguous and four-dimensional");
    const py::ssize_t channels = out.shape(channels_last ? 3 : 1);
    const py::ssize_t rows = out.shape(channels_last ? 1 : 2);
    const py::ssize_t columns = out.shape(channels_last ? 2 : 3);
    if ((channels != 1 && channels != most_planes) || scale.ndim() != 1 || shift.ndim() != 1 ||
        scale.shape(0) != channels || shift.shape(0) != channels || rows < 1 || rows > largest_side || columns < 1 ||
        columns > largest_side) {
        throw py::value_error("out has 1 or 3 channels, each with a scale and a shift, and sides of 1 to 65535");
    }
    output.rows = static_cast<uint32_t>(rows);
    output.columns = static_cast<uint32_t>(columns);
    output.channels = static_cast<uint32_t>(channels);
    output.pixels = out.mutable_data();  // throws if it is read-only
    std::copy_n(scale.data(), channels, output.scale);
    std::copy_n(shift.data(), channels, output.shift);
    return output;
}

Column<int32_t> preprocess_batch(const Column<uint8_t>& slab, const py::array& records, py::array out,
                                 const Column<float>& scale, const Column<float>& shift, const Column<uint16_t>& luts,
                                 const Column<int32_t>& files, Column<int64_t>& read_ns, bool channels_last,
                                 unsigned threads) {
    if (!records.dtype().equal(py::dtype::of<Record>())) throw py::type_error("records are of RECORD_DTYPE");
    const Output output = output_of(out, scale, shift, channels_last);
    if (!is_plain(records) || records.ndim() != 1 || slab.ndim() != 1 || out.shape(0) != records.shape(0)) {
        throw py::value_error("slab and records are one-dimensional and contiguous, one record an image of out");
    }
    const auto fits = [&](const py::array& column) {
        return column.ndim() == 1 && (column.size() == 0 || column.size() == records.size());
    };
    if (!fits(files) || !fits(read_ns)) {
        throw py::value_error("files and read_ns are one-dimensional: one an image of out, or none at all");
    }
    int64_t* times = read_ns.size() == 0 ? nullptr : read_ns.mutable_data();
    const auto count = static_cast<size_t>(records.shape(0));
    const Input input = {slab.data(), static_cast<uint64_t>(slab.nbytes()), luts.data(),
                         static_cast<uint64_t>(luts.size()), files.size() == 0 ? nullptr : files.data()};
    const auto* each = static_cast<const Record*>(records.data());
    Column<int32_t> results(records.shape(0));
    int32_t* statuses = results.mutable_data();
    {
        py::gil_scoped_release unlocked;
        preprocess(input, each, count, output, statuses, threads, times);
    }
    return results;
}

std::map<std::string, int> statuses() {
    return {{"OK", static_cast<int>(Status::ok)},         {"CHECKSUM", static_cast<int>(Status::checksum)},
            {"HEADER", static_cast<int>(Status::header)}, {"GEOMETRY", static_cast<int>(Status::geometry)},
            {"BOUNDS", static_cast<int>(Status::bounds)}, {"WIDTHS", static_cast<int>(Status::widths)},
            {"RECORD", static_cast<int>(Status::record)}, {"TRUNCATED", static_cast<int>(Status::truncated)}};
}

py::dict devices() {
    const DeviceReport report = device_report();
    py::dict facts;
    facts["built"] = report.built;
    facts["runtime_version"] = report.runtime_version;
    facts["driver_version"] = report.driver_version;
    facts["names"] = report.names;
    return facts;
}

}  // namespace

PYBIND11_MODULE(_C, m, py::mod_gil_not_used()) {
    PYBIND11_NUMPY_DTYPE(LutRange, at, count, first);
    PYBIND11_NUMPY_DTYPE(Record, chunk_offset, chunk_size, modality_lut, voi_lut, x0, y0, x1, y1, turn, rows, columns,
                         s_ref, a, b, span, pad_low, pad_high, dst_x, dst_y, dst_w, dst_h, dtype, planes, codec, crc,
                         windows, voi, invert, padded, flip_x, flip_y, turned);
    m.doc() = "pyrad's compiled core; use it through pyrad.ops, which checks its arguments and raises its errors.";

    m.def(
        "percentiles", &percentiles_of, py::arg("image").noconvert(), py::arg("fractions"), py::pos_only(),
        py::kw_only(), py::arg("low"), py::arg("high"),
        "Percentiles of a C-contiguous uint8, int8, uint16 or int16 array, one a fraction, without the values from low "
        "to high (inclusive; none where low > high); empty where no value is left.");
    m.def("tilepack_encode", &tilepack_encode, py::arg("image").noconvert(), py::pos_only(), py::kw_only(),
          py::arg("mode"),
          "Encode a C-contiguous image (rows, columns) of uint8, int8, uint16 or int16 as one tilepack chunk of mode 0 "
          "(pack), 1 (rice) or 2 (dense).");
    m.def(
        "tilepack_decode", &tilepack_decode, py::arg("payload"), py::arg("image").noconvert(), py::pos_only(),
        "Decode a tilepack chunk into image (rows, columns), C-contiguous, whose shape and dtype must be the chunk's; "
        "return a status (0: good; otherwise image is untouched).");
    m.def(
        "crc32c", &checksum, py::arg("data"), py::pos_only(), py::kw_only(), py::arg("portable") = false,
        "CRC-32C of a contiguous buffer; portable=True takes the table even where the processor has the instruction.");
    m.def(
        "read_ranges", &read_byte_ranges, py::arg("fds").noconvert(), py::arg("offsets").noconvert(),
        py::arg("sizes").noconvert(), py::arg("slab").noconvert(), py::arg("slab_offsets").noconvert(), py::pos_only(),
        py::kw_only(), py::arg("threads") = 1,
        "pread sizes[i] bytes at offsets[i] of fds[i] to slab[slab_offsets[i]:]: int32 (N,), uint64 (N,), uint64 (N,), "
        "writeable uint8 (bytes,), uint64 (N,). Returns int32 (N,): 0, the status TRUNCATED, or -errno.");
    m.def("read_ahead", &announce_byte_ranges, py::arg("fds").noconvert(), py::arg("offsets").noconvert(),
          py::arg("sizes").noconvert(), py::pos_only(),
          "Have the system fetch sizes[i] bytes at offsets[i] of fds[i]: int32 (N,), uint64 (N,), uint64 (N,).");
    m.def(
        "preprocess", &preprocess_batch, py::arg("slab").noconvert(), py::arg("records").noconvert(),
        py::arg("out").noconvert(), py::arg("scale").noconvert(), py::arg("shift").noconvert(), py::pos_only(),
        py::kw_only(), py::arg("luts").noconvert(), py::arg("files").noconvert(), py::arg("read_ns").noconvert(),
        py::arg("channels_last") = false, py::arg("threads") = 1,
        "Decode, window, resize and normalise: uint8 (bytes,), records (N,) of record_dtype(), writeable float32, "
        "float16 or uint16 (bfloat16 bits) (N, C, H, W) or (N, H, W, C), float32 (C,), float32 (C,), C = 1 or 3; luts "
        "uint16 (M,), the entries of all lookup tables; files int32 (N,), the open file that an image's chunks lie in, "
        "below 0 the slab, or (0,) for the slab throughout; read_ns int64 (N,), writeable, or (0,). Writes "
        "fma(y, scale, shift) into out and returns int32 (N,) statuses, -errno where a read failed; an image whose "
        "status is not 0 is all zeros.");
    m.def("record_dtype", [] { return py::dtype::of<Record>(); }, "The structured dtype of preprocess's records.");
    m.def("device_report", &devices,
          "What the machine offers: built (with CUDA kernels), runtime_version, driver_version, names of the GPUs.");
    m.def("require_device", &require_device, py::arg("device"), py::pos_only(),
          "Raise RuntimeError with one helpful sentence unless GPU number device can be used.");
    m.def("instructions", &instructions,
          "The sets of vector instructions that this processor has and the core is compiled for; the first is in use.");
    m.def("use_instructions", &use_instructions, py::arg("name"), py::pos_only(),
          "Run the code compiled for a set of instructions(), so that tests can compare them.");
    m.def("statuses", &statuses, "Name and number of every status word.");
}

// Kernels on pictures for Python: NumPy arrays on the CPU, DLPack arrays where they lie.
#include <pybind11/stl.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <string>

#include "csrc/bindings/here.h"
#include "csrc/bindings/module.h"
#include "csrc/bindings/resize_arguments.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

py::object resize(const ArrayLike& array, const IntegerSequence& size, const std::optional<Box>& box,
                  const std::string& filter) {
  const Here here(array, "array");
  const Tensor from = here.take(array, "array");
  require(from.dtype() == DType::u8 || from.dtype() == DType::f32,
          "array must hold uint8 or float32, not " + to_string(from.dtype()));
  require(fits(from.shape(), 2) || fits(from.shape(), 3), "array must be (H, W) or (H, W, C), not " + to_string(from.shape()));
  const Shape wanted = shape_from(size, "size");
  require(fits(wanted, 2), "size must be (h, w), each at least 1, not " + to_string(wanted));
  Shape shape = from.shape();
  shape[0] = wanted[0], shape[1] = wanted[1];
  ResizeJob job = resize_job({from.dim(0), from.dim(1)}, {wanted[0], wanted[1]}, box, filter);
  job.from = from.raw(), job.dtype = from.dtype(), job.channels = from.rank() == 3 ? from.dim(2) : 1;
  Tensor out;
  {
    const py::gil_scoped_release release;
    out = here.make(shape, from.dtype());
    job.to = out.raw();
    here.device->stream().resize(job);
  }
  return here.give(out);
}

py::object normalise(const ArrayLike& pixels, const OptionalArray& holes, std::int64_t channels, float divisor, float offset,
                     const std::string& dtype) {
  const Here here(pixels, "pixels");
  const Tensor from = here.take(pixels, "pixels");
  require(from.dtype() == DType::u8 && fits(from.shape(), 4), "pixels must be uint8 (N, H, W, C), not " +
                                                                  to_string(from.dtype()) + " " + to_string(from.shape()));
  require(channels >= 1 && channels <= 4 && (from.dim(3) == 1 || from.dim(3) == channels),
          "channels must be 1 to 4, and those of the pixels if they have more than one");
  require(divisor != 0.0F, "divisor must not be 0");
  std::optional<Tensor> hole;
  if (!holes.is_none()) {
    hole = here.take(holes, "holes");
    require(is_mask(*hole) && hole->shape() == Shape{from.dim(0), from.dim(1), from.dim(2)},
            "holes must be bool or uint8 of the pixels' (N, H, W), not " + to_string(hole->dtype()) + " " +
                to_string(hole->shape()));
  }
  const DType type = dtype_from(dtype);
  Tensor out;
  {
    const py::gil_scoped_release release;
    out = here.make({from.dim(0), channels, from.dim(1), from.dim(2)}, type);
    here.device->stream().normalise({from.data<std::uint8_t>(),
                                     hole ? static_cast<const std::uint8_t*>(hole->raw()) : nullptr, out.raw(), type,
                                     from.dim(0), from.dim(1) * from.dim(2), from.dim(3), channels, divisor, offset});
  }
  return here.give(out);
}

py::object colours(const ArrayLike& planes, float scale, float shift) {
  const Here here(planes, "planes");
  const Tensor from = here.take(planes, "planes");
  require(fits(from.shape(), 4) && from.dim(1) == 3, "planes must be (N, 3, H, W), not " + to_string(from.shape()));
  Tensor out;
  {
    const py::gil_scoped_release release;
    out = here.make({from.dim(0), from.dim(2), from.dim(3), 3}, DType::f32);
    here.device->stream().colours({from.raw(), out.data<float>(), from.dtype(), from.dim(0), from.dim(2) * from.dim(3),
                                   scale, shift, nullptr});
  }
  return here.give(out);
}

py::object match_colours(const ArrayLike& decoded, const ArrayLike& original, const ArrayLike& hole) {
  const Here here(decoded, "colours");
  const Tensor from = here.take(decoded, "colours"), bytes = here.take(original, "original"),
               mask = here.take(hole, "hole");
  require(from.dtype() == DType::f32 && fits(from.shape(), 3) && from.dim(2) == 3,
          "colours must be float32 (H, W, 3), not " + to_string(from.dtype()) + " " + to_string(from.shape()));
  require(bytes.dtype() == DType::u8 && bytes.shape() == from.shape(), "original must be uint8 of the colours' shape");
  require(is_mask(mask) && mask.shape() == Shape{from.dim(0), from.dim(1)}, "hole must be bool or uint8 (H, W)");
  Tensor out;
  {
    const py::gil_scoped_release release;
    out = here.make(from.shape(), DType::f32);
    here.device->stream().match_colours({from.data<float>(), bytes.data<std::uint8_t>(),
                                         static_cast<const std::uint8_t*>(mask.raw()), out.data<float>(), from.dim(0),
                                         from.dim(1)});
  }
  return here.give(out);
}

bool all_finite(const ArrayLike& array) {
  const Here here(array, "array");
  const Tensor values = here.take(array, "array");
  require(values.dtype() == DType::f32, "array must hold float32, not " + to_string(values.dtype()));
  constexpr float largest = std::numeric_limits<float>::max();
  const py::gil_scoped_release release;
  return here.device->stream().all_within(values, -largest, largest);
}

py::object pad_edge(const ArrayLike& array, const IntegerSequence& size, std::int64_t top, std::int64_t left) {
  const Here here(array, "array");
  const Tensor from = here.take(array, "array");
  const Shape wanted = shape_from(size, "size");
  require(from.dtype() == DType::u8 && fits(from.shape(), 3), "array must be uint8 (H, W, C), not " +
                                                                  to_string(from.dtype()) + " " + to_string(from.shape()));
  require(fits(wanted, 2) && top >= 0 && left >= 0 && top + from.dim(0) <= wanted[0] && left + from.dim(1) <= wanted[1],
          "the array must fit into `size` (h, w) at row `top`, column `left`");
  Tensor out;
  {
    const py::gil_scoped_release release;
    out = here.make({wanted[0], wanted[1], from.dim(2)}, DType::u8);
    here.device->stream().pad_edge({from.data<std::uint8_t>(), out.data<std::uint8_t>(), from.dim(0), from.dim(1),
                                    wanted[0], wanted[1], from.dim(2), top, left});
  }
  return here.give(out);
}

void paste_into(DeviceTensor& picture, const ArrayLike& patch, const ArrayLike& alpha, std::int64_t top,
                std::int64_t left) {
  const py::object itself = py::cast(picture, py::return_value_policy::reference);
  const Here here(itself, "picture");
  Tensor below = here.take(itself, "picture");
  const Tensor above = here.take(patch, "patch"), weight = here.take(alpha, "alpha");
  require(below.dtype() == DType::u8 && fits(below.shape(), 3) && below.dim(2) == 3,
          "picture must be uint8 (H, W, 3), not " + to_string(below.dtype()) + " " + to_string(below.shape()));
  require(above.dtype() == DType::f32 && fits(above.shape(), 3) && above.dim(2) == 3,
          "patch must be float32 (h, w, 3), not " + to_string(above.dtype()) + " " + to_string(above.shape()));
  require(weight.dtype() == DType::f32 && weight.shape() == Shape{above.dim(0), above.dim(1)},
          "alpha must be float32 of the patch's (h, w), not " + to_string(weight.dtype()) + " " + to_string(weight.shape()));
  require(std::max(std::abs(top), std::abs(left)) <= most_extent, "top and left must lie in -2^20..2^20");
  {
    const py::gil_scoped_release release;
    here.device->stream().paste({below.data<std::uint8_t>(), above.data<float>(), weight.data<float>(), below.dim(0),
                                 below.dim(1), above.dim(0), above.dim(1), top, left});
  }
  picture.ready = here.device->stream().record();
}

py::object sample_posterior(const ArrayLike& mean, const OptionalArray& logvar, const OptionalArray& noise, float scale,
                            float divisor) {
  const Here here(mean, "mean");
  const auto floats = [&here](const py::object& object, const std::string& name) {
    const Tensor tensor = here.take(object, name);
    require(tensor.dtype() == DType::f32, name + " must hold float32, not " + to_string(tensor.dtype()));
    return tensor;
  };
  const Tensor from = floats(mean, "mean");
  require(divisor != 0.0F, "divisor must not be 0");
  require(noise.is_none() || !logvar.is_none(), "noise needs a logvar");
  std::optional<Tensor> spread, normals;
  if (!noise.is_none()) {
    spread = floats(logvar, "logvar"), normals = floats(noise, "noise");
    require(spread->shape() == from.shape() && normals->shape() == from.shape(),
            "logvar and noise must have the mean's shape " + to_string(from.shape()));
  }
  Tensor out;
  {
    const py::gil_scoped_release release;
    out = here.make(from.shape(), DType::f32);
    here.device->stream().sample_posterior({from.data<float>(), spread ? spread->data<float>() : nullptr,
                                            normals ? normals->data<float>() : nullptr, out.data<float>(),
                                            static_cast<std::int64_t>(from.size()), scale, divisor});
  }
  return here.give(out);
}

}  // namespace

void register_pictures(py::module_& module) {
  module.def("resize", &resize, py::arg("array"), py::arg("size"), py::kw_only(), py::arg("box") = py::none(),
             py::arg("filter") = "bilinear",
             "`array` (H, W) or (H, W, C), uint8 or float32, resampled to `size` (h, w) with the bits of Pillow's resize,\n"
             "along x and then along y: antialiased \"bilinear\" or \"bicubic\", or the \"nearest\" pixel. `box` = (x0, y0, x1, y1) in source pixels\n"
             "selects what fills `size`. An array on a device gives a DeviceTensor. Raises InputError.");
  module.def("normalise", &normalise, py::arg("pixels"), py::arg("holes") = py::none(), py::kw_only(),
             py::arg("channels") = 3, py::arg("divisor") = 127.5F, py::arg("offset") = 1.0F, py::arg("dtype") = "float32",
             "Planes (N, `channels`, H, W) of `pixels` (N, H, W, C) uint8: pixel / divisor - offset in float32, times 0 where\n"
             "`holes` (N, H, W) is set; a single channel is repeated. `dtype` is float32, float16 or bfloat16.");
  module.def("colours", &colours, py::arg("planes"), py::kw_only(), py::arg("scale") = 127.5F, py::arg("shift") = 127.5F,
             "Colours (N, H, W, 3) float32 of `planes` (N, 3, H, W): value * scale + shift in float32, clamped to 0..255;\n"
             "NaN stays.");
  module.def("match_colours", &match_colours, py::arg("colours"), py::arg("original"), py::arg("hole"),
             "Decoded `colours` (H, W, 3) float32 0..255 with the shift that the pixels outside of the `hole` (H, W) show\n"
             "against the `original` (H, W, 3) uint8 taken out everywhere. The difference is averaged over cells of 4 x 4\n"
             "pixels and continued into the hole from its rim, through a pyramid, so that the nearest kept pixels count\n"
             "most. Without a kept pixel nothing is changed.");
  module.def("pad_edge", &pad_edge, py::arg("array"), py::arg("size"), py::arg("top"), py::arg("left"),
             "`array` (H, W, C) uint8 in a frame of `size` (h, w), its corner at row `top`, column `left`, its edge pixels\n"
             "repeated outward.");
  module.def("paste_into", &paste_into, py::arg("picture"), py::arg("patch"), py::arg("alpha"), py::arg("top"),
             py::arg("left"),
             "paste() in place, on a DeviceTensor (H, W, 3) uint8. The values of patch and alpha are not checked.");
  module.def("sample_posterior", &sample_posterior, py::arg("mean"), py::arg("logvar") = py::none(),
             py::arg("noise") = py::none(), py::kw_only(), py::arg("scale") = 1.0F, py::arg("divisor") = 1.0F,
             "(mean + exp(logvar / 2) noise) scale / divisor in float32; the mean alone where there is no noise.");
  module.def("all_finite", &all_finite, py::arg("array"),
             "Whether no value of a float32 array is NaN or infinite; waits for a device.");
}

}  // namespace hoirt::bindings

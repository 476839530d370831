// The kernels on pictures for Python: raw device addresses and a stream.
#include "csrc/cuda/picture_module.h"

#include <pybind11/stl.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/resize_arguments.h"
#include "csrc/cuda/launchers.h"
#include "csrc/cuda/pointers.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

using Address = std::uintptr_t;
using Size = std::pair<std::int64_t, std::int64_t>;

void check_extents(std::initializer_list<std::int64_t> extents, const std::string& names) {
  constexpr std::int64_t largest = 1 << 20;  // keeps products inside 64 bits
  for (const std::int64_t extent : extents) require(extent >= 1 && extent <= largest, names + " must lie in 1..2^20");
}
void check_addresses(std::initializer_list<Address> addresses, const std::string& names) {
  for (const Address address : addresses) require(address != 0, names + " must be device addresses, not 0");
}
void check_workspace(Address workspace, std::size_t bytes, const std::string& name) {
  require(bytes == 0 || (workspace != 0 && workspace % 256 == 0),
          "workspace must be the address, a multiple of 256, of " + std::to_string(bytes) + " bytes; see " + name);
}

void paste(Address picture, Address patch, Address alpha, const Size& size, const Size& patch_size, std::int64_t top,
           std::int64_t left, Address stream) {
  constexpr std::int64_t side = 1 << 30;  // keeps row and column sums inside 64 bits
  check_addresses({picture, patch, alpha}, "picture, patch and alpha");
  for (const std::int64_t extent : {size.first, size.second, patch_size.first, patch_size.second}) {
    require(extent >= 0 && extent <= side, "sizes must lie in 0..2^30");
  }
  require(-side <= top && top <= side && -side <= left && left <= side, "top and left must lie in -2^30..2^30");
  cuda::paste({pointer_from<std::uint8_t>(picture), pointer_from<const float>(patch), pointer_from<const float>(alpha),
               size.first, size.second, patch_size.first, patch_size.second, top, left},
              pointer_from<void>(stream));
}

std::optional<Box> box_from(const OptionalArray& given) {
  try {
    return given.cast<std::optional<Box>>();
  } catch (const py::cast_error&) {
    throw InputError("box must be four numbers, (x0, y0, x1, y1), or None");
  }
}

// A resize of arrays on a device; the job has no addresses.
struct Resize {
  ResizeJob job;
  std::size_t workspace_bytes = 0;

  Resize(const Size& size, const Size& out_size, std::int64_t channels, const std::string& dtype, const OptionalArray& box,
         const std::string& filter) {
    check_extents({size.first, size.second, out_size.first, out_size.second, channels}, "size, out_size and channels");
    job = resize_job(size, out_size, box_from(box), filter);
    job.channels = channels;
    job.dtype = dtype_from(dtype);
    require(job.dtype == DType::u8 || job.dtype == DType::f32, "dtype must be uint8 or float32, not " + dtype);
    workspace_bytes = cuda::workspace_bytes(job);
  }

  void launch(Address array, Address out, Address workspace, Address stream) const {
    check_addresses({array, out}, "array and out");
    check_workspace(workspace, workspace_bytes, "workspace_bytes");
    ResizeJob there = job;
    there.from = pointer_from<const void>(array), there.to = pointer_from<void>(out);
    cuda::resize(there, pointer_from<void>(workspace), pointer_from<void>(stream));
  }
};

// As many extents as in `names`.
Shape checked_shape(const IntegerSequence& sequence, std::size_t rank, const std::string& names) {
  const Shape shape = shape_from(sequence, "shape");
  require(shape.size() == rank, "shape must be " + names + ", not " + to_string(shape));
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) {
    check_extents({extent}, "shape " + names);
    require((count *= extent) <= std::int64_t{1} << 40, "shape " + names + " must hold at most 2^40 values");
  }
  return shape;
}

void normalise(Address pixels, Address planes, Address holes, const IntegerSequence& of, std::int64_t channels,
               float divisor, float offset, const std::string& dtype, Address stream) {
  const Shape shape = checked_shape(of, 4, "(N, H, W, C)");
  check_addresses({pixels, planes}, "pixels and planes");
  require(channels >= 1 && channels <= 4 && (shape[3] == 1 || shape[3] == channels),
          "channels must be 1 to 4, and those of the pixels if they have more than one");
  require(divisor != 0.0F, "divisor must not be 0");
  cuda::normalise({pointer_from<const std::uint8_t>(pixels), pointer_from<const std::uint8_t>(holes),
                   pointer_from<void>(planes), dtype_from(dtype), shape[0], shape[1] * shape[2], shape[3], channels,
                   divisor, offset},
                  pointer_from<void>(stream));
}

void colours(Address planes, Address out, const IntegerSequence& of, float scale, float shift, const std::string& dtype,
             Address stream) {
  const Shape shape = checked_shape(of, 3, "(N, H, W)");
  check_addresses({planes, out}, "planes and out");
  cuda::colours({pointer_from<const void>(planes), pointer_from<float>(out), dtype_from(dtype), shape[0],
                 shape[1] * shape[2], scale, shift, nullptr},
                pointer_from<void>(stream));
}

ColourJob colour_job(const Size& size) {
  check_extents({size.first, size.second}, "size (H, W)");
  ColourJob job;
  job.height = size.first, job.width = size.second;
  return job;
}

std::size_t match_colours_workspace(const Size& size) { return cuda::workspace_bytes(colour_job(size)); }

void match_colours(Address colours, Address original, Address hole, Address out, const Size& size, Address workspace,
                   Address stream) {
  ColourJob job = colour_job(size);
  check_addresses({colours, original, hole, out}, "colours, original, hole and out");
  check_workspace(workspace, cuda::workspace_bytes(job), "match_colours_workspace()");
  job.colours = pointer_from<const float>(colours), job.original = pointer_from<const std::uint8_t>(original);
  job.hole = pointer_from<const std::uint8_t>(hole), job.out = pointer_from<float>(out);
  cuda::match_colours(job, pointer_from<void>(workspace), pointer_from<void>(stream));
}

}  // namespace

void register_cuda_pictures(py::module_& module) {
  module.def("paste", &paste, py::arg("picture"), py::arg("patch"), py::arg("alpha"), py::kw_only(), py::arg("size"),
             py::arg("patch_size"), py::arg("top"), py::arg("left"), py::arg("stream") = 0,
             "hoirt._core.paste in place on the picture at an address; `size` and `patch_size` are (height, width).\n"
             "Values of patch and alpha are not checked.");
  py::class_<Resize>(module, "Resize",
                     "hoirt._core.resize of arrays (H, W, channels), `dtype` \"uint8\" or \"float32\"; `size` and `out_size`\n"
                     "are (height, width). launch() takes addresses; workspace_bytes lie at `workspace`, a multiple of 256.")
      .def(py::init<const Size&, const Size&, std::int64_t, const std::string&, const OptionalArray&,
                    const std::string&>(),
           py::kw_only(), py::arg("size"), py::arg("out_size"), py::arg("channels"), py::arg("dtype"),
           py::arg("box") = py::none(), py::arg("filter") = "bilinear")
      .def_readonly("workspace_bytes", &Resize::workspace_bytes)
      .def("launch", &Resize::launch, py::arg("array"), py::arg("out"), py::kw_only(), py::arg("workspace") = 0,
           py::arg("stream") = 0);
  module.def("normalise", &normalise, py::arg("pixels"), py::arg("planes"), py::arg("holes") = 0, py::kw_only(),
             py::arg("shape"), py::arg("channels") = 3, py::arg("divisor") = 127.5F,
             py::arg("offset") = 1.0F, py::arg("dtype") = "float32", py::arg("stream") = 0,
             "hoirt._core.normalise of pixels of `shape` (N, H, W, C) to the address `planes`; `holes` may be 0.");
  module.def("colours", &colours, py::arg("planes"), py::arg("out"), py::kw_only(), py::arg("shape"),
             py::arg("scale") = 127.5F, py::arg("shift") = 127.5F, py::arg("dtype") = "float32", py::arg("stream") = 0,
             "hoirt._core.colours of planes (N, 3, H, W), of which `shape` is (N, H, W), to the address `out`.");
  module.def("match_colours_workspace", &match_colours_workspace, py::arg("size"),
             "Bytes of workspace for a match_colours().");
  module.def("match_colours", &match_colours, py::arg("colours"), py::arg("original"), py::arg("hole"), py::arg("out"),
             py::kw_only(), py::arg("size"), py::arg("workspace"), py::arg("stream") = 0,
             "hoirt._core.match_colours of pictures of `size` (H, W) to the address `out`, which may be `colours`.\n"
             "`workspace`: match_colours_workspace() bytes, at a multiple of 256.");
}

}  // namespace hoirt::bindings

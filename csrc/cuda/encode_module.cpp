// The encoders and the hand drawing for Python: raw device addresses and a stream.
#include "csrc/cuda/encode_module.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <initializer_list>
#include <string>
#include <utility>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/encode_style.h"
#include "csrc/cuda/encode.h"
#include "csrc/cuda/pointers.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

using Address = std::uintptr_t;

constexpr std::int64_t most = std::int64_t{1} << 40;  // keeps products of extents inside 64 bits

// Addresses may be null only where nothing is read or written.
void check(std::initializer_list<Address> addresses, std::initializer_list<std::int64_t> extents) {
  std::int64_t count = 1;
  for (const std::int64_t extent : extents) {
    require(extent >= 0 && extent <= (extent == 0 ? most : most / std::max<std::int64_t>(count, 1)),
            "extents must not be negative, nor their product above 2^40");
    count *= extent;
  }
  for (const Address address : addresses) require(address != 0 || count == 0, "a device address is null");
}

void hand_depth(Address depth, Address instances, Address ranges, Address out, std::int64_t frames, std::int64_t hands,
                std::int64_t pixels, const Integer& farthest, bool nearest_integer, Address stream) {
  check({depth, ranges, out}, {frames, hands, pixels});
  raster::HandDepth kernel;
  kernel.depth = pointer_from<const float>(depth);
  kernel.instances = pointer_from<const std::int32_t>(instances);
  kernel.out = pointer_from<std::uint8_t>(out);
  kernel.hands = hands;
  kernel.pixels = pixels;
  kernel.span = (255 - static_cast<int>(unsigned_from(farthest, "farthest", 255))) / 255.0;
  kernel.nearest_integer = nearest_integer;
  cuda::hand_depth(kernel, pointer_from<raster::DepthRange>(ranges), frames, pointer_from<void>(stream));
}

void coloured_depth(Address depth, Address colours, Address range, Address out, std::int64_t pixels, double low,
                    double high, bool disparity, Address stream) {
  check({depth, colours, range, out}, {pixels});
  require(0.0 <= low && low <= high && high <= 1.0, "low and high must be 0 <= low <= high <= 1");
  const raster::ColouredDepth kernel{pointer_from<const float>(depth), pointer_from<const std::uint8_t>(colours), nullptr,
                                     pointer_from<std::uint8_t>(out), low, high, disparity};
  cuda::coloured_depth(kernel, pointer_from<raster::DepthRange>(range), pixels, pointer_from<void>(stream));
}

void coloured_instances(Address instances, Address colours, Address out, std::int64_t ids, std::int64_t pixels,
                        Address stream) {
  check({instances, colours, out}, {pixels});
  require(ids >= 0, "ids, the number of colours without the background, must not be negative");
  cuda::coloured_instances({pointer_from<const std::int32_t>(instances), pointer_from<const std::uint8_t>(colours),
                            pointer_from<std::uint8_t>(out)},
                           ids, pixels, pointer_from<void>(stream));
}

void coloured_normals(Address normals, Address out, std::int64_t pixels, bool flip, Address stream) {
  check({normals, out}, {pixels});
  cuda::coloured_normals({pointer_from<const float>(normals), pointer_from<std::uint8_t>(out), flip}, pixels,
                         pointer_from<void>(stream));
}

void draw_hands(Address pictures, Address order, Address joints, Address depth, std::int64_t frames,
                const std::pair<std::int64_t, std::int64_t>& size, bool lines, const Integer& joint_radius,
                const std::pair<int, int>& half_widths, const ArrayLike& joint_colours, const ArrayLike& limb_colours,
                Address stream) {
  check({pictures, order, joints}, {frames, size.first, size.second});
  const raster::HandDrawing drawing{pointer_from<const double>(joints), pointer_from<const double>(depth),
                                    style_from(lines, joint_radius, half_widths, joint_colours, limb_colours)};
  cuda::draw_hands(drawing, pointer_from<std::uint8_t>(pictures), pointer_from<std::int32_t>(order), frames, size.first,
                   size.second, pointer_from<void>(stream));
}

}  // namespace

void register_cuda_encode(py::module_& module) {
  module.def("hand_depth", &hand_depth, py::arg("depth"), py::arg("instances"), py::arg("ranges"), py::arg("out"),
             py::kw_only(), py::arg("frames"), py::arg("hands"), py::arg("pixels"), py::arg("farthest"),
             py::arg("nearest_integer"), py::arg("stream") = 0,
             "hoirt._core.hand_depth to the address `out`; `instances` 0: depth is (frames, hands, pixels).\n"
             "`ranges` is workspace, float32 (frames, hands, 2). Values are not checked; ids that are not hands are\n"
             "background.");
  module.def("coloured_depth", &coloured_depth, py::arg("depth"), py::arg("colours"), py::arg("range"), py::arg("out"),
             py::kw_only(), py::arg("pixels"), py::arg("low"), py::arg("high"), py::arg("disparity"),
             py::arg("stream") = 0,
             "hoirt._core.coloured_depth to the address `out`; `pixels` are those of the whole clip, `range` is\n"
             "workspace, float32 (2,). Values are not checked.");
  module.def("coloured_instances", &coloured_instances, py::arg("instances"), py::arg("colours"), py::arg("out"),
             py::kw_only(), py::arg("ids"), py::arg("pixels"), py::arg("stream") = 0,
             "hoirt._core.coloured_instances to the address `out`; unknown ids are background.");
  module.def("coloured_normals", &coloured_normals, py::arg("normals"), py::arg("out"), py::kw_only(),
             py::arg("pixels"), py::arg("flip"), py::arg("stream") = 0,
             "hoirt._core.coloured_normals to the address `out`. Values are not checked.");
  module.def("draw_hands", &draw_hands, py::arg("pictures"), py::arg("order"), py::arg("joints"), py::arg("depth"),
             py::kw_only(), py::arg("frames"), py::arg("size"), py::arg("lines"), py::arg("joint_radius"),
             py::arg("half_widths"), py::arg("joint_colours"), py::arg("limb_colours"), py::arg("stream") = 0,
             "hoirt._core.draw_hands in place; `order` is workspace, int32 (frames, H, W), `depth` may be 0, colours\n"
             "are host arrays. Joints must be finite and within +-2^30; they are not checked.");
}

}  // namespace hoirt::bindings

// The encoders and draw_hands() for Python.
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/encode_style.h"
#include "csrc/bindings/module.h"
#include "csrc/cpu/encode.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

using Picture = py::array_t<std::uint8_t>;

std::optional<Tensor> optional_tensor(const py::object& object, const char* name, DType dtype) {
  if (object.is_none()) return std::nullopt;
  return tensor_from(object, name, dtype);
}

template <typename Encode>
Picture encoded(const Encode& encode) {
  Tensor out;
  {
    const py::gil_scoped_release release;
    out = encode();
  }
  return array_from<std::uint8_t>(out);
}

int to_int(const Integer& value, const char* name, std::uint64_t most) {
  return static_cast<int>(unsigned_from(value, name, most));
}

Picture hand_depth(const ArrayLike& depth, const OptionalArray& instances, const Integer& farthest,
                   bool nearest_integer, const Integer& threads) {
  const Tensor z = tensor_from(depth, "depth", DType::f32);
  const auto ids = optional_tensor(instances, "instances", DType::i32);
  const int last = to_int(farthest, "farthest", 255), workers = to_int(threads, "threads", INT32_MAX);
  return encoded([&] { return cpu::encode_hand_depth(z, ids ? &*ids : nullptr, last, nearest_integer, workers); });
}

Picture coloured_depth(const ArrayLike& depth, const ArrayLike& colours, double low, double high, bool disparity,
                       const Integer& threads) {
  const Tensor z = tensor_from(depth, "depth", DType::f32), table = tensor_from(colours, "colours", DType::u8);
  const int workers = to_int(threads, "threads", INT32_MAX);
  return encoded([&] { return cpu::encode_coloured_depth(z, table, low, high, disparity, workers); });
}

Picture coloured_instances(const ArrayLike& instances, const ArrayLike& colours, const Integer& threads) {
  const Tensor ids = tensor_from(instances, "instances", DType::i32);
  const Tensor table = tensor_from(colours, "colours", DType::u8);
  const int workers = to_int(threads, "threads", INT32_MAX);
  return encoded([&] { return cpu::encode_instances(ids, table, workers); });
}

Picture coloured_normals(const ArrayLike& normals, bool flip, const Integer& threads) {
  const Tensor vectors = tensor_from(normals, "normals", DType::f32);
  const int workers = to_int(threads, "threads", INT32_MAX);
  return encoded([&] { return cpu::encode_normals(vectors, flip, workers); });
}

Picture draw_hands(const OptionalArray& below, const std::pair<std::int64_t, std::int64_t>& size,
                   const ArrayLike& joints, const OptionalArray& depth, bool lines,
                   const Integer& joint_radius, const std::pair<int, int>& half_widths,
                   const ArrayLike& joint_colours, const ArrayLike& limb_colours, const Integer& threads) {
  const auto pictures = optional_tensor(below, "below", DType::u8);
  const Tensor points = tensor_from(joints, "joints", DType::f64);
  const auto z = optional_tensor(depth, "the joints' depth", DType::f64);
  const int workers = to_int(threads, "threads", INT32_MAX);
  const raster::HandStyle style = style_from(lines, joint_radius, half_widths, joint_colours, limb_colours);
  return encoded([&] {
    const Shape black{points.rank() ? points.dim(0) : 0, size.first, size.second, 3};
    Tensor out(pictures ? pictures->shape() : black, DType::u8);
    if (pictures) std::copy_n(pictures->data<std::uint8_t>(), pictures->size(), out.data<std::uint8_t>());
    cpu::draw_hands(out, points, z ? &*z : nullptr, style, workers);
    return out;
  });
}

}  // namespace

void register_encode(py::module_& module) {
  module.def("hand_depth", &hand_depth, py::arg("depth"), py::arg("instances"), py::kw_only(), py::arg("farthest"),
             py::arg("nearest_integer"), py::arg("threads"),
             "uint8 (N, H, W) of depth float32 (N, H, W) with instances int32 (N, H, W), or of depth (N, M, H, W),\n"
             "hands from far to near, with None; see hoirt.render.encode.hand_depth.");
  module.def("coloured_depth", &coloured_depth, py::arg("depth"), py::arg("colours"), py::kw_only(), py::arg("low"),
             py::arg("high"), py::arg("disparity"), py::arg("threads"),
             "uint8 (N, H, W, 3) of depth float32 (N, H, W) through colours uint8 (256, 3); see\n"
             "hoirt.render.encode.pam_depth.");
  module.def("coloured_instances", &coloured_instances, py::arg("instances"), py::arg("colours"), py::kw_only(),
             py::arg("threads"),
             "uint8 (N, H, W, 3) of instances int32 (N, H, W) through colours uint8 (1 + ids, 3), background first.");
  module.def("coloured_normals", &coloured_normals, py::arg("normals"), py::kw_only(), py::arg("flip"),
             py::arg("threads"),
             "uint8 (N, H, W, 3) of normals float32 (N, H, W, 3); see hoirt.render.encode.normals_picture.");
  module.def("draw_hands", &draw_hands, py::arg("below"), py::arg("size"), py::arg("joints"), py::arg("depth"),
             py::kw_only(), py::arg("lines"), py::arg("joint_radius"), py::arg("half_widths"), py::arg("joint_colours"),
             py::arg("limb_colours"), py::arg("threads"),
             "Hands drawn on copies of `below` uint8 (N, H, W, 3), or if it is None on black pictures of `size` (H, W):\n"
             "joints float64 (N, 21, 2) in pixels, depth float64 (N, 21) or None; see hoirt.render.draw.draw_hand.");
}

}  // namespace hoirt::bindings

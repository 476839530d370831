// skin() and pose_body() for Python.
#include <limits>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/module.h"
#include "csrc/cpu/skin.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

using Posed = py::typing::Tuple<py::array_t<float>, py::array_t<float>>;

// float32 without a copy, or float64 rounded; other dtypes are an error, never a silent cast.
Tensor floats_from(const py::object& object, const std::string& name) {
  Tensor tensor = tensor_from(object, name);
  if (tensor.dtype() == DType::f32) return tensor;
  if (tensor.dtype() != DType::f64) {
    throw InputError(name + " must hold float32 or float64, not " + to_string(tensor.dtype()));
  }
  Tensor rounded(tensor.shape(), DType::f32);
  const double* from = tensor.data<double>();
  float* to = rounded.data<float>();
  for (std::size_t i = 0; i < tensor.size(); ++i) to[i] = static_cast<float>(from[i]);
  return rounded;
}

// int32, or int64 whose values fit.
Tensor parents_from(const py::object& object, const std::string& name) {
  Tensor tensor = tensor_from(object, name);
  if (tensor.dtype() == DType::i32) return tensor;
  if (tensor.dtype() != DType::i64) {
    throw InputError(name + " must hold int32 or int64, not " + to_string(tensor.dtype()));
  }
  Tensor narrow(tensor.shape(), DType::i32);
  const std::int64_t* from = tensor.data<std::int64_t>();
  std::int32_t* to = narrow.data<std::int32_t>();
  for (std::size_t i = 0; i < tensor.size(); ++i) {
    if (from[i] < std::numeric_limits<std::int32_t>::min() || from[i] > std::numeric_limits<std::int32_t>::max()) {
      throw InputError(name + "[" + std::to_string(i) + "] is " + std::to_string(from[i]) + ", which is no index");
    }
    to[i] = static_cast<std::int32_t>(from[i]);
  }
  return narrow;
}

std::int64_t threads_from(const py::object& threads) {
  return static_cast<std::int64_t>(unsigned_from(threads, "threads", 1024));
}

Posed arrays_from(const cpu::Skinned& posed) {
  return py::make_tuple(array_from<float>(posed.vertices), array_from<float>(posed.joints));
}

Posed skin(const ArrayLike& rest, const ArrayLike& joints, const ArrayLike& rotations, const ArrayLike& weights,
           const ArrayLike& parents, const Integer& threads) {
  const Tensor rest_tensor = floats_from(rest, "rest"), joint_tensor = floats_from(joints, "joints");
  const Tensor rotation_tensor = floats_from(rotations, "rotations"), weight_tensor = floats_from(weights, "weights");
  const Tensor parent_tensor = parents_from(parents, "parents");
  const std::int64_t count = threads_from(threads);
  cpu::Skinned out;
  {
    const py::gil_scoped_release release;
    out = cpu::skin(rest_tensor, joint_tensor, rotation_tensor, weight_tensor, parent_tensor, count);
  }
  return arrays_from(out);
}

Posed pose_body(const ArrayLike& rest, const ArrayLike& shape_directions, const ArrayLike& pose_directions,
                const ArrayLike& joints, const ArrayLike& joint_directions, const ArrayLike& weights,
                const ArrayLike& parents, const ArrayLike& rotations, const ArrayLike& shape, const Integer& threads) {
  const cpu::BlendBody body{floats_from(rest, "rest"),
                            floats_from(shape_directions, "shape_directions"),
                            floats_from(pose_directions, "pose_directions"),
                            floats_from(joints, "joints"),
                            floats_from(joint_directions, "joint_directions"),
                            floats_from(weights, "weights"),
                            parents_from(parents, "parents")};
  const Tensor turns = floats_from(rotations, "rotations"), betas = floats_from(shape, "shape");
  const std::int64_t count = threads_from(threads);
  cpu::Skinned out;
  {
    const py::gil_scoped_release release;
    out = cpu::pose_body(body, turns, betas, count);
  }
  return arrays_from(out);
}

}  // namespace

void register_skin(py::module_& module) {
  module.def("skin", &skin, py::arg("rest"), py::arg("joints"), py::arg("rotations"), py::arg("weights"),
             py::arg("parents"), py::arg("threads") = 0,
             "Linear blend skinning: posed vertices (B, V, 3) and joints (B, J, 3), float32 metres, from shaped\n"
             "vertices `rest` (B, V, 3), shaped `joints` (B, J, 3), `rotations` (B, J, 3, 3) relative to the parent,\n"
             "`weights` (V, J) and `parents` (J,), -1 for the root. float32, or float64 that is rounded to it.\n"
             "`threads` 0 takes all cores; the bits do not depend on it. Raises InputError for wrong shapes, dtypes\n"
             "and NaN.");
  module.def("pose_body", &pose_body, py::arg("rest"), py::arg("shape_directions"), py::arg("pose_directions"),
             py::arg("joints"), py::arg("joint_directions"), py::arg("weights"), py::arg("parents"),
             py::arg("rotations"), py::arg("shape"), py::kw_only(), py::arg("threads") = 0,
             "Shape and pose blend shapes and skinning of B items in one call: posed vertices (B, V, 3) and joints\n"
             "(B, J, 3), float32 metres. `rest` (V, 3), `shape_directions` (S, V, 3), `pose_directions` (P, V, 3)\n"
             "with P = 0 or 9 (J - 1), `joints` (J, 3) and `joint_directions` (S, J, 3), `weights` (V, J), `parents`\n"
             "(J,), `rotations` (B, J, 3, 3), `shape` (B, S), or (1, S) for all. Dtypes, threads and errors are\n"
             "those of `skin`.");
}

}  // namespace hoirt::bindings

// skin() for Python.
#include "csrc/kernels/skin.h"

#include "csrc/bindings/convert.h"
#include "csrc/bindings/module.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

using FloatArray = py::array_t<float, py::array::c_style | py::array::forcecast>;
using IntArray = py::array_t<std::int32_t, py::array::c_style | py::array::forcecast>;

using Posed = py::typing::Tuple<py::array_t<float>, py::array_t<float>>;

Posed skin_arrays(const FloatArray& rest, const FloatArray& joints, const FloatArray& rotations,
                  const FloatArray& weights, const IntArray& parents) {
  const Tensor rest_tensor = tensor_from(rest), joint_tensor = tensor_from(joints);
  const Tensor rotation_tensor = tensor_from(rotations), weight_tensor = tensor_from(weights);
  const Tensor parent_tensor = tensor_from(parents);
  Skinned out;
  {
    const py::gil_scoped_release release;
    out = skin(rest_tensor, joint_tensor, rotation_tensor, weight_tensor, parent_tensor);
  }
  return py::make_tuple(array_from<float>(std::move(out.vertices)), array_from<float>(std::move(out.joints)));
}

}  // namespace

void register_skin(py::module_& module) {
  module.def("skin", &skin_arrays, py::arg("rest"), py::arg("joints"), py::arg("rotations"), py::arg("weights"),
             py::arg("parents"),
             "Linear blend skinning: posed vertices (B, V, 3) and joints (B, J, 3), float32 metres, from shaped\n"
             "vertices `rest` (B, V, 3), shaped `joints` (B, J, 3), `rotations` (B, J, 3, 3) relative to the parent,\n"
             "`weights` (V, J) and `parents` (J,), -1 for the root.");
}

}  // namespace hoirt::bindings

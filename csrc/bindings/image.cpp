// paste() for Python.
#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/module.h"
#include "csrc/cpu/launchers.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

py::array_t<std::uint8_t> paste(const ArrayLike& picture, const ArrayLike& patch, const ArrayLike& alpha,
                                std::int64_t top, std::int64_t left) {
  const Tensor below = tensor_from(picture, "picture", DType::u8);
  const Tensor above = tensor_from(patch, "patch", DType::f32);
  const Tensor weight = tensor_from(alpha, "alpha", DType::f32);
  Tensor out;
  {
    const py::gil_scoped_release release;
    out = cpu::paste(below, above, weight, top, left);
  }
  return array_from<std::uint8_t>(out);
}

}  // namespace

void register_image(py::module_& module) {
  module.def("paste", &paste, py::arg("picture"), py::arg("patch"), py::arg("alpha"), py::arg("top"), py::arg("left"),
             "A copy of `picture` (H, W, 3) uint8 with `patch` (h, w, 3) float32, 0..255, blended in by `alpha` (h, w)\n"
             "float32, 0..1: round(alpha * patch + (1 - alpha) * picture), ties to even, clamped to 0..255. The patch's\n"
             "corner lies at row `top`, column `left`; what hangs over the border is cut. Pixels with alpha 0 keep\n"
             "their bits. Raises InputError for wrong shapes, dtypes, NaN or alpha outside 0..1.");
}

}  // namespace hoirt::bindings

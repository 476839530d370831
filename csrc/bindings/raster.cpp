// rasterize() for Python.
#include <pybind11/stl.h>

#include <array>

#include "csrc/bindings/convert.h"
#include "csrc/bindings/module.h"
#include "csrc/raster/rasterize.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

using FloatArray = py::array_t<float, py::array::c_style | py::array::forcecast>;
using IntArray = py::array_t<std::int32_t, py::array::c_style | py::array::forcecast>;

using Buffers = py::typing::Tuple<py::array_t<float>, py::array_t<std::int32_t>, py::array_t<float>>;

Buffers rasterize(const FloatArray& vertices, const IntArray& faces, const std::array<double, 4>& intrinsics,
                    const std::array<std::int64_t, 2>& size, double near, bool cull_back_faces) {
  const raster::Camera camera{intrinsics[0], intrinsics[1], intrinsics[2], intrinsics[3], size[0], size[1], near};
  const Tensor points = tensor_from(vertices);
  const Tensor triangles = tensor_from(faces);
  raster::Raster out;
  {
    const py::gil_scoped_release release;
    out = raster::rasterize(points, triangles, camera, cull_back_faces);
  }
  return py::make_tuple(array_from<float>(std::move(out.depth)), array_from<std::int32_t>(std::move(out.faces)),
                        array_from<float>(std::move(out.barycentrics)));
}

}  // namespace

void register_raster(py::module_& module) {
  module.def("rasterize", &rasterize, py::arg("vertices"), py::arg("faces"), py::kw_only(), py::arg("intrinsics"),
             py::arg("size"), py::arg("near") = 1e-3, py::arg("cull_back_faces") = false,
             "Depth (H, W) float32 metres with 0 where empty, face index (H, W) int32 with -1 where empty, and\n"
             "barycentrics (H, W, 3) float32 of `vertices` (V, 3) metres in camera space (OpenCV axes) seen by a\n"
             "pinhole camera with `intrinsics` (fx, fy, cx, cy) in pixels and `size` (H, W).");
}

}  // namespace hoirt::bindings

// rasterize() for Python.
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/module.h"
#include "csrc/bindings/raster_arguments.h"
#include "csrc/raster/rasterize.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

py::typing::Dict<py::str, py::array> rasterize(const ArrayLike& vertices, const ArrayLike& faces,
                                               const ArrayLike& intrinsics, const IntegerSequence& size,
                                               const OptionalArray& extrinsics, const OptionalArray& instances,
                                               double near, bool cull_back_faces,
                                               const std::vector<std::string>& outputs, const Integer& threads) {
  raster::Scene scene;
  scene.vertices = tensor_from(vertices, "vertices");
  const Shape& shape = scene.vertices.shape();
  if (shape.size() == 2) {
    const Tensor& flat = scene.vertices;
    scene.vertices = Tensor::borrow(const_cast<void*>(flat.raw()), {1, shape[0], shape[1]}, flat.dtype(),
                                    std::make_shared<Tensor>(flat));
  }
  scene.faces = indices_from(faces, "faces");
  if (!instances.is_none()) scene.instances = indices_from(instances, "instances");
  scene.cameras = cameras_from(intrinsics, extrinsics);
  scene.view = view_from(size, near, cull_back_faces);
  const raster::Wanted wanted = wanted_from(outputs);
  const auto workers = static_cast<int>(unsigned_from(threads, "threads", 1024));
  raster::Raster drawn;
  {
    const py::gil_scoped_release release;
    drawn = raster::rasterize(scene, wanted, workers);
  }
  py::typing::Dict<py::str, py::array> out;
  for (const auto& [name, tensor] : {std::pair{"depth", &drawn.depth}, std::pair{"instances", &drawn.instances},
                                     std::pair{"faces", &drawn.faces}, std::pair{"barycentrics", &drawn.barycentrics},
                                     std::pair{"normals", &drawn.normals}, std::pair{"silhouette", &drawn.silhouette}}) {
    if (!tensor->shape().empty()) out[name] = array_from(*tensor);
  }
  return out;
}

}  // namespace

void register_raster(py::module_& module) {
  module.def(
      "rasterize", &rasterize, py::arg("vertices"), py::arg("faces"), py::kw_only(), py::arg("intrinsics"),
      py::arg("size"), py::arg("extrinsics") = py::none(), py::arg("instances") = py::none(), py::arg("near") = 1e-3,
      py::arg("cull_back_faces") = false, py::arg("outputs") = std::vector<std::string>{"depth"},
      py::arg("threads") = 0,
      "Draws N frames of a mesh: `vertices` (N, V, 3) or (V, 3) float32 or float64, metres in the world, with `faces`\n"
      "(F, 3) int32 or int64, seen by pinhole cameras with `intrinsics` (4,) or (N, 4), fx fy cx cy in pixels, and\n"
      "`extrinsics` (4, 4), (3, 4), (N, 4, 4) or (N, 3, 4), world to camera (default: the world is the camera's,\n"
      "OpenCV axes), in pictures of `size` (H, W), 1..8192. One frame of either serves all frames of the other.\n"
      "Pixel (column j, row i) is sampled at (j + 0.5, i + 0.5). Nothing nearer than `near` metres is drawn, and with\n"
      "`cull_back_faces` no face whose vertices run clockwise in the picture. `instances` (F,) int32 >= 0 is\n"
      "the mesh or part of each face (default 0). `threads`: 0 is one per processor; the bits never depend on it.\n"
      "\n"
      "Returns what `outputs` names: \"depth\" float32 (N, H, W) metres along z, 0 where empty; \"instances\" and\n"
      "\"faces\" int32 (N, H, W), -1 where empty; \"barycentrics\" float32 (N, H, W, 3), perspective-correct weights of\n"
      "the face's vertices; \"normals\" float32 (N, H, W, 3), the face's unit normal in camera space, turned towards the\n"
      "camera; \"silhouette\" bool (N, H, W). Of equally near faces the first one shows. Raises InputError for wrong\n"
      "shapes, dtypes and ranges, faces that name no vertex, and vertices that are not finite or beyond 1e30 m.");
}

}  // namespace hoirt::bindings

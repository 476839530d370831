// rasterize() for Python.
#include <pybind11/stl.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "csrc/bindings/arguments.h"
#include "csrc/bindings/convert.h"
#include "csrc/bindings/module.h"
#include "csrc/raster/rasterize.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

// int32 as it is; int64 where every value fits.
Tensor indices_from(const py::object& object, const std::string& name) {
  const Tensor given = tensor_from(object, name);
  if (given.dtype() == DType::i32) return given;
  if (given.dtype() != DType::i64) {
    throw InputError(name + " must hold int32 or int64, not " + to_string(given.dtype()));
  }
  Tensor out(given.shape(), DType::i32);
  const std::int64_t* from = given.data<std::int64_t>();
  std::int32_t* to = out.data<std::int32_t>();
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (from[i] < INT32_MIN || from[i] > INT32_MAX) {
      throw InputError(name + " holds " + std::to_string(from[i]) + ", which does not fit into int32");
    }
    to[i] = static_cast<std::int32_t>(from[i]);
  }
  return out;
}

// float64 values of an array of float32 or float64, or of nested sequences of numbers.
Tensor numbers_from(const py::object& object, const std::string& name) {
  py::object array = object;
  if (py::isinstance<py::list>(object) || py::isinstance<py::tuple>(object)) {
    array = py::array_t<double>::ensure(object);
    if (!array) {
      PyErr_Clear();
      throw InputError(name + " must hold numbers");
    }
  }
  const Tensor given = tensor_from(array, name);
  if (given.dtype() == DType::f64) return given;
  if (given.dtype() != DType::f32) {
    throw InputError(name + " must hold float64 or float32, not " + to_string(given.dtype()));
  }
  Tensor out(given.shape(), DType::f64);
  std::copy_n(given.data<float>(), given.size(), out.data<double>());
  return out;
}

std::vector<raster::Camera> cameras_from(const py::object& intrinsics, const py::object& extrinsics) {
  const Tensor inner = numbers_from(intrinsics, "intrinsics");
  if (inner.rank() < 1 || inner.rank() > 2 || inner.shape().back() != 4 || inner.empty()) {
    throw InputError("intrinsics must have shape (4,) or (N, 4): fx, fy, cx, cy; not " + to_string(inner.shape()));
  }
  const std::size_t inner_count = inner.size() / 4;
  constexpr std::array<double, 12> identity{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
  Tensor outer;
  std::size_t outer_count = 1, outer_size = 12;
  if (!extrinsics.is_none()) {
    outer = numbers_from(extrinsics, "extrinsics");
    const std::size_t rank = outer.rank();
    const bool fits = (rank == 2 || rank == 3) && outer.dim(rank - 1) == 4 &&
                      (outer.dim(rank - 2) == 3 || outer.dim(rank - 2) == 4) && !outer.empty();
    if (!fits) {
      throw InputError("extrinsics must have shape (4, 4), (3, 4), (N, 4, 4) or (N, 3, 4), not " +
                       to_string(outer.shape()));
    }
    outer_size = static_cast<std::size_t>(outer.dim(rank - 2)) * 4;
    outer_count = outer.size() / outer_size;
  }
  const std::size_t count = std::max(inner_count, outer_count);
  if ((inner_count != 1 && inner_count != count) || (outer_count != 1 && outer_count != count)) {
    throw InputError("there are intrinsics of " + std::to_string(inner_count) + " frames and extrinsics of " +
                     std::to_string(outer_count) + "; each must be 1 or the same number");
  }
  std::vector<raster::Camera> cameras(count);
  for (std::size_t i = 0; i < count; ++i) {
    const double* k = inner.data<double>() + (inner_count == 1 ? 0 : 4 * i);
    const double* pose =
        outer.empty() ? identity.data() : outer.data<double>() + (outer_count == 1 ? 0 : outer_size * i);
    raster::Camera& camera = cameras[i];
    camera.fx = k[0], camera.fy = k[1], camera.cx = k[2], camera.cy = k[3];
    std::copy_n(pose, 12, camera.pose);
    if (outer_size == 16 && !(pose[12] == 0 && pose[13] == 0 && pose[14] == 0 && pose[15] == 1)) {
      throw InputError("the last row of extrinsics must be 0 0 0 1 (rows of rotation | translation, world to camera)");
    }
  }
  return cameras;
}

raster::View view_from(const IntegerSequence& size, double near, bool cull_back_faces) {
  const Shape sides = shape_from(size, "size");
  if (sides.size() != 2) throw InputError("size must be (H, W), not " + to_string(sides));
  for (const std::int64_t side : sides) {
    if (side < 1 || side > 8192) {
      throw InputError("size must be between 1 and 8192 pixels a side, not " + to_string(sides));
    }
  }
  return {static_cast<std::int32_t>(sides[0]), static_cast<std::int32_t>(sides[1]), near, cull_back_faces};
}

raster::Wanted wanted_from(const std::vector<std::string>& outputs) {
  raster::Wanted wanted;
  const std::array<std::pair<const char*, bool*>, 6> known{{{"depth", &wanted.depth},
                                                            {"instances", &wanted.instances},
                                                            {"faces", &wanted.faces},
                                                            {"barycentrics", &wanted.barycentrics},
                                                            {"normals", &wanted.normals},
                                                            {"silhouette", &wanted.silhouette}}};
  if (outputs.empty()) throw InputError("outputs names nothing to draw");
  for (const std::string& name : outputs) {
    const auto* const entry = std::ranges::find_if(known, [&](const auto& each) { return each.first == name; });
    if (entry == known.end()) {
      throw InputError("unknown output '" + name +
                       "'; known are depth, instances, faces, barycentrics, normals and silhouette");
    }
    *entry->second = true;
  }
  return wanted;
}

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

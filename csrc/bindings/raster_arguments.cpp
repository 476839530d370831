// The arguments of rasterize() from Python values.
#include "csrc/bindings/raster_arguments.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <array>
#include <utility>

#include "csrc/bindings/convert.h"

namespace py = pybind11;

namespace hoirt::bindings {
namespace {

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

}  // namespace

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

}  // namespace hoirt::bindings

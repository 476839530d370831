// What is checked about a scene before it is drawn.
#include <cmath>
#include <span>
#include <string>

#include "csrc/raster/rasterize.h"

namespace hoirt::raster {
namespace {

void check_view(const View& view) {
  constexpr std::int32_t longest = 8192;
  if (view.height < 1 || view.width < 1 || view.height > longest || view.width > longest) {
    throw InputError("size must be between 1 and 8192 pixels a side, not " + std::to_string(view.height) + " x " +
                     std::to_string(view.width));
  }
  if (!(view.near >= 1e-9 && view.near <= farthest)) {
    throw InputError("near must lie in 1e-9..1e30 metres, not " + std::to_string(view.near));
  }
}

void check_camera(const Camera& camera, std::size_t index) {
  const std::string name = "the camera of frame " + std::to_string(index);
  for (const double focal : {camera.fx, camera.fy}) {
    if (!(focal >= 1e-9 && focal <= 1e9)) {
      throw InputError(name + " has the focal length " + std::to_string(focal) + "; it must lie in 1e-9..1e9 pixels");
    }
  }
  for (const double center : {camera.cx, camera.cy}) {
    if (!(std::abs(center) <= 1e9)) {
      throw InputError(name + " has the principal point " + std::to_string(center) + "; it must lie within 1e9 pixels");
    }
  }
  for (const double value : camera.pose) {
    if (!std::isfinite(value)) throw InputError(name + " has extrinsics with NaN or infinity");
  }
}

}  // namespace

void check_vertices(const Shape& shape, DType dtype) {
  if (shape.size() != 3 || shape[2] != 3) {
    throw InputError("vertices must have shape (V, 3) or (N, V, 3), not " + to_string(shape));
  }
  if (dtype != DType::f32 && dtype != DType::f64) {
    throw InputError("vertices must hold float32 or float64, not " + to_string(dtype));
  }
}

void check_positions(const Tensor& vertices) {
  const auto check = [&](const auto* values) {
    for (std::size_t i = 0; i < vertices.size(); ++i) {
      if (!(std::abs(values[i]) <= farthest)) {
        throw InputError("vertex " + std::to_string(i / 3) + " holds NaN or infinity, or lies beyond 1e30 metres");
      }
    }
  };
  if (vertices.dtype() == DType::f32) check(vertices.data<float>());
  else check(vertices.data<double>());
}

void check_faces(const Tensor& faces, std::int64_t count) {
  if (faces.rank() != 2 || faces.dim(1) != 3) {
    throw InputError("faces must have shape (F, 3), not " + to_string(faces.shape()));
  }
  if (faces.dim(0) > INT32_MAX) throw InputError("there must be fewer than 2^31 faces");
  const std::span<const std::int32_t> indices(faces.data<std::int32_t>(), faces.size());
  for (std::size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] < 0 || indices[i] >= count) {
      throw InputError("face " + std::to_string(i / 3) + " names the vertex " + std::to_string(indices[i]) +
                       "; there are " + std::to_string(count));
    }
  }
}

void check_instances(const Tensor& instances, std::int64_t face_count) {
  if (instances.shape() != Shape{face_count}) {
    throw InputError("instances must have shape (F,) = (" + std::to_string(face_count) + ",), not " +
                     to_string(instances.shape()));
  }
  const std::span<const std::int32_t> ids(instances.data<std::int32_t>(), instances.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0) {
      throw InputError("the instance of face " + std::to_string(i) + " is " + std::to_string(ids[i]) +
                       "; it must be 0 or more");
    }
  }
}

std::int64_t check_views(std::int64_t meshes, const std::vector<Camera>& cameras, const View& view) {
  check_view(view);
  for (std::size_t i = 0; i < cameras.size(); ++i) check_camera(cameras[i], i);
  const auto views = static_cast<std::int64_t>(cameras.size());
  const std::int64_t frames = meshes == 1 ? views : meshes;
  if (frames < 1 || (meshes != 1 && meshes != frames) || (views != 1 && views != frames)) {
    throw InputError("there are vertices of " + std::to_string(meshes) + " frames and cameras of " +
                     std::to_string(views) + "; each must be 1 or the same number");
  }
  return frames;
}

}  // namespace hoirt::raster

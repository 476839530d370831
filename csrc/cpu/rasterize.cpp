// CPU rasteriser: fixed-point edge functions (1/256 pixel), top-left rule, near-plane clipping, z-buffer.
#include "csrc/raster/rasterize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

namespace hoirt::raster {
namespace {

using Vec3 = std::array<double, 3>;

// A corner on its way to the screen: camera-space position and its weights in the original triangle.
struct Corner {
  Vec3 position;
  Vec3 weights;
};

struct ScreenCorner {
  std::int64_t x, y;  // 1/256 pixel
  double inverse_z;
  Vec3 weights_over_z;
};

constexpr std::int64_t subpixel = 256;
constexpr double guard = 1 << 22;  // pixels; keeps edge products inside 64 bits

Corner mix(const Corner& a, const Corner& b, double t) {
  Corner out;
  for (std::size_t k = 0; k < 3; ++k) {
    out.position[k] = a.position[k] + t * (b.position[k] - a.position[k]);
    out.weights[k] = a.weights[k] + t * (b.weights[k] - a.weights[k]);
  }
  return out;
}

// Keeps the part with z >= near: three or four corners, or none.
std::vector<Corner> clip_near(const std::array<Corner, 3>& triangle, double near) {
  std::vector<Corner> kept;
  for (std::size_t i = 0; i < 3; ++i) {
    const Corner& a = triangle[i];
    const Corner& b = triangle[(i + 1) % 3];
    const bool a_in = a.position[2] >= near;
    const bool b_in = b.position[2] >= near;
    if (a_in) kept.push_back(a);
    if (a_in != b_in) {
      // Always from the inner to the outer corner, so that two triangles sharing an edge clip it at the same point.
      const Corner& inner = a_in ? a : b;
      const Corner& outer = a_in ? b : a;
      kept.push_back(mix(inner, outer, (near - inner.position[2]) / (outer.position[2] - inner.position[2])));
    }
  }
  return kept;
}

ScreenCorner project(const Corner& corner, const Camera& camera) {
  const double inverse_z = 1.0 / corner.position[2];
  const double x = std::clamp(camera.fx * corner.position[0] * inverse_z + camera.cx, -guard, guard);
  const double y = std::clamp(camera.fy * corner.position[1] * inverse_z + camera.cy, -guard, guard);
  ScreenCorner out{std::llround(x * subpixel), std::llround(y * subpixel), inverse_z, {}};
  for (std::size_t k = 0; k < 3; ++k) out.weights_over_z[k] = corner.weights[k] * inverse_z;
  return out;
}

std::int64_t cross(const ScreenCorner& a, const ScreenCorner& b, std::int64_t x, std::int64_t y) {
  return (b.x - a.x) * (y - a.y) - (b.y - a.y) * (x - a.x);
}

// With y down and positive area, a left edge goes up and a top edge goes right.
bool is_top_left(const ScreenCorner& a, const ScreenCorner& b) { return b.y < a.y || (b.y == a.y && b.x > a.x); }

std::int64_t floor_div(std::int64_t value, std::int64_t by) {
  return value >= 0 ? value / by : -((-value + by - 1) / by);
}

struct Target {
  float* depth;
  std::int32_t* faces;
  float* barycentrics;
  std::int64_t height, width;
};

void fill(ScreenCorner a, ScreenCorner b, ScreenCorner c, std::int32_t face, bool cull, const Target& target) {
  std::int64_t area = cross(a, b, c.x, c.y);
  if (area == 0 || (cull && area > 0)) return;
  if (area < 0) {
    std::swap(b, c);
    area = -area;
  }
  const auto [x_low, x_high] = std::minmax({a.x, b.x, c.x});
  const auto [y_low, y_high] = std::minmax({a.y, b.y, c.y});
  const std::int64_t first_column = std::max<std::int64_t>(floor_div(x_low, subpixel), 0);
  const std::int64_t last_column = std::min(floor_div(x_high, subpixel), target.width - 1);
  const std::int64_t first_row = std::max<std::int64_t>(floor_div(y_low, subpixel), 0);
  const std::int64_t last_row = std::min(floor_div(y_high, subpixel), target.height - 1);
  const std::int64_t bias_a = is_top_left(b, c) ? 0 : -1;
  const std::int64_t bias_b = is_top_left(c, a) ? 0 : -1;
  const std::int64_t bias_c = is_top_left(a, b) ? 0 : -1;
  const double inverse_area = 1.0 / static_cast<double>(area);

  for (std::int64_t row = first_row; row <= last_row; ++row) {
    const std::int64_t y = row * subpixel + subpixel / 2;
    for (std::int64_t column = first_column; column <= last_column; ++column) {
      const std::int64_t x = column * subpixel + subpixel / 2;
      const std::int64_t edge_a = cross(b, c, x, y);
      const std::int64_t edge_b = cross(c, a, x, y);
      const std::int64_t edge_c = cross(a, b, x, y);
      if (edge_a + bias_a < 0 || edge_b + bias_b < 0 || edge_c + bias_c < 0) continue;
      const double wa = static_cast<double>(edge_a) * inverse_area;
      const double wb = static_cast<double>(edge_b) * inverse_area;
      const double wc = static_cast<double>(edge_c) * inverse_area;
      const double z = 1.0 / (wa * a.inverse_z + wb * b.inverse_z + wc * c.inverse_z);
      const std::int64_t pixel = row * target.width + column;
      float& nearest = target.depth[pixel];
      if (nearest != 0.0f && static_cast<float>(z) >= nearest) continue;
      nearest = static_cast<float>(z);
      target.faces[pixel] = face;
      for (std::size_t k = 0; k < 3; ++k) {
        const double weight = wa * a.weights_over_z[k] + wb * b.weights_over_z[k] + wc * c.weights_over_z[k];
        target.barycentrics[pixel * 3 + static_cast<std::int64_t>(k)] = static_cast<float>(weight * z);
      }
    }
  }
}

void check(const Tensor& vertices, const Tensor& triangles, const Camera& camera) {
  if (vertices.rank() != 2 || vertices.dim(1) != 3) {
    throw InputError("vertices must have shape (V, 3), not " + to_string(vertices.shape()));
  }
  if (triangles.rank() != 2 || triangles.dim(1) != 3) {
    throw InputError("faces must have shape (F, 3), not " + to_string(triangles.shape()));
  }
  if (camera.height < 1 || camera.width < 1 || camera.height > 8192 || camera.width > 8192) {
    throw InputError("the picture must be between 1 and 8192 pixels a side, not " + std::to_string(camera.height) +
                     " x " + std::to_string(camera.width));
  }
  for (const double value : {camera.fx, camera.fy, camera.cx, camera.cy}) {
    if (!std::isfinite(value)) throw InputError("the camera has a non-finite focal length or principal point");
  }
  if (!(camera.near > 0.0)) throw InputError("the near plane must lie at z > 0");
  const std::span<const float> coordinates(vertices.data<float>(), vertices.size());
  if (!std::ranges::all_of(coordinates, [](float value) { return std::isfinite(value); })) {
    throw InputError("vertices hold NaN or infinity");
  }
  const std::int64_t count = vertices.dim(0);
  const std::span<const std::int32_t> indices(triangles.data<std::int32_t>(), triangles.size());
  if (!std::ranges::all_of(indices, [count](std::int32_t index) { return index >= 0 && index < count; })) {
    throw InputError("a face names a vertex outside 0.." + std::to_string(count - 1));
  }
}

}  // namespace

Raster rasterize(const Tensor& vertices, const Tensor& triangles, const Camera& camera, bool cull_back_faces) {
  check(vertices, triangles, camera);
  Raster out{Tensor({camera.height, camera.width}, DType::f32), Tensor({camera.height, camera.width}, DType::i32),
             Tensor({camera.height, camera.width, 3}, DType::f32)};
  std::fill_n(out.faces.data<std::int32_t>(), out.faces.size(), -1);
  const Target target{out.depth.data<float>(), out.faces.data<std::int32_t>(), out.barycentrics.data<float>(),
                      camera.height, camera.width};
  const float* xyz = vertices.data<float>();
  const std::int32_t* index = triangles.data<std::int32_t>();

  for (std::int64_t f = 0; f < triangles.dim(0); ++f) {
    std::array<Corner, 3> triangle{};
    for (std::size_t k = 0; k < 3; ++k) {
      const float* vertex = xyz + 3 * static_cast<std::int64_t>(index[3 * f + static_cast<std::int64_t>(k)]);
      triangle[k].position = {vertex[0], vertex[1], vertex[2]};
      triangle[k].weights[k] = 1.0;
    }
    const std::vector<Corner> polygon = clip_near(triangle, camera.near);
    for (std::size_t k = 2; k < polygon.size(); ++k) {
      fill(project(polygon[0], camera), project(polygon[k - 1], camera), project(polygon[k], camera),
           static_cast<std::int32_t>(f), cull_back_faces, target);
    }
  }
  return out;
}

}  // namespace hoirt::raster

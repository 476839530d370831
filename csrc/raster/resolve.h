// Visibility keys, and what the winning face of a pixel looks like there.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "csrc/raster/camera.h"

namespace hoirt::raster {

// The smallest key of a pixel wins: the nearest surface, of equally near ones the lowest face index. Taking the
// minimum commutes, so neither the order of the faces nor the number of threads shows.
using Key = std::uint64_t;
constexpr Key nothing = ~Key{0};

HOIRT_HD inline Key key_of(float inverse_depth, std::uint32_t face) {
  std::uint32_t bits;  // of a positive float: ordered as the numbers are
  std::memcpy(&bits, &inverse_depth, sizeof bits);
  return static_cast<Key>(~bits) << 32 | face;
}

HOIRT_HD inline std::int32_t face_of(Key key) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(key)); }

// Metres, right to 2^-23 relative; 0 where there is nothing.
HOIRT_HD inline float depth_of(Key key) {
  const auto bits = static_cast<std::uint32_t>(~key >> 32);
  float inverse;
  std::memcpy(&inverse, &bits, sizeof inverse);
  return key == nothing ? 0.0F : 1.0F / inverse;
}

struct Weights {
  double w[3];
};

// Barycentric weights of the point of the triangle that a pixel centre sees, pulled inside where snapping or an edge-on
// view put it outside.
HOIRT_HD inline Weights barycentrics_of(const Camera& camera, const Vec3* position, std::int32_t row,
                                        std::int32_t column) {
  const Vec3 ray{(column + 0.5 - camera.cx) / camera.fx, (row + 0.5 - camera.cy) / camera.fy, 1.0};
  const Vec3 to_b = position[1] - position[0], to_c = position[2] - position[0];
  const Vec3 normal = cross(to_b, to_c);
  const Vec3 point = (dot(normal, position[0]) / dot(normal, ray)) * ray - position[0];
  const double scale = 1.0 / dot(normal, normal);
  const double b = dot(cross(point, to_c), normal) * scale;
  const double c = dot(cross(to_b, point), normal) * scale;
  Weights out{{most(1.0 - b - c, 0.0), most(b, 0.0), most(c, 0.0)}};
  const double sum = out.w[0] + out.w[1] + out.w[2];
  if (!(sum > 0.0 && sum <= DBL_MAX)) return {{1.0, 0.0, 0.0}};  // seen exactly edge-on
  for (double& weight : out.w) weight /= sum;
  return out;
}

// The unit normal of a triangle, turned towards the camera.
HOIRT_HD inline Vec3 normal_of(const Vec3* position) {
  Vec3 normal = cross(position[1] - position[0], position[2] - position[0]);
  const double length = std::sqrt(dot(normal, normal));
  if (!(length > 0.0)) return {0.0, 0.0, -1.0};
  return (dot(normal, position[0]) > 0 ? -1.0 / length : 1.0 / length) * normal;
}

// Where the outputs of one frame go; null where not asked for. Every pixel is written once.
struct Outputs {
  float* depth;
  std::int32_t* instances;
  std::int32_t* faces;
  float* barycentrics;
  float* normals;
  std::uint8_t* silhouette;
};

// One pixel; `corners` gives the three camera-space vertices of a face.
template <typename CornersOf>
HOIRT_HD inline void resolve(Key key, std::int64_t pixel, std::int32_t width, const Camera& camera,
                             const std::int32_t* face_instances, const CornersOf& corners, const Outputs& out) {
  const bool hit = key != nothing;
  const std::int32_t face = hit ? face_of(key) : -1;
  if (out.depth) out.depth[pixel] = depth_of(key);
  if (out.faces) out.faces[pixel] = face;
  if (out.instances) out.instances[pixel] = !hit ? -1 : face_instances ? face_instances[face] : 0;
  if (out.silhouette) out.silhouette[pixel] = hit ? 1 : 0;
  if (!out.barycentrics && !out.normals) return;
  Vec3 position[3] = {};
  if (hit) corners(face, position);
  if (out.barycentrics) {
    Weights weights{{0.0, 0.0, 0.0}};
    if (hit) {
      weights = barycentrics_of(camera, position, static_cast<std::int32_t>(pixel / width),
                                static_cast<std::int32_t>(pixel % width));
    }
    for (int k = 0; k < 3; ++k) out.barycentrics[3 * pixel + k] = static_cast<float>(weights.w[k]);
  }
  if (out.normals) {
    const Vec3 normal = hit ? normal_of(position) : Vec3{0.0, 0.0, 0.0};
    out.normals[3 * pixel] = static_cast<float>(normal.x);
    out.normals[3 * pixel + 1] = static_cast<float>(normal.y);
    out.normals[3 * pixel + 2] = static_cast<float>(normal.z);
  }
}

}  // namespace hoirt::raster

// From the world to the screen: 3-vectors, the pinhole camera of a frame, and vertices snapped to fixed point.
#pragma once

#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::raster {

struct Vec3 {
  double x, y, z;
};

HOIRT_HD inline Vec3 operator-(const Vec3& a, const Vec3& b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
HOIRT_HD inline Vec3 operator*(double t, const Vec3& a) { return {t * a.x, t * a.y, t * a.z}; }
HOIRT_HD inline Vec3 cross(const Vec3& a, const Vec3& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
HOIRT_HD inline double dot(const Vec3& a, const Vec3& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
HOIRT_HD inline double least(double a, double b) { return a < b ? a : b; }
HOIRT_HD inline double most(double a, double b) { return a > b ? a : b; }

// OpenCV axes: x right, y down, z away. Pixel (column j, row i) is sampled at (j + 0.5, i + 0.5).
struct Camera {
  double fx, fy, cx, cy;  // pixels
  double pose[12];        // world to camera: 3 rows of rotation | translation
};

// What is common to all frames.
struct View {
  std::int32_t height, width;  // 1..8192
  double near;                 // metres; nothing nearer than this is drawn
  bool cull_back_faces;
};

// A vertex on the screen in units of 1/16384 pixel, so that snapping moves an edge by less than 1e-4 pixel.
// Vertices before the near plane or outside of the guard band have no such place; x is `off_screen` then.
struct ScreenPoint {
  std::int32_t x, y;
};

constexpr int subpixel_bits = 14;
constexpr std::int32_t subpixel = 1 << subpixel_bits;
constexpr std::int32_t off_screen = INT32_MIN;
// Pixels; wider than any picture, and the products of two differences still fit into 64 bits.
constexpr double guard_low = -16384.0, guard_high = 24576.0;
// Metres; farther coordinates would overflow the products of three that the set-up forms.
constexpr double farthest = 1e30;

// The camera-space position of a world point; false if it is not finite or farther than `farthest`.
template <typename T>
HOIRT_HD inline bool to_camera(const Camera& camera, const T* world, Vec3& position) {
  const double x = static_cast<double>(world[0]);
  const double y = static_cast<double>(world[1]);
  const double z = static_cast<double>(world[2]);
  const double* m = camera.pose;
  position = {m[0] * x + m[1] * y + m[2] * z + m[3], m[4] * x + m[5] * y + m[6] * z + m[7],
              m[8] * x + m[9] * y + m[10] * z + m[11]};
  const auto fine = [](double value) { return value >= -farthest && value <= farthest; };
  // The world's coordinates too: NaN times zero would be noticed, but a huge number times zero would not.
  return fine(x) && fine(y) && fine(z) && fine(position.x) && fine(position.y) && fine(position.z);
}

HOIRT_HD inline ScreenPoint to_screen(const Camera& camera, const Vec3& position, double near) {
  if (!(position.z >= near)) return {off_screen, 0};
  const double inverse = 1.0 / position.z;
  const double x = camera.fx * position.x * inverse + camera.cx;
  const double y = camera.fy * position.y * inverse + camera.cy;
  if (!(x >= guard_low && x <= guard_high && y >= guard_low && y <= guard_high)) return {off_screen, 0};
  // Truncation of a positive number is the floor, without a call.
  constexpr double lift = 1 << 30;
  const auto snap = [](double value) {
    return static_cast<std::int32_t>(static_cast<std::int64_t>(value * subpixel + 0.5 + lift) - (std::int64_t{1} << 30));
  };
  return {snap(x), snap(y)};
}

}  // namespace hoirt::raster

// CPU hand drawing: frames on threads, the shapes of a frame one after the other.
#include <cmath>
#include <string>

#include "csrc/cpu/encode.h"
#include "csrc/raster/workers.h"

namespace hoirt::cpu {
namespace {

constexpr double most_pixels = 1 << 30;  // keeps the fixed-point products of csrc/raster/draw.h inside 64 bits

// Paints spans of one colour on one picture.
struct Painter {
  std::uint8_t* picture = nullptr;
  std::int64_t width = 0, height = 0;
  const std::uint8_t* colour = nullptr;

  void span(std::int64_t row, std::int64_t first, std::int64_t last) const {
    std::uint8_t* pixel = picture + 3 * (row * width + first);
    for (std::int64_t column = first; column <= last; ++column) {
      for (int k = 0; k < 3; ++k) *pixel++ = colour[k];
    }
  }
};

void check(const Tensor& pictures, const Tensor& joints, const Tensor* depth) {
  if (pictures.rank() != 4 || pictures.dim(3) != 3) {
    throw InputError("below must have shape (N, H, W, 3), not " + to_string(pictures.shape()));
  }
  const std::int64_t frames = pictures.dim(0);
  if (joints.shape() != Shape{frames, raster::hand_joints, 2}) {
    throw InputError("joints must have shape " + to_string(Shape{frames, raster::hand_joints, 2}) + ", not " +
                     to_string(joints.shape()));
  }
  const double* values = joints.data<double>();
  for (std::size_t i = 0; i < joints.size(); ++i) {
    if (!(std::abs(values[i]) <= most_pixels)) {
      throw InputError("joint " + std::to_string(i / 2 % raster::hand_joints) + " of frame " +
                       std::to_string(i / (2 * raster::hand_joints)) +
                       " must lie within 2^30 pixels of the picture; it is " + std::to_string(values[i]));
    }
  }
  if (!depth) return;
  if (depth->shape() != Shape{frames, raster::hand_joints}) {
    throw InputError("the joints' depth must have shape " + to_string(Shape{frames, raster::hand_joints}) + ", not " +
                     to_string(depth->shape()));
  }
  const double* z = depth->data<double>();
  for (std::size_t i = 0; i < depth->size(); ++i) {
    if (!std::isfinite(z[i])) throw InputError("the joints' depth holds NaN or infinity");
  }
}

}  // namespace

void draw_hands(Tensor& pictures, const Tensor& joints, const Tensor* depth, const raster::HandStyle& style,
                int threads) {
  if (threads < 0) throw InputError("threads must be 0 (all cores) or more");
  check(pictures, joints, depth);
  const raster::HandDrawing drawing{joints.data<double>(), depth ? depth->data<double>() : nullptr, style};
  const std::int64_t height = pictures.dim(1), width = pictures.dim(2);
  std::uint8_t* first = pictures.data<std::uint8_t>();
  const auto draw = [&](std::int64_t frame) {
    if (drawing.missing(frame)) return;
    Painter painter{first + frame * height * width * 3, width, height, nullptr};
    for (int order = 0; order < raster::hand_shapes; ++order) {
      painter.colour = drawing.colour(frame, order);
      drawing(frame, order, painter);
    }
  };
  raster::for_each_item(pictures.dim(0), raster::thread_count(threads), [&] { return draw; });
}

}  // namespace hoirt::cpu

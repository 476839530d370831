// Encoders and hand drawing under the sanitizers: shapes at once as on CUDA, far coordinates, ranges, refused values.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "csrc/cpu/encode.h"
#include "tests/cpp/check.h"

using namespace hoirt;

namespace {

// A small generator of its own: the values only have to be varied.
struct Numbers {
  std::uint32_t state = 1;
  double next(double low, double high) {
    state = state * 1664525u + 1013904223u;
    return low + (high - low) * (state / 4294967296.0);
  }
};

// What the CUDA launcher does: shapes in any order, the highest wins.
struct OrderSink {
  std::vector<int>* order = nullptr;
  std::int64_t width = 0, height = 0;
  int value = 0;
  void span(std::int64_t row, std::int64_t first, std::int64_t last) const {
    CHECK(row >= 0 && row < height && first >= 0 && first <= last && last < width);
    for (std::int64_t x = first; x <= last; ++x) {
      int& at = (*order)[static_cast<std::size_t>(row * width + x)];
      at = std::max(at, value);
    }
  }
};

raster::HandStyle style_of(bool lines) {
  raster::HandStyle style;
  style.lines = lines;
  for (int i = 0; i < raster::hand_joints; ++i) style.joint_colours[i][0] = static_cast<std::uint8_t>(100 + i);
  for (int i = 0; i < raster::hand_limbs; ++i) style.limb_colours[i][1] = static_cast<std::uint8_t>(200 + i);
  return style;
}

Tensor random_joints(std::int64_t frames, double low, double high) {
  Numbers numbers;
  Tensor joints({frames, raster::hand_joints, 2}, DType::f64);
  for (std::size_t i = 0; i < joints.size(); ++i) joints.data<double>()[i] = numbers.next(low, high);
  return joints;
}

}  // namespace

TEST(shapes_drawn_at_once_equal_shapes_drawn_in_order) {
  constexpr std::int64_t frames = 6, height = 47, width = 61;
  const Tensor joints = random_joints(frames, -20.0, 80.0);
  Tensor depth({frames, raster::hand_joints}, DType::f64);
  for (std::int64_t frame = 0; frame < frames; frame += 2) depth.data<double>()[frame * raster::hand_joints] = -1.0;
  for (const bool lines : {false, true}) {
    Tensor pictures({frames, height, width, 3}, DType::u8);
    const raster::HandStyle style = style_of(lines);
    cpu::draw_hands(pictures, joints, &depth, style, 3);
    const raster::HandDrawing drawing{joints.data<double>(), depth.data<double>(), style};
    for (std::int64_t frame = 0; frame < frames; ++frame) {
      std::vector<int> order(static_cast<std::size_t>(height * width), 0);
      for (int shape = raster::hand_shapes - 1; shape >= 0; --shape) {
        OrderSink sink{&order, width, height, shape + 1};
        drawing(frame, shape, sink);
      }
      for (std::size_t i = 0; i < order.size(); ++i) {
        const std::uint8_t* pixel =
            pictures.data<std::uint8_t>() + 3 * (static_cast<std::size_t>(frame * height * width) + i);
        const std::uint8_t black[3] = {};
        const std::uint8_t* wanted = order[i] ? drawing.colour(frame, order[i] - 1) : black;
        CHECK(std::equal(wanted, wanted + 3, pixel));
      }
    }
  }
}

TEST(far_joints_stay_inside_64_bits) {
  Numbers numbers;
  const double far = 1 << 30;
  Tensor joints({64, raster::hand_joints, 2}, DType::f64);
  for (std::size_t i = 0; i < joints.size(); ++i) {
    const double choice = numbers.next(0, 4);
    joints.data<double>()[i] = choice < 1 ? far : choice < 2 ? -far : choice < 3 ? numbers.next(-far, far) : 20.0;
  }
  for (const bool lines : {false, true}) {
    Tensor pictures({64, 33, 40, 3}, DType::u8);
    cpu::draw_hands(pictures, joints, nullptr, style_of(lines), 0);
  }
  // From far above, 20 columns wide and 64 to the right on its way: in the middle its columns are 20 to 40.
  const std::vector<raster::Point> points{{-12, -(1 << 20)}, {52, 1 << 20}, {72, 1 << 20}, {8, -(1 << 20)}};
  std::vector<int> order(33 * 40, 0);
  OrderSink sink{&order, 40, 33, 1};
  raster::draw_convex<0>(points.data(), 4, sink);
  for (std::size_t row = 0; row < 33; ++row) CHECK(order[row * 40 + 30] == 1 && order[row * 40 + 10] == 0);
}

TEST(hand_depth_ranges_are_by_hand_and_frame) {
  Tensor depth({2, 1, 3}, DType::f32);
  Tensor instances({2, 1, 3}, DType::i32);
  const float values[] = {0.5f, 0.75f, 1.0f, 2.0f, 4.0f, 0.0f};
  const std::int32_t ids[] = {7, 7, 7, 0, 0, -1};
  std::copy(values, values + 6, depth.data<float>());
  std::copy(ids, ids + 6, instances.data<std::int32_t>());
  const Tensor out = cpu::encode_hand_depth(depth, &instances, 51, true, 2);
  const std::uint8_t wanted[] = {255, 153, 51, 255, 51, 0};
  CHECK(std::equal(wanted, wanted + 6, out.data<std::uint8_t>()));
  depth.data<float>()[1] = NAN;
  CHECK_THROWS(InputError, "NaN", cpu::encode_hand_depth(depth, &instances, 51, true, 2));
}

TEST(ids_without_a_colour_are_refused) {
  Tensor instances({1, 1, 2}, DType::i32);
  const Tensor colours({2, 3}, DType::u8);
  CHECK(cpu::encode_instances(instances, colours, 1).shape() == (Shape{1, 1, 2, 3}));
  for (const std::int32_t id : {1, -2, INT32_MAX, INT32_MIN}) {
    instances.data<std::int32_t>()[1] = id;
    CHECK_THROWS(InputError, "have a class", cpu::encode_instances(instances, colours, 1));
  }
}

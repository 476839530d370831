// Skinning: a bone turned by a right angle, blend shapes by hand, threads, and what is refused.
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "csrc/cpu/skin.h"
#include "tests/cpp/check.h"

using namespace hoirt;

namespace {

Tensor floats(const Shape& shape, const std::vector<float>& values) {
  Tensor tensor(shape, DType::f32);
  if (!values.empty()) std::memcpy(tensor.raw(), values.data(), values.size() * sizeof(float));
  return tensor;
}

Tensor parents(const std::vector<std::int32_t>& values) {
  Tensor tensor({static_cast<std::int64_t>(values.size())}, DType::i32);
  if (!values.empty()) std::memcpy(tensor.raw(), values.data(), values.size() * sizeof(std::int32_t));
  return tensor;
}

// Two bones along x, jointed at (1, 0, 0); one vertex at (2, 0, 0) on the second, one at the origin on the first.
cpu::BlendBody arm() {
  std::vector<float> pose(9 * 2 * 3, 0.0f);
  pose[3 * 6] = 0.5f;  // the entry (1, 0) of the second rotation moves the first vertex in x
  return {floats({2, 3}, {2, 0, 0, 0, 0, 0}),
          floats({1, 2, 3}, {1, 0, 0, 0, 0, 0}),
          floats({9, 2, 3}, pose),
          floats({2, 3}, {0, 0, 0, 1, 0, 0}),
          floats({1, 2, 3}, {0, 0, 0, 0, 0, 0}),
          floats({2, 2}, {0, 1, 1, 0}),
          parents({-1, 0})};
}

// The second bone of every item turned by a right angle about z.
Tensor turned(std::int64_t batch) {
  std::vector<float> values;
  for (std::int64_t b = 0; b < batch; ++b) {
    values.insert(values.end(), {1, 0, 0, 0, 1, 0, 0, 0, 1, 0, -1, 0, 1, 0, 0, 0, 0, 1});
  }
  return floats({batch, 2, 3, 3}, values);
}

}  // namespace

TEST(pose_body_bends_an_arm) {
  // Shaped to x = 2 + 3, corrected by 0.5, and turned about (1, 0, 0): 4.5 upwards.
  const cpu::Skinned out = cpu::pose_body(arm(), turned(1), floats({1, 1}, {3}), 1);
  const std::vector<float> wanted{1, 4.5f, 0, 0, 0, 0};
  for (std::size_t k = 0; k < wanted.size(); ++k) CHECK(out.vertices.data<float>()[k] == wanted[k]);
  const std::vector<float> joints{0, 0, 0, 1, 0, 0};
  for (std::size_t k = 0; k < joints.size(); ++k) CHECK(out.joints.data<float>()[k] == joints[k]);
}

TEST(pose_body_has_the_same_bits_on_any_number_of_threads) {
  const std::int64_t batch = 37;
  std::vector<float> shapes;
  for (std::int64_t b = 0; b < batch; ++b) shapes.push_back(static_cast<float>(b) * 0.1f);
  const cpu::Skinned one = cpu::pose_body(arm(), turned(batch), floats({batch, 1}, shapes), 1);
  for (const std::int64_t threads : {0, 2, 5, 64}) {
    const cpu::Skinned many = cpu::pose_body(arm(), turned(batch), floats({batch, 1}, shapes), threads);
    CHECK(std::memcmp(one.vertices.raw(), many.vertices.raw(), one.vertices.bytes()) == 0);
  }
}

TEST(skin_equals_pose_body_without_blend_shapes) {
  cpu::BlendBody body = arm();
  body.pose_directions = Tensor({0, 2, 3}, DType::f32);
  const cpu::Skinned whole = cpu::pose_body(body, turned(1), floats({1, 1}, {0}), 1);
  const cpu::Skinned plain = cpu::skin(floats({1, 2, 3}, {2, 0, 0, 0, 0, 0}), floats({1, 2, 3}, {0, 0, 0, 1, 0, 0}),
                                       turned(1), body.weights, body.parents, 1);
  CHECK(std::memcmp(whole.vertices.raw(), plain.vertices.raw(), whole.vertices.bytes()) == 0);
}

TEST(skinning_refuses_wrong_input) {
  const Tensor shape = floats({1, 1}, {0});
  CHECK(cpu::pose_body(arm(), turned(0), shape, 0).vertices.empty());
  CHECK_THROWS(InputError, "shape must have shape", cpu::pose_body(arm(), turned(2), floats({3, 1}, {0, 0, 0}), 1));
  CHECK_THROWS(InputError, "threads", cpu::pose_body(arm(), turned(1), shape, -1));
  const Tensor nan = floats({1, 1}, {std::numeric_limits<float>::quiet_NaN()});
  CHECK_THROWS(InputError, "NaN", cpu::pose_body(arm(), turned(1), nan, 1));
  for (const auto& wrong : std::vector<std::vector<std::int32_t>>{{-1, 1}, {0, 0}, {-1, -1}, {-1, 0, 1}, {}}) {
    cpu::BlendBody body = arm();
    body.parents = parents(wrong);
    CHECK_THROWS(InputError, "", cpu::pose_body(body, turned(1), shape, 1));
  }
  cpu::BlendBody body = arm();
  body.pose_directions = Tensor({8, 2, 3}, DType::f32);
  CHECK_THROWS(InputError, "directions of pose", cpu::pose_body(body, turned(1), shape, 1));
  body = arm();
  body.weights = Tensor({3, 2}, DType::f32);
  CHECK_THROWS(InputError, "weights", cpu::pose_body(body, turned(1), shape, 1));
}

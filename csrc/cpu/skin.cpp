// CPU linear blend skinning; transforms are chained in float64, since errors grow along a kinematic chain.
#include "csrc/kernels/skin.h"

#include <array>
#include <cstddef>
#include <string>
#include <vector>

namespace hoirt {
namespace {

// A rigid transform: 3 rows of rotation | translation.
using Rigid = std::array<double, 12>;

Rigid chain(const Rigid& a, const Rigid& b) {
  Rigid out{};
  for (std::size_t r = 0; r < 3; ++r) {
    for (std::size_t c = 0; c < 4; ++c) {
      double sum = c == 3 ? a[4 * r + 3] : 0.0;
      for (std::size_t k = 0; k < 3; ++k) sum += a[4 * r + k] * b[4 * k + c];
      out[4 * r + c] = sum;
    }
  }
  return out;
}

void check(const char* name, const Tensor& tensor, const Shape& wanted) {
  if (tensor.shape() != wanted) {
    throw InputError(std::string(name) + " must have shape " + to_string(wanted) + ", not " + to_string(tensor.shape()));
  }
}

void check_parents(const Tensor& parents) {
  const std::int32_t* parent = parents.data<std::int32_t>();
  for (std::int64_t j = 0; j < parents.dim(0); ++j) {
    if (parent[j] >= j || parent[j] < (j == 0 ? -1 : 0)) {
      throw InputError("the parent of joint " + std::to_string(j) + " must be a joint before it, not " +
                       std::to_string(parent[j]));
    }
  }
}

// Transforms from rest to pose for one item; also writes the posed joints.
std::vector<Rigid> pose_transforms(const float* rest_joints, const float* rotations, const std::int32_t* parent,
                                   std::size_t count, float* posed) {
  std::vector<Rigid> global(count);
  std::vector<Rigid> relative(count);
  for (std::size_t j = 0; j < count; ++j) {
    Rigid local{};
    for (std::size_t r = 0; r < 3; ++r) {
      for (std::size_t c = 0; c < 3; ++c) local[4 * r + c] = static_cast<double>(rotations[9 * j + 3 * r + c]);
      local[4 * r + 3] = static_cast<double>(rest_joints[3 * j + r]);
      if (j > 0) {
        local[4 * r + 3] -= static_cast<double>(rest_joints[3 * static_cast<std::size_t>(parent[j]) + r]);
      }
    }
    global[j] = j == 0 ? local : chain(global[static_cast<std::size_t>(parent[j])], local);
    relative[j] = global[j];
    for (std::size_t r = 0; r < 3; ++r) {
      posed[3 * j + r] = static_cast<float>(global[j][4 * r + 3]);
      for (std::size_t c = 0; c < 3; ++c) {
        relative[j][4 * r + 3] -= global[j][4 * r + c] * static_cast<double>(rest_joints[3 * j + c]);
      }
    }
  }
  return relative;
}

}  // namespace

Skinned skin(const Tensor& rest, const Tensor& joints, const Tensor& rotations, const Tensor& weights,
             const Tensor& parents) {
  if (rest.rank() != 3 || parents.rank() != 1 || parents.empty()) {
    throw InputError("rest vertices must have shape (B, V, 3) and parents (J,) with J >= 1, not " +
                     to_string(rest.shape()) + " and " + to_string(parents.shape()));
  }
  const std::int64_t batch = rest.dim(0), vertex_count = rest.dim(1), joint_count = parents.dim(0);
  check("rest vertices", rest, {batch, vertex_count, 3});
  check("joints", joints, {batch, joint_count, 3});
  check("rotations", rotations, {batch, joint_count, 3, 3});
  check("weights", weights, {vertex_count, joint_count});
  check_parents(parents);

  Skinned out{Tensor({batch, vertex_count, 3}, DType::f32), Tensor({batch, joint_count, 3}, DType::f32)};
  const auto bones = static_cast<std::size_t>(joint_count);
  const float* weight = weights.data<float>();
  for (std::int64_t b = 0; b < batch; ++b) {
    const auto transforms =
        pose_transforms(joints.data<float>() + b * joint_count * 3, rotations.data<float>() + b * joint_count * 9,
                        parents.data<std::int32_t>(), bones, out.joints.data<float>() + b * joint_count * 3);
    const float* from = rest.data<float>() + b * vertex_count * 3;
    float* to = out.vertices.data<float>() + b * vertex_count * 3;
    for (std::int64_t v = 0; v < vertex_count; ++v) {
      Rigid blend{};
      for (std::size_t j = 0; j < bones; ++j) {
        const auto share = static_cast<double>(weight[v * joint_count + static_cast<std::int64_t>(j)]);
        if (share == 0.0) continue;
        for (std::size_t k = 0; k < 12; ++k) blend[k] += share * transforms[j][k];
      }
      for (std::size_t r = 0; r < 3; ++r) {
        double sum = blend[4 * r + 3];
        for (std::size_t c = 0; c < 3; ++c) sum += blend[4 * r + c] * static_cast<double>(from[3 * v + static_cast<std::int64_t>(c)]);
        to[3 * v + static_cast<std::int64_t>(r)] = static_cast<float>(sum);
      }
    }
  }
  return out;
}

}  // namespace hoirt

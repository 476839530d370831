// CPU skinning: one item after another per thread; an item's sums never cross threads, so the bits do not depend on them.
#include "csrc/cpu/skin.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "csrc/cpu/launchers.h"
#include "csrc/cpu/vector_widths.h"
#include "csrc/kernels/skin.h"

namespace hoirt::cpu {
namespace {

void check(const char* name, const Tensor& tensor, const Shape& wanted) {
  if (tensor.shape() != wanted) {
    throw InputError(std::string(name) + " must have shape " + to_string(wanted) + ", not " + to_string(tensor.shape()));
  }
}

void check_finite(const char* name, const Tensor& tensor) {
  if (!all_finite(tensor.data<float>(), tensor.size())) throw InputError(std::string(name) + " hold NaN or infinity");
}

void check_parents(const Tensor& parents) {
  if (parents.rank() != 1 || parents.empty()) {
    throw InputError("parents must have shape (J,) with J >= 1, not " + to_string(parents.shape()));
  }
  const std::int32_t* parent = parents.data<std::int32_t>();
  for (std::int64_t j = 0; j < parents.dim(0); ++j) {
    if (parent[j] >= j || parent[j] < (j == 0 ? -1 : 0)) {
      throw InputError("the parent of joint " + std::to_string(j) + " must be a joint before it, not " +
                       std::to_string(parent[j]));
    }
  }
}

// Runs body(i) for every item on up to `threads` threads.
template <typename Body>
void for_items(std::int64_t count, std::int64_t threads, const Body& body) {
  if (threads < 0) throw InputError("threads must be at least 0, not " + std::to_string(threads));
  const std::int64_t cores = threads > 0 ? threads : static_cast<std::int64_t>(std::thread::hardware_concurrency());
  std::atomic<std::int64_t> next{0};
  std::mutex guard;
  std::exception_ptr failure;
  const auto work = [&] {
    try {
      for (std::int64_t i = next++; i < count; i = next++) body(i);
    } catch (...) {
      const std::scoped_lock lock(guard);
      failure = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> helpers;
    // A thread costs about as much as an item.
    const std::int64_t wanted = std::min({cores, count / 2, std::int64_t{256}});
    try {
      for (std::int64_t i = 1; i < wanted; ++i) helpers.emplace_back(work);
    } catch (const std::system_error&) {
      // No more threads to be had: the others do the work.
    }
    work();
  }
  if (failure) std::rethrow_exception(failure);
}

// values (size,) += coefficients (count,) x directions (count, size).
HOIRT_VECTOR_WIDTHS
void blend(const kernels::BlendShape& shape, const float* coefficients, float* values) {
  // A block stays in registers and the first-level cache while the directions stream by.
  constexpr std::int64_t block = 1024;
  for (std::int64_t begin = 0; begin < shape.stride; begin += block) {
    const std::int64_t end = std::min(begin + block, shape.stride);
    for (std::int64_t k = 0; k < shape.count; ++k) {
      const kernels::BlendShape one{shape.directions + k * shape.stride, 1, shape.stride};
      for (std::int64_t i = begin; i < end; ++i) one(i, coefficients + k, values);
    }
  }
}

// Skins item `b`, whose shaped vertices and joints are `rest` and `joints`.
void skin_item(const kernels::PoseChain& chain, const kernels::SkinVertex& vertex, std::int64_t b, const float* rest,
               const double* joints, const float* rotations, Skinned& out) {
  std::vector<double> transforms(static_cast<std::size_t>(12 * chain.joints));
  chain(joints, rotations + b * chain.joints * 9, transforms.data(), out.joints.data<float>() + b * chain.joints * 3);
  const std::int64_t count = out.vertices.dim(1);
  float* posed = out.vertices.data<float>() + b * count * 3;
  for (std::int64_t v = 0; v < count; ++v) vertex(v, transforms.data(), rest, posed);
}

}  // namespace

Skinned skin(const Tensor& rest, const Tensor& joints, const Tensor& rotations, const Tensor& weights,
             const Tensor& parents, std::int64_t threads) {
  check_parents(parents);
  if (rest.rank() != 3) throw InputError("rest vertices must have shape (B, V, 3), not " + to_string(rest.shape()));
  const std::int64_t batch = rest.dim(0), vertex_count = rest.dim(1), joint_count = parents.dim(0);
  check("rest vertices", rest, {batch, vertex_count, 3});
  check("joints", joints, {batch, joint_count, 3});
  check("rotations", rotations, {batch, joint_count, 3, 3});
  check("weights", weights, {vertex_count, joint_count});
  check_finite("rest vertices", rest);
  check_finite("joints", joints);
  check_finite("rotations", rotations);
  check_finite("weights", weights);

  Skinned out{Tensor({batch, vertex_count, 3}, DType::f32), Tensor({batch, joint_count, 3}, DType::f32)};
  const kernels::PoseChain chain{parents.data<std::int32_t>(), joint_count};
  const kernels::SkinVertex vertex{weights.data<float>(), joint_count};
  for_items(batch, threads, [&](std::int64_t b) {
    const float* own = joints.data<float>() + b * joint_count * 3;
    const std::vector<double> shaped(own, own + joint_count * 3);
    skin_item(chain, vertex, b, rest.data<float>() + b * vertex_count * 3, shaped.data(), rotations.data<float>(), out);
  });
  return out;
}

Skinned pose_body(const BlendBody& body, const Tensor& rotations, const Tensor& shape, std::int64_t threads) {
  check_parents(body.parents);
  const std::int64_t joint_count = body.parents.dim(0);
  if (body.rest.rank() != 2 || body.shape_directions.rank() != 3 || body.pose_directions.rank() != 3) {
    throw InputError("rest must have shape (V, 3), the directions of shape and pose (S, V, 3) and (P, V, 3), not " +
                     to_string(body.rest.shape()) + ", " + to_string(body.shape_directions.shape()) + " and " +
                     to_string(body.pose_directions.shape()));
  }
  const std::int64_t vertex_count = body.rest.dim(0);
  const std::int64_t shapes = body.shape_directions.dim(0), features = body.pose_directions.dim(0);
  if (features != 0 && features != 9 * (joint_count - 1)) {
    throw InputError("there must be 0 or 9 (J - 1) = " + std::to_string(9 * (joint_count - 1)) +
                     " directions of pose, not " + std::to_string(features));
  }
  check("rest", body.rest, {vertex_count, 3});
  check("shape_directions", body.shape_directions, {shapes, vertex_count, 3});
  check("pose_directions", body.pose_directions, {features, vertex_count, 3});
  check("joints", body.joints, {joint_count, 3});
  check("joint_directions", body.joint_directions, {shapes, joint_count, 3});
  check("weights", body.weights, {vertex_count, joint_count});
  if (rotations.rank() != 4) {
    throw InputError("rotations must have shape (B, J, 3, 3), not " + to_string(rotations.shape()));
  }
  const std::int64_t batch = rotations.dim(0);
  check("rotations", rotations, {batch, joint_count, 3, 3});
  const bool shared = shape.rank() == 2 && shape.dim(0) == 1;
  check("shape", shape, {shared ? 1 : batch, shapes});
  check_finite("rotations", rotations);
  check_finite("shape parameters", shape);

  Skinned out{Tensor({batch, vertex_count, 3}, DType::f32), Tensor({batch, joint_count, 3}, DType::f32)};
  const kernels::PoseChain chain{body.parents.data<std::int32_t>(), joint_count};
  const kernels::SkinVertex vertex{body.weights.data<float>(), joint_count};
  const kernels::BlendShape by_shape{body.shape_directions.data<float>(), shapes, vertex_count * 3};
  const kernels::BlendShape by_pose{body.pose_directions.data<float>(), features, vertex_count * 3};
  const float* rest = body.rest.data<float>();
  const float* joints = body.joints.data<float>();
  const float* joint_directions = body.joint_directions.data<float>();
  const auto shaped_by = [&](const float* betas) {
    std::vector<float> values(rest, rest + vertex_count * 3);
    blend(by_shape, betas, values.data());
    return values;
  };
  // Most clips have one shape: its vertices are made once.
  const std::vector<float> common = shared ? shaped_by(shape.data<float>()) : std::vector<float>{};
  for_items(batch, threads, [&](std::int64_t b) {
    const float* betas = shape.data<float>() + (shared ? 0 : b * shapes);
    std::vector<float> values = shared ? common : shaped_by(betas);
    const float* turns = rotations.data<float>() + b * joint_count * 9;
    std::vector<float> feature(static_cast<std::size_t>(features));
    for (std::size_t k = 0; k < feature.size(); ++k) feature[k] = turns[9 + k] - (k % 9 % 4 == 0 ? 1.0f : 0.0f);
    blend(by_pose, feature.data(), values.data());
    std::vector<double> shaped(joints, joints + joint_count * 3);
    for (std::int64_t k = 0; k < shapes; ++k) {
      for (std::int64_t i = 0; i < joint_count * 3; ++i) {
        shaped[static_cast<std::size_t>(i)] += double{betas[k]} * double{joint_directions[k * joint_count * 3 + i]};
      }
    }
    skin_item(chain, vertex, b, values.data(), shaped.data(), rotations.data<float>(), out);
  });
  return out;
}

}  // namespace hoirt::cpu

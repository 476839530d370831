// Linear blend skinning of batches of posed meshes (the MANO/SMPL formulation): functors for one item or one vertex.
#pragma once

#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

// A kinematic chain in pose: transforms from rest to pose of one item. float64, since errors grow along a chain.
struct PoseChain {
  const std::int32_t* parents = nullptr;  // (joints,), a parent before its children, -1 for the root
  std::int64_t joints = 0;

  // rest (joints, 3); rotations (joints, 3, 3) relative to the parent; out: transforms (joints, 12) of rows
  // rotation | translation; posed (joints, 3).
  HOIRT_HD void operator()(const double* rest, const float* rotations, double* transforms, float* posed) const {
    for (std::int64_t j = 0; j < joints; ++j) {
      const std::int64_t parent = parents[j];
      double* out = transforms + 12 * j;
      double offset[3];
      for (int r = 0; r < 3; ++r) offset[r] = rest[3 * j + r] - (parent < 0 ? 0.0 : rest[3 * parent + r]);
      for (int r = 0; r < 3; ++r) {
        for (int c = 0; c < 3; ++c) out[4 * r + c] = parent < 0 ? double{rotations[9 * j + 3 * r + c]} : 0.0;
        out[4 * r + 3] = parent < 0 ? offset[r] : transforms[12 * parent + 4 * r + 3];
        if (parent < 0) continue;
        const double* above = transforms + 12 * parent + 4 * r;
        for (int k = 0; k < 3; ++k) {
          for (int c = 0; c < 3; ++c) out[4 * r + c] += above[k] * double{rotations[9 * j + 3 * k + c]};
          out[4 * r + 3] += above[k] * offset[k];
        }
      }
    }
    // Until here the translations are the posed joints; now they become rest to pose.
    for (std::int64_t j = 0; j < joints; ++j) {
      double* out = transforms + 12 * j;
      for (int r = 0; r < 3; ++r) {
        posed[3 * j + r] = static_cast<float>(out[4 * r + 3]);
        for (int c = 0; c < 3; ++c) out[4 * r + 3] -= out[4 * r + c] * rest[3 * j + c];
      }
    }
  }
};

// One vertex moved by the weighted transforms of its bones.
struct SkinVertex {
  const float* weights = nullptr;  // (vertices, joints)
  std::int64_t joints = 0;

  HOIRT_HD void operator()(std::int64_t vertex, const double* transforms, const float* rest, float* posed) const {
    double blend[12] = {};
    for (std::int64_t j = 0; j < joints; ++j) {
      const double share = weights[vertex * joints + j];
      if (share == 0.0) continue;
      for (int k = 0; k < 12; ++k) blend[k] += share * transforms[12 * j + k];
    }
    for (int r = 0; r < 3; ++r) {
      double sum = blend[4 * r + 3];
      for (int c = 0; c < 3; ++c) sum += blend[4 * r + c] * double{rest[3 * vertex + c]};
      posed[3 * vertex + r] = static_cast<float>(sum);
    }
  }
};

// One coordinate of a blended shape: base + sum over k of coefficients[k] directions[k], in the order of k.
struct BlendShape {
  const float* directions = nullptr;  // (count, stride)
  std::int64_t count = 0;
  std::int64_t stride = 0;

  HOIRT_HD void operator()(std::int64_t i, const float* coefficients, float* shaped) const {
    float sum = shaped[i];
    for (std::int64_t k = 0; k < count; ++k) sum += coefficients[k] * directions[k * stride + i];
    shaped[i] = sum;
  }
};

}  // namespace hoirt::kernels

// Group normalisation and SiLU of pictures in bfloat16 with their channels last.
#pragma once

#include <cstdint>

#include "csrc/cpu/bf16.h"
#include "csrc/cpu/parallel.h"

namespace hoirt::cpu {

// z = (x - mean) / sqrt(variance + epsilon) * scale + shift, over the pixels of each group.
struct GroupNorm {
  std::int64_t batch = 0, pixels = 0, channels = 0;  // channels: a multiple of 16 and of `groups`
  std::int64_t groups = 1;
  float epsilon = 0;
  const Bf16* input = nullptr;   // (batch, pixels, channels)
  const float* scale = nullptr;  // (channels,)
  const float* shift = nullptr;  // (channels,)
};

// Writes the factors and offsets, (batch, channels) each, of z = x * factor + offset. Sums are taken over fixed runs of
// pixels, so that the bits do not depend on the threads. Needs multiplies_bf16(), like silu().
void norm_coefficients(const GroupNorm& norm, float* factors, float* offsets, const Parallel& parallel);

// z * sigmoid(z) of `pixels` pixels of one item, with its factors and offsets.
void silu(const Bf16* from, std::int64_t pixels, std::int64_t channels, const float* factors, const float* offsets, Bf16* to);

}  // namespace hoirt::cpu

// Group normalisation and SiLU of pictures in bfloat16 with their channels last.
#pragma once

#include <cstdint>

#include "csrc/cpu/bf16.h"
#include "csrc/cpu/parallel.h"

namespace hoirt::cpu {

// y = z * sigmoid(z), z = (x - mean) / sqrt(variance + epsilon) * scale + shift, over the pixels of each group.
struct NormSilu {
  std::int64_t batch = 0, pixels = 0, channels = 0;  // channels: a multiple of 16 and of `groups`
  std::int64_t groups = 1;
  float epsilon = 0;
  const Bf16* input = nullptr;   // (batch, pixels, channels)
  const float* scale = nullptr;  // (channels,)
  const float* shift = nullptr;  // (channels,)
  Bf16* output = nullptr;        // like the input
};

// Sums are taken over fixed runs of pixels, so that the bits do not depend on the threads. Needs multiplies_bf16().
void norm_silu(const NormSilu& norm, const Parallel& parallel);

}  // namespace hoirt::cpu

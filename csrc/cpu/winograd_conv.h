// 3x3 convolution by Winograd's F(2x2, 3x3) in bfloat16: 16 products for four pixels instead of 36.
#pragma once

#include <cstddef>
#include <cstdint>

#include "csrc/cpu/bf16.h"
#include "csrc/cpu/parallel.h"

namespace hoirt::cpu {

// A convolution of stride 1 and padding 1 on pictures with their channels last.
struct WinogradConv {
  std::int64_t batch = 0, height = 0, width = 0;
  std::int64_t channels_in = 0, channels_out = 0;  // multiples of `winograd_channels`
  const Bf16* input = nullptr;    // (batch, height, width, channels_in)
  const Bf16* weights = nullptr;  // as pack_winograd_weights writes them
  const float* bias = nullptr;    // (channels_out,)
  Bf16* output = nullptr;         // (batch, height, width, channels_out)
};

constexpr std::int64_t winograd_channels = 32;

std::size_t winograd_weight_count(std::int64_t channels_out, std::int64_t channels_in);
// From weights (channels_out, channels_in, 3, 3).
void pack_winograd_weights(const float* weights, std::int64_t channels_out, std::int64_t channels_in, Bf16* packed,
                           const Parallel& parallel);

// Sums are float32; the transformed picture and weights are rounded to bfloat16, which costs about as much accuracy as
// rounding the picture and the weights themselves. The bits do not depend on the threads.
// Needs multiplies_bf16(). Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.
void winograd_conv(const WinogradConv& conv, const Parallel& parallel);

}  // namespace hoirt::cpu

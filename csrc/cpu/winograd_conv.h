// 3x3 convolution by Winograd in bfloat16: 16 products for 2x2 pixels instead of 36, or 36 for 4x4 instead of 144.
#pragma once

#include <cstddef>
#include <cstdint>

#include "csrc/cpu/bf16.h"
#include "csrc/cpu/parallel.h"

namespace hoirt::cpu {

// A convolution of stride 1 and padding 1 on pictures with their channels last.
struct WinogradJob {
  std::int64_t batch = 0, height = 0, width = 0;   // of the output
  std::int64_t channels_in = 0, channels_out = 0;  // multiples of `winograd_channels`
  // Every pixel of the input counts as 2x2, so it has half of the (even) height and width: 9 products for four pixels.
  bool doubled = false;
  std::int64_t tile = 2;  // pixels on a side of what is made together: 2, or 4 if not doubled
  const Bf16* input = nullptr;  // (batch, height, width, channels_in)
  // silu(input * factor + offset) is convolved where these are given, (batch, channels_in) each; else the input.
  const float* factors = nullptr;
  const float* offsets = nullptr;
  const float* bias = nullptr;  // (channels_out,), or (batch, channels_out)
  bool bias_per_item = false;
  const Bf16* residual = nullptr;  // added to the output if given; like it
  Bf16* output = nullptr;  // (batch, height, width, channels_out)
};

constexpr std::int64_t winograd_channels = 32;

// Weights of tiles of 2 have 16 taps, those of 4 have 36.
constexpr std::int64_t taps_of_tile(std::int64_t tile) { return (tile + 2) * (tile + 2); }
constexpr std::int64_t tile_of_taps(std::int64_t taps) { return taps == taps_of_tile(4) ? 4 : 2; }

std::size_t winograd_weight_count(std::int64_t channels_out, std::int64_t channels_in, std::int64_t tile = 2);
// From weights (channels_out, channels_in, 3, 3), for jobs of this tile.
void pack_winograd_weights(const float* weights, std::int64_t channels_out, std::int64_t channels_in, std::int64_t tile,
                           Bf16* packed, const Parallel& parallel);

// Weights as pack_winograd_weights writes them. Sums are float32; the transformed picture and weights are rounded to
// bfloat16, which costs about as much accuracy as rounding the picture and the weights themselves with tiles of 2, and
// three times that with tiles of 4. The bits do not depend on the threads. Needs multiplies_bf16().
// Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.
void winograd_conv(const WinogradJob& job, const Bf16* weights, const Parallel& parallel);

}  // namespace hoirt::cpu

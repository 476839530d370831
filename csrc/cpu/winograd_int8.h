// 3x3 convolution by Winograd's F(2x2, 3x3) in int8: as winograd_conv.h, with products of twice the rate.
#pragma once

#include <cstddef>
#include <cstdint>

#include "csrc/cpu/bytes.h"
#include "csrc/cpu/parallel.h"
#include "csrc/cpu/winograd_conv.h"

namespace hoirt::cpu {

// Weights as pack_winograd_int8 writes them; sizes as winograd_weight_count says, or (16, channels_out).
struct WinogradInt8 {
  const std::int8_t* values = nullptr;
  const float* scales = nullptr;         // of a tap and output channel
  const std::int32_t* offsets = nullptr;  // what the picture's 128 adds to its products, negative
};

// From weights (channels_out, channels_in, 3, 3).
void pack_winograd_int8(const float* weights, std::int64_t channels_out, std::int64_t channels_in, std::int8_t* values,
                        float* scales, std::int32_t* offsets, const Parallel& parallel);

// Each tap of each tile gets a scale of its own over all channels, found as it is transformed: no calibration, and no
// large value costs the others their precision. Sums are exact. The bits do not depend on the threads.
// Needs multiplies_int8().
void winograd_int8(const WinogradJob& job, const WinogradInt8& weights, const Parallel& parallel);

}  // namespace hoirt::cpu

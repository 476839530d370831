// Projections of tokens in bfloat16, with the norm before and the gate or the sum after them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "csrc/cpu/bf16.h"
#include "csrc/cpu/parallel.h"

namespace hoirt::cpu {

// output = norm(input) weights + bias, or (values + bias) * gelu(gates + bias) of twice as many columns. With a residual it
// is added, after a multiplication by the item's factor if those are given.
struct Projection {
  enum class Norm { none, layer, group };

  std::int64_t rows = 0;
  std::int64_t channels_in = 0, channels_out = 0;  // multiples of `projection_channels`
  Norm norm = Norm::none;
  // Layer norm: scale and shift (channels_in,), and an epsilon. Group norm: x * scale + shift of each item,
  // (items, channels_in), as norm_coefficients() gives them.
  const float* scale = nullptr;
  const float* shift = nullptr;
  float epsilon = 0;
  std::int64_t item_rows = 0;  // for a group norm or factors: rows = items * item_rows
  const float* factors = nullptr;  // (items,), or null
  bool gated = false;  // the weights and the bias hold all values' columns, then as many of gates
  const Bf16* input = nullptr;     // (rows, channels_in)
  const float* bias = nullptr;     // of every column
  const Bf16* residual = nullptr;  // (rows, channels_out), or null
  // The columns are dealt out evenly: (rows, channels_out / parts) each.
  std::int64_t parts = 1;
  std::array<Bf16*, 3> outputs = {};
};

constexpr std::int64_t projection_channels = 32;

// From weights (channels_in, columns), or (columns, channels_in) if transposed, to as many values.
void pack_projection(const float* weights, std::int64_t channels_in, std::int64_t columns, bool transposed, Bf16* packed,
                     const Parallel& parallel);

// With weights as pack_projection() writes them. Sums are float32, also those with the residual; gelu is exact to 3e-5. The
// bits do not depend on the threads. Needs multiplies_bf16().
void project(const Projection& job, const Bf16* weights, const Parallel& parallel);

}  // namespace hoirt::cpu

// Projections of tokens in int8: as projection.h, with products of twice the rate.
#pragma once

#include <cstdint>

#include "csrc/cpu/bytes.h"
#include "csrc/cpu/parallel.h"
#include "csrc/cpu/projection.h"

namespace hoirt::cpu {

// Weights as pack_projection_int8() writes them: channels_in * columns values, and as many scales and offsets as columns.
struct ProjectionInt8 {
  const std::int8_t* values = nullptr;
  const float* scales = nullptr;
  const std::int32_t* offsets = nullptr;  // what the rows' 128 adds to the products, negative
};

// From weights as pack_projection() takes them.
void pack_projection_int8(const float* weights, std::int64_t channels_in, std::int64_t columns, bool transposed,
                          std::int8_t* values, float* scales, std::int32_t* offsets, const Parallel& parallel);

// Each row gets a scale of its own, found after the norm: no calibration, and no large value costs other rows their
// precision. Sums of products are exact. The bits do not depend on the threads. Needs multiplies_int8().
void project_int8(const Projection& job, const ProjectionInt8& weights, const Parallel& parallel);

}  // namespace hoirt::cpu

// One row of a step table on the state: guidance, x0, clip, update and known region, with one read and one write.
#pragma once

#include <cstdint>

#include "csrc/kernels/host_device.h"
#include "csrc/kernels/philox.h"

namespace hoirt::kernels {

// Where a row's normals come from: the caller's memory if there is any, else Philox.
struct Noise {
  const float* given = nullptr;           // (items, item_size)
  const std::uint64_t* seeds = nullptr;  // (items,)
  std::uint32_t stream = 0;
};

// Arithmetic is float64 on float32 memory: the step is bound by memory, and the error per step is one rounding.
struct GuidedStep {
  double guidance = 1, A = 0, B = 0, C = 0, D = 0, E = 0, F = 0, G = 0, H = 0;
  double clip = 0;  // 0: off
  const float* state = nullptr;           // x
  const float* unconditional = nullptr;   // u; null: out = c
  const float* conditional = nullptr;     // c; null: out = 0
  const float* previous_clean = nullptr;  // x0 of the row before; null: 0
  const float* mask = nullptr;            // m; null: no known region
  const float* known = nullptr;           // z
  Noise noise;                            // n, read if F != 0
  Noise known_noise;                      // n', read if H != 0 and there is a mask
  float* next = nullptr;                  // x'; may be `state`
  float* copy = nullptr;                  // x' again, for the unconditional half of the next batch; may be null
  float* clean = nullptr;                 // x0; may be null or `previous_clean`
  std::int64_t items = 0, item_size = 0;

  HOIRT_HD std::int64_t blocks() const { return (item_size + 3) / 4; }

  // Elements 4 block .. 4 block + 3 of one item: what one Philox block serves.
  HOIRT_HD void operator()(std::int64_t item, std::int64_t block) const {
    const std::int64_t begin = item * item_size + 4 * block;
    const std::int64_t left = item_size - 4 * block;
    const int count = left < 4 ? static_cast<int>(left) : 4;
    float n[4] = {};
    float n_known[4] = {};
    if (F != 0) load(noise, item, block, begin, count, n);
    if (mask && H != 0) load(known_noise, item, block, begin, count, n_known);
    for (int k = 0; k < count; ++k) {
      const std::int64_t i = begin + k;
      const double x = state ? state[i] : 0.0;
      double out = conditional ? conditional[i] : 0.0;
      if (unconditional) out = unconditional[i] + guidance * (out - unconditional[i]);
      double x0 = A * x + B * out;
      if (clip > 0) x0 = x0 < -clip ? -clip : x0 > clip ? clip : x0;  // keeps NaN, which the loop reports
      double value = C * x + D * x0 + F * n[k];
      if (previous_clean) value += E * previous_clean[i];
      if (mask) value = mask[i] * value + (1.0 - mask[i]) * (G * known[i] + H * n_known[k]);
      next[i] = static_cast<float>(value);
      if (copy) copy[i] = next[i];
      if (clean) clean[i] = static_cast<float>(x0);
    }
  }

 private:
  HOIRT_HD static void load(const Noise& from, std::int64_t item, std::int64_t block, std::int64_t begin, int count,
                            float out[4]) {
    if (!from.given) {
      philox_normal4(from.seeds[item], from.stream, block, out);
      return;
    }
    for (int k = 0; k < count; ++k) out[k] = from.given[begin + k];
  }
};

}  // namespace hoirt::kernels

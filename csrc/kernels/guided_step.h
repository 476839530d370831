// One row of a step table on the state: guidance, x0, clip, update and known region, with one read and one write.
#pragma once

#include <cmath>
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
  const float* state = nullptr;           // x; null: 0
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

  // What one element reads, with the neutral value of everything that is absent.
  struct In {
    double x = 0, u = 0, c = 0, previous = 0, n = 0, mask = 1, known = 0, n_known = 0;
  };
  struct Out {
    float next, clean;
  };

  HOIRT_HD std::int64_t blocks() const { return (item_size + 3) / 4; }
  HOIRT_HD bool draws() const { return F != 0; }
  HOIRT_HD bool draws_known() const { return mask && H != 0; }

  // The formula; `limit` is the clip, or infinity without one. A NaN passes, so that the loop can report it.
  HOIRT_HD Out formula(const In& in, double limit) const {
    const double out = in.u + guidance * (in.c - in.u);
    double x0 = A * in.x + B * out;
    x0 = x0 < -limit ? -limit : x0;
    x0 = x0 > limit ? limit : x0;
    const double value = C * in.x + D * x0 + E * in.previous + F * in.n;
    const double blended = in.mask * value + (1.0 - in.mask) * (G * in.known + H * in.n_known);
    return {static_cast<float>(blended), static_cast<float>(x0)};
  }
  HOIRT_HD double limit() const { return clip > 0 ? clip : HUGE_VAL; }

  // Elements 4 block .. 4 block + 3 of one item: what one Philox block serves.
  HOIRT_HD void operator()(std::int64_t item, std::int64_t block) const {
    const std::int64_t begin = item * item_size + 4 * block;
    const std::int64_t left = item_size - 4 * block;
    const int count = left < 4 ? static_cast<int>(left) : 4;
    float n[4] = {};
    float n_known[4] = {};
    if (draws()) load(noise, item, block, begin, count, n);
    if (draws_known()) load(known_noise, item, block, begin, count, n_known);
    for (int k = 0; k < count; ++k) {
      const std::int64_t i = begin + k;
      In in;
      if (state) in.x = state[i];
      if (conditional) in.c = conditional[i];
      in.u = unconditional ? unconditional[i] : in.c;
      if (previous_clean) in.previous = previous_clean[i];
      if (mask) in.mask = mask[i], in.known = known[i];
      in.n = n[k], in.n_known = n_known[k];
      const Out result = formula(in, limit());
      next[i] = result.next;
      if (copy) copy[i] = result.next;
      if (clean) clean[i] = result.clean;
    }
  }

  // The normals of one block, `count` of the four.
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

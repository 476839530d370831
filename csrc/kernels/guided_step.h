// One row of a step table on the state: guidance, x0, clip, update and known region, with one read and one write.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/element.h"
#include "csrc/kernels/host_device.h"
#include "csrc/kernels/philox.h"
#include "csrc/kernels/step_row.h"

namespace hoirt::kernels {

// Where a row's normals come from: the caller's memory if there is any, else Philox.
struct Noise {
  const float* given = nullptr;           // (items, item_size)
  const std::uint64_t* seeds = nullptr;  // (items,)
  std::uint32_t stream = 0;
};

// Arithmetic is float64 on memory of T: the step is bound by memory, and the error per step is one rounding. The
// coefficients are its own, or those of the row that `row` points to, which take() fetches.
template <typename T>
struct GuidedStepOf : StepRow {
  const StepRow* row = nullptr;
  const T* state = nullptr;           // x; null: 0
  const T* unconditional = nullptr;   // u; null: out = c
  const T* conditional = nullptr;     // c; null: out = 0
  const T* previous_clean = nullptr;  // x0 of the row before; null: 0
  const T* mask = nullptr;            // m; null: no known region
  const T* known = nullptr;           // z
  Noise noise;                        // n, read if F != 0
  Noise known_noise;                  // n', read if H != 0 and there is a mask
  T* next = nullptr;                  // x'; may be `state`
  T* copy = nullptr;                  // x' again, for the unconditional half of the next batch; may be null
  T* clean = nullptr;                 // x0; may be null or `previous_clean`
  std::int64_t items = 0, item_size = 0;
  std::int32_t* flag = nullptr;    // gets the row's index if x' is not finite and it is `nothing`; may be null
  std::uint64_t* times = nullptr;  // gets the times of begin and end, see StepTime; may be null

  // What one element reads, with the neutral value of everything that is absent.
  struct In {
    double x = 0, u = 0, c = 0, previous = 0, n = 0, mask = 1, known = 0, n_known = 0;
  };
  struct Out {
    float next, clean;
  };

  // What is read or written at once: 16 bytes, so one or two blocks of four normals.
  static constexpr int span = 16 / sizeof(T);
  HOIRT_HD std::int64_t spans() const { return (item_size + span - 1) / span; }
  HOIRT_HD bool draws() const { return F != 0; }
  HOIRT_HD bool draws_known() const { return mask && H != 0; }

  // Becomes the step of `current`: memory that this row does not use is left alone.
  HOIRT_HD void take(const StepRow& current) {
    static_cast<StepRow&>(*this) = current;
    take(noise, current.noise_stream, current.noise_at);
    take(known_noise, current.known_stream, current.known_noise_at);
    if (!current.known_region) mask = nullptr;
    if (!current.copies) copy = nullptr;
    if (!current.keeps_clean) clean = nullptr;
    if (current.E == 0) previous_clean = nullptr;
  }

  // The formula; `limit` is the clip, or infinity without one. A NaN passes, so that the loop can report it. Terms of history
  // (x0 of the row before, and n) and of the known region that are neutral may be left out: the bits are the same.
  template <bool history = true, bool region = true>
  HOIRT_HD Out formula(const In& in, double limit) const {
    const double out = in.u + guidance * (in.c - in.u);
    double x0 = A * in.x + B * out;
    x0 = x0 < -limit ? -limit : x0;
    x0 = x0 > limit ? limit : x0;
    double value = C * in.x + D * x0;
    if (history) value = value + E * in.previous + F * in.n;
    if (!history || !region) value += 0.0;  // what neutral terms add: no zero stays negative
    if (region) value = in.mask * value + (1.0 - in.mask) * (G * in.known + H * in.n_known);
    return {static_cast<float>(value), static_cast<float>(x0)};
  }
  HOIRT_HD double limit() const { return clip > 0 ? clip : HUGE_VAL; }

  // Whether every span can be read and written at once.
  HOIRT_HD bool packs() const {
    return item_size % span == 0 && aligned_to(16, state, unconditional, conditional, previous_clean, mask, known, next,
                                               copy, clean, noise.given, known_noise.given);
  }

  // Elements span i .. span i + span - 1 of one item. False if x' is not finite. `packed` may be set where packs(). A GPU
  // converts and computes in float64 slower than it reads, so neutral terms are not computed.
  template <bool packed = false>
  HOIRT_HD bool operator()(std::int64_t item, std::int64_t i) const {
    const bool history = previous_clean || E != 0 || F != 0;
    if (mask) return history ? run<packed, true, true>(item, i) : run<packed, false, true>(item, i);
    return history ? run<packed, true, false>(item, i) : run<packed, false, false>(item, i);
  }

 private:
  template <bool packed, bool history, bool region>
  HOIRT_HD bool run(std::int64_t item, std::int64_t i) const {
    const std::int64_t begin = item * item_size + span * i;
    const std::int64_t left = item_size - span * i;
    const int count = packed || left >= span ? span : static_cast<int>(left);
    float n[span] = {}, n_known[span] = {}, x[span] = {}, c[span] = {}, u[span] = {}, previous[span] = {}, z[span] = {},
          m[span] = {}, next_values[span] = {}, clean_values[span] = {};
    if (history && draws()) load_noise<packed>(noise, item, i, begin, count, n);
    if (region && draws_known()) load_noise<packed>(known_noise, item, i, begin, count, n_known);
    if (state) load<packed>(state, begin, count, x);
    if (conditional) load<packed>(conditional, begin, count, c);
    if (unconditional) load<packed>(unconditional, begin, count, u);
    if (history && previous_clean) load<packed>(previous_clean, begin, count, previous);
    if (region) load<packed>(mask, begin, count, m), load<packed>(known, begin, count, z);
    bool finite = true;
    for (int k = 0; k < span; ++k) {
      if (k >= count) continue;
      const Out result = formula<history, region>(
          {x[k], unconditional ? u[k] : c[k], c[k], previous[k], n[k], m[k], z[k], n_known[k]}, limit());
      next_values[k] = result.next;
      clean_values[k] = result.clean;
      finite &= std::isfinite(to_float(from_float<T>(result.next)));
    }
    store<packed>(next, begin, count, next_values);
    if (copy) store<packed>(copy, begin, count, next_values);
    if (clean) store<packed>(clean, begin, count, clean_values);
    return finite;
  }

  HOIRT_HD static void take(Noise& from, std::uint32_t stream, std::int64_t at) {
    from.stream = stream;
    from.given = at >= 0 ? from.given + at : nullptr;
  }

  template <bool packed>
  HOIRT_HD static void load(const T* from, std::int64_t begin, int count, float* out) {
    if (packed) {
      const auto pack = *reinterpret_cast<const Pack<T, span>*>(from + begin);
      for (int k = 0; k < span; ++k) out[k] = to_float(pack.values[k]);
    } else {
      // A fixed number of rounds keeps `out` in registers.
      for (int k = 0; k < span; ++k) {
        if (k < count) out[k] = to_float(from[begin + k]);
      }
    }
  }

  template <bool packed>
  HOIRT_HD static void store(T* to, std::int64_t begin, int count, const float* values) {
    if (packed) {
      Pack<T, span> pack;
      for (int k = 0; k < span; ++k) pack.values[k] = from_float<T>(values[k]);
      *reinterpret_cast<Pack<T, span>*>(to + begin) = pack;
    } else {
      for (int k = 0; k < span; ++k) {
        if (k < count) to[begin + k] = from_float<T>(values[k]);
      }
    }
  }

  // The normals of one span, `count` of them.
  template <bool packed>
  HOIRT_HD static void load_noise(const Noise& from, std::int64_t item, std::int64_t i, std::int64_t begin, int count,
                                  float* out) {
    constexpr int four = 4;
    for (int part = 0; part < span / four; ++part) {
      if (!from.given) {
        philox_normal4(from.seeds[item], from.stream, i * (span / four) + part, out + four * part);
      } else if (packed) {
        const auto pack = *reinterpret_cast<const Pack<float, four>*>(from.given + begin + four * part);
        for (int k = 0; k < four; ++k) out[four * part + k] = pack.values[k];
      } else {
        for (int k = four * part; k < four * (part + 1); ++k) {
          if (k < count) out[k] = from.given[begin + k];
        }
      }
    }
  }
};

using GuidedStep = GuidedStepOf<float>;

}  // namespace hoirt::kernels

// Guided step and finite check on the CPU.
#include <algorithm>
#include <array>
#include <cmath>

#include "csrc/cpu/launchers.h"
#include "csrc/cpu/vector_widths.h"

namespace hoirt::cpu {
namespace {

constexpr std::int64_t chunk = 1024;  // elements; every array of a chunk stays in the first cache level
using Chunk = std::array<float, chunk>;

// The arrays of one chunk, all of them present.
struct Arrays {
  const float *x, *u, *c, *previous, *n, *mask, *known, *n_known;
  float *next, *clean;
};

// No branch but the clip's selects, so that it becomes vector code. `next` may be `x`, `clean` may be `previous`.
HOIRT_VECTOR_WIDTHS
void run_chunk(const kernels::GuidedStep& step, const Arrays& a, std::int64_t count) {
  const kernels::GuidedStep row = step;
  const double limit = row.limit();
#pragma GCC ivdep
  for (std::int64_t i = 0; i < count; ++i) {
    const auto result =
        row.formula({a.x[i], a.u[i], a.c[i], a.previous[i], a.n[i], a.mask[i], a.known[i], a.n_known[i]}, limit);
    a.next[i] = result.next;
    a.clean[i] = result.clean;
  }
}

// Elements `first` .. `first + count - 1` of one item's noise.
const float* noise_of(const kernels::Noise& noise, std::int64_t item, std::int64_t item_size, std::int64_t first,
                      std::int64_t count, Chunk& memory) {
  if (noise.given) return noise.given + item * item_size + first;
  philox_normals(noise.seeds[item], noise.stream, first / 4, count, memory.data());
  return memory.data();
}

}  // namespace

void guided_step(const kernels::GuidedStep& step) {
  static constexpr Chunk zeros{};
  static constexpr Chunk ones = [] {
    Chunk values{};
    values.fill(1.0F);
    return values;
  }();
  Chunk n, n_known, clean;
  for (std::int64_t item = 0; item < step.items; ++item) {
    for (std::int64_t first = 0; first < step.item_size; first += chunk) {
      const std::int64_t count = std::min(chunk, step.item_size - first);
      const std::int64_t begin = item * step.item_size + first;
      const auto at = [begin](const float* values, const Chunk& absent) {
        return values ? values + begin : absent.data();
      };
      const auto noise = [&](bool drawn, const kernels::Noise& from, Chunk& memory) {
        return drawn ? noise_of(from, item, step.item_size, first, count, memory) : zeros.data();
      };
      const float* conditional = at(step.conditional, zeros);
      const Arrays arrays{.x = at(step.state, zeros),
                          .u = step.unconditional ? step.unconditional + begin : conditional,
                          .c = conditional,
                          .previous = at(step.previous_clean, zeros),
                          .n = noise(step.draws(), step.noise, n),
                          .mask = at(step.mask, ones),
                          .known = step.mask ? step.known + begin : zeros.data(),
                          .n_known = noise(step.draws_known(), step.known_noise, n_known),
                          .next = step.next + begin,
                          .clean = step.clean ? step.clean + begin : clean.data()};
      run_chunk(step, arrays, count);
      if (step.copy) std::copy_n(arrays.next, count, step.copy + begin);
    }
  }
}

namespace {

// Half precision is what devices hold; on the CPU it serves the tests.
template <typename T>
void step_by_step(const kernels::GuidedStepOf<T>& step) {
  const auto all = [&step]<bool packed>() {
    for (std::int64_t item = 0; item < step.items; ++item) {
      for (std::int64_t i = 0; i < step.spans(); ++i) step.template operator()<packed>(item, i);
    }
  };
  if (step.packs()) all.template operator()<true>();
  else all.template operator()<false>();
}

}  // namespace

void guided_step(const kernels::GuidedStepOf<kernels::Half>& step) { step_by_step(step); }
void guided_step(const kernels::GuidedStepOf<kernels::BFloat>& step) { step_by_step(step); }

bool all_finite(const float* values, std::size_t count) {
  bool finite = true;
  for (std::size_t i = 0; i < count; ++i) finite &= std::isfinite(values[i]);
  return finite;
}

}  // namespace hoirt::cpu

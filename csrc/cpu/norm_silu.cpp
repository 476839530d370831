// Sums per run of pixels, mean and variance per group, and one pass that normalises and activates.
#include "csrc/cpu/norm_silu.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/error.h"

namespace hoirt::cpu {

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
namespace {

constexpr std::int64_t run = 128;  // pixels: few enough for float32 sums

// Of one run: the sum and the sum of squares of every channel, less `pivot`, which keeps the squares small.
void add_up(const GroupNorm& norm, const Bf16* pixels, std::int64_t count, const float* pivot, float* sums) {
  for (std::int64_t channel = 0; channel < norm.channels; channel += 16) {
    const __m512 base = _mm512_loadu_ps(pivot + channel);
    __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (std::int64_t i = 0; i < count; ++i) {
      const __m512 x = _mm512_sub_ps(lanes::load(pixels + i * norm.channels + channel), base);
      sum = _mm512_add_ps(sum, x);
      squares = _mm512_fmadd_ps(x, x, squares);
    }
    _mm512_storeu_ps(sums + channel, sum);
    _mm512_storeu_ps(sums + norm.channels + channel, squares);
  }
}

}  // namespace

void norm_coefficients(const GroupNorm& norm, float* factors, float* offsets, const Parallel& parallel) {
  const std::int64_t runs = (norm.pixels + run - 1) / run, width = norm.channels / norm.groups;
  const auto channels = static_cast<std::size_t>(norm.channels);
  const auto batch = static_cast<std::size_t>(norm.batch);
  // The first pixel of an item is as good a pivot as its mean, if not better known.
  std::vector<float> pivots(batch * channels);
  for (std::int64_t item = 0; item < norm.batch; ++item) {
    const Bf16* first = norm.input + item * norm.pixels * norm.channels;
    for (std::int64_t group = 0; group < norm.groups; ++group) {
      std::fill_n(pivots.begin() + item * norm.channels + group * width, width, float_of(first[group * width]));
    }
  }
  std::vector<float> sums(static_cast<std::size_t>(norm.batch * runs) * 2 * channels);
  parallel(norm.batch * runs, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t item = i / runs, start = i % runs * run;
      add_up(norm, norm.input + (item * norm.pixels + start) * norm.channels, std::min(run, norm.pixels - start),
             pivots.data() + item * norm.channels, sums.data() + i * 2 * norm.channels);
    }
  });
  for (std::int64_t item = 0; item < norm.batch; ++item) {
    for (std::int64_t group = 0; group < norm.groups; ++group) {
      double sum = 0, squares = 0;
      for (std::int64_t i = item * runs; i < (item + 1) * runs; ++i) {
        const float* row = sums.data() + i * 2 * norm.channels + group * width;
        for (std::int64_t k = 0; k < width; ++k) sum += row[k], squares += row[norm.channels + k];
      }
      const double count = static_cast<double>(norm.pixels * width);
      const double mean = sum / count;
      const double inverse = 1 / std::sqrt(std::max(0.0, squares / count - mean * mean) + norm.epsilon);
      for (std::int64_t k = group * width; k < (group + 1) * width; ++k) {
        const auto at = static_cast<std::size_t>(item * norm.channels + k);
        const double factor = inverse * norm.scale[k];
        factors[at] = static_cast<float>(factor);
        offsets[at] = static_cast<float>(norm.shift[k] - (mean + pivots[at]) * factor);
      }
    }
  }
}

void silu(const Bf16* from, std::int64_t pixels, std::int64_t channels, const float* factors, const float* offsets, Bf16* to) {
  const __m512 one = _mm512_set1_ps(1.0F), minus_log2e = _mm512_set1_ps(-1.44269504F);
  for (std::int64_t pixel = 0; pixel < pixels; ++pixel, from += channels, to += channels) {
    for (std::int64_t channel = 0; channel < channels; channel += 16) {
      const __m512 z = _mm512_fmadd_ps(lanes::load(from + channel), _mm512_loadu_ps(factors + channel),
                                       _mm512_loadu_ps(offsets + channel));
      const __m512 e = lanes::exp2_short(_mm512_mul_ps(z, minus_log2e));
      // 14 bits of the reciprocal are more than bfloat16 keeps.
      lanes::store(to + channel, _mm512_mul_ps(z, _mm512_rcp14_ps(_mm512_add_ps(one, e))));
    }
  }
}
#pragma GCC pop_options
#else
namespace {
[[noreturn]] void lack() { throw BackendError("this build has no code for AVX512-BF16"); }
}  // namespace
void norm_coefficients(const GroupNorm&, float*, float*, const Parallel&) { lack(); }
void silu(const Bf16*, std::int64_t, std::int64_t, const float*, const float*, Bf16*) { lack(); }
#endif

}  // namespace hoirt::cpu

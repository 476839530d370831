// What both attentions share, whatever numbers they multiply: 32 queries at work, and the order of heads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "csrc/cpu/attention.h"
#include "csrc/cpu/bf16.h"
#include "csrc/cpu/parallel.h"

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")

namespace hoirt::cpu {

constexpr std::int64_t lane_queries = 32;  // queries at once, in the lanes of two registers

// The weighted sums of the values that passed, (size, 32 queries), relative to the highest score so far.
class RunningSums {
 public:
  static constexpr float lowest = -1e30F;  // below every score; an infinity would give NaN in a difference

  explicit RunningSums(std::int64_t size) : size_(size), sums_(static_cast<std::size_t>(size * lane_queries)) {}

  void clear() {
    std::fill(sums_.begin(), sums_.end(), 0.0F);
    most_[0] = most_[1] = _mm512_set1_ps(lowest);
    total_[0] = total_[1] = _mm512_setzero_ps();
  }

  // Of channel `i` and the ones that follow.
  float* of(std::int64_t i) { return sums_.data() + i * lane_queries; }

  // The maximum of 16 queries' scores, with `here`; what was summed before moves to it.
  __m512 raise(int half, __m512 here) {
    const __m512 most = _mm512_max_ps(most_[half], here);
    if (_mm512_cmp_ps_mask(most, most_[half], _CMP_NEQ_UQ) != 0) {
      const __m512 shrink = lanes::exp2(_mm512_sub_ps(most_[half], most));
      total_[half] = _mm512_mul_ps(total_[half], shrink);
      for (std::int64_t i = 0; i < size_; ++i) {
        float* sum = of(i) + 16 * half;
        _mm512_storeu_ps(sum, _mm512_mul_ps(_mm512_loadu_ps(sum), shrink));
      }
      most_[half] = most;
    }
    return most;
  }

  void add_weights(int half, __m512 weights) { total_[half] = _mm512_add_ps(total_[half], weights); }

  // Sums over weights to (count, stride) bfloat16; channel i times scale(i).
  template <typename Scale>
  void store(Bf16* to, std::int64_t count, std::int64_t stride, const Scale& scale) const {
    const __m512 one = _mm512_set1_ps(1.0F);
    const __m512 inverse[2] = {_mm512_div_ps(one, total_[0]), _mm512_div_ps(one, total_[1])};
    for (std::int64_t i = 0; i < size_; i += 2) {
      const __m512 by[2] = {_mm512_set1_ps(scale(i)), _mm512_set1_ps(scale(i + 1))};
      Bf16 columns[2 * lane_queries];
      for (int half = 0; half < 2; ++half) {
        const auto value = [&](int which) {
          const __m512 sum = _mm512_loadu_ps(sums_.data() + (i + which) * lane_queries + 16 * half);
          return _mm512_mul_ps(_mm512_mul_ps(sum, by[which]), inverse[half]);
        };
        _mm512_storeu_si512(columns + 32 * half, lanes::paired(value(0), value(1)));
      }
      for (std::int64_t query = 0; query < count; ++query) std::copy_n(columns + 2 * query, 2, to + query * stride + i);
    }
  }

 private:
  std::int64_t size_;
  std::vector<float> sums_;
  __m512 most_[2], total_[2];
};

// Every block of queries of every head, which load()s once a thread before it attend()s.
template <typename Head>
void for_each_head(const Attention& job, const Parallel& parallel) {
  const std::int64_t parts = (job.queries + lane_queries - 1) / lane_queries;
  parallel(job.batch * job.heads * parts, [&](std::int64_t begin, std::int64_t end) {
    Head head(job);
    std::int64_t loaded = -1;
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t pair = task / parts;
      if (pair != loaded) head.load(pair / job.heads, pair % job.heads);
      loaded = pair;
      head.attend(pair / job.heads, pair % job.heads, task % parts * lane_queries);
    }
  });
}

}  // namespace hoirt::cpu

#pragma GCC pop_options
#endif

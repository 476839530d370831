// Queries lie in the lanes: no sum or maximum ever crosses a register.
#include "csrc/cpu/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "csrc/cpu/attention_queries.h"
#include "engine/error.h"

namespace hoirt::cpu {

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
namespace {

constexpr std::int64_t block_keys = 128;
constexpr int rows = 8;  // of one product

// Between the rows of a matrix, and between the pairs of one row.
struct Strides {
  std::int64_t row, pair;
};

// Of the eight rows; written out, so that they stay in registers.
__m512 highest(const __m512 (&row)[rows][2], int half) {
  const __m512 a = _mm512_max_ps(row[0][half], row[1][half]), b = _mm512_max_ps(row[2][half], row[3][half]);
  const __m512 c = _mm512_max_ps(row[4][half], row[5][half]), d = _mm512_max_ps(row[6][half], row[7][half]);
  return _mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d));
}

// out (8, 32) = a (8, 2 pairs) times b (pairs, 32, 2), or it is added. `most` becomes at least each of the 8 rows, if given.
template <bool Add>
void product(const Bf16* a, Strides strides, const Bf16* b, std::int64_t pairs, float* out, __m512* most = nullptr) {
  __m512 sum[rows][2];
#pragma GCC unroll 8
  for (int row = 0; row < rows; ++row) {
    sum[row][0] = Add ? _mm512_loadu_ps(out + row * lane_queries) : _mm512_setzero_ps();
    sum[row][1] = Add ? _mm512_loadu_ps(out + row * lane_queries + 16) : _mm512_setzero_ps();
  }
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    const __m512bh low = lanes::load_pairs(b + 2 * lane_queries * pair);
    const __m512bh high = lanes::load_pairs(b + 2 * lane_queries * pair + lane_queries);
#pragma GCC unroll 8
    for (int row = 0; row < rows; ++row) {
      const __m512bh two = lanes::broadcast_pair(a + row * strides.row + pair * strides.pair);
      sum[row][0] = _mm512_dpbf16_ps(sum[row][0], two, low);
      sum[row][1] = _mm512_dpbf16_ps(sum[row][1], two, high);
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < rows; ++row) {
    _mm512_storeu_ps(out + row * lane_queries, sum[row][0]);
    _mm512_storeu_ps(out + row * lane_queries + 16, sum[row][1]);
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    if (most) most[half] = _mm512_max_ps(most[half], highest(sum, half));
  }
}

// One head of one item, packed for products, and the 32 queries at work.
class Head {
 public:
  explicit Head(const Attention& job)
      : job_(job),
        blocks_((job.keys + block_keys - 1) / block_keys),
        stride_(job.heads * job.size),
        keys_(static_cast<std::size_t>(blocks_ * block_keys * job.size)),
        values_(keys_.size()),
        queries_(static_cast<std::size_t>(lane_queries * job.size)),
        scores_(static_cast<std::size_t>(block_keys * lane_queries)),
        weights_(scores_.size()),
        sums_(job.size) {}

  // Keys as they are, (keys, size), the last one repeated to fill a product: then no maximum is of the padding. Values with
  // two keys side by side, (pairs of keys, size, 2), padding is zero.
  void load(std::int64_t item, std::int64_t head) {
    const std::int64_t size = job_.size;
    for (std::int64_t key = 0; key < job_.keys; ++key) {
      const std::int64_t at = (item * job_.keys + key) * stride_ + head * size;
      std::copy_n(job_.k + at, size, keys_.data() + key * size);
      Bf16* values = values_.data() + key / 2 * 2 * size + key % 2;
      for (std::int64_t i = 0; i < size; ++i) values[2 * i] = job_.v[at + i];
    }
    for (std::int64_t key = job_.keys; key % rows != 0; ++key) {
      std::copy_n(keys_.data() + (job_.keys - 1) * size, size, keys_.data() + key * size);
    }
  }

  void attend(std::int64_t item, std::int64_t head, std::int64_t first) {
    const std::int64_t size = job_.size, count = std::min(lane_queries, job_.queries - first);
    const std::int64_t at = (item * job_.queries + first) * stride_ + head * size;
    for (std::int64_t query = 0; query < count; ++query) {
      const Bf16* from = job_.q + at + query * stride_;
      Bf16* to = queries_.data() + 2 * query;
      for (std::int64_t i = 0; i < size; i += 2) std::copy_n(from + i, 2, to + i * lane_queries);
    }
    sums_.clear();
    for (std::int64_t block = 0; block < blocks_; ++block) add(block);
    sums_.store(job_.output + at, count, stride_, [](std::int64_t) { return 1.0F; });
  }

 private:
  void add(std::int64_t block) {
    const std::int64_t size = job_.size, count = std::min(block_keys, job_.keys - block * block_keys);
    __m512 most[2] = {_mm512_set1_ps(RunningSums::lowest), _mm512_set1_ps(RunningSums::lowest)};
    for (std::int64_t key = 0; key < count; key += rows) {
      product<false>(keys_.data() + (block * block_keys + key) * size, {size, 2}, queries_.data(), size / 2,
                     scores_.data() + key * lane_queries, most);
    }
    weigh(count, most);
    for (std::int64_t i = 0; i < size; i += rows) {
      product<true>(values_.data() + block * block_keys * size + 2 * i, {2, 2 * size}, weights_.data(), (count + 1) / 2,
                    sums_.of(i));
    }
  }

  // Scores to weights, 2^(scaled score - maximum); what was summed before moves to the new maximum.
  void weigh(std::int64_t count, const __m512* highest) {
    const __m512 scale = _mm512_set1_ps(job_.scale * 1.44269504F);
    for (int half = 0; half < 2; ++half) {
      float* scores = scores_.data() + 16 * half;
      const __m512 most = sums_.raise(half, _mm512_mul_ps(highest[half], scale));
      __m512 total = _mm512_setzero_ps();
      for (std::int64_t key = 0; key < count; key += 2) {
        const auto weight = [&](std::int64_t row) {
          return lanes::exp2_short(_mm512_fmsub_ps(_mm512_loadu_ps(scores + row * lane_queries), scale, most));
        };
        const __m512 first = weight(key);
        const __m512 second = key + 1 < count ? weight(key + 1) : _mm512_setzero_ps();
        total = _mm512_add_ps(total, _mm512_add_ps(first, second));
        _mm512_storeu_si512(weights_.data() + (key / 2 * lane_queries + 16 * half) * 2, lanes::paired(first, second));
      }
      sums_.add_weights(half, total);
    }
  }

  const Attention& job_;
  std::int64_t blocks_, stride_;
  std::vector<Bf16> keys_, values_, queries_;
  std::vector<float> scores_;  // (128 keys, 32 queries)
  std::vector<Bf16> weights_;  // (64 pairs of keys, 32 queries, 2)
  RunningSums sums_;
};

}  // namespace

void attention(const Attention& job, const Parallel& parallel) { for_each_head<Head>(job, parallel); }
#pragma GCC pop_options
#else
void attention(const Attention&, const Parallel&) { throw BackendError("this build has no code for AVX512-BF16"); }
#endif

}  // namespace hoirt::cpu

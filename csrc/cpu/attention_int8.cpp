// As attention.cpp, queries in the lanes: scores and weights as bytes, sums of a block of keys exact.
#include "csrc/cpu/attention_int8.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "csrc/cpu/attention_queries.h"
#include "engine/error.h"

namespace hoirt::cpu {

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,fma")
namespace {

constexpr std::int64_t block_keys = 128;
constexpr int rows = 8;  // of one product
constexpr float largest = 127, finest = 254;
constexpr std::int32_t middle = 128;
constexpr auto signs = static_cast<std::int64_t>(0x8080808080808080);  // adds 128 to eight signed bytes

__m512i broadcast(const void* four_bytes) {
  int four;
  __builtin_memcpy(&four, four_bytes, sizeof four);
  return _mm512_set1_epi32(four);
}

// Of the eight rows; written out, so that they stay in registers.
__m512i highest(const __m512i (&row)[rows][2], int half) {
  const __m512i a = _mm512_max_epi32(row[0][half], row[1][half]), b = _mm512_max_epi32(row[2][half], row[3][half]);
  const __m512i c = _mm512_max_epi32(row[4][half], row[5][half]), d = _mm512_max_epi32(row[6][half], row[7][half]);
  return _mm512_max_epi32(_mm512_max_epi32(a, b), _mm512_max_epi32(c, d));
}

// scores (8, 32) = keys (8, size) times queries (size / 4, 32, 4), less what the keys' 128 add. `most` becomes at least each
// of them.
void score(const std::uint8_t* keys, std::int64_t size, const std::int8_t* queries, const std::int32_t* offsets,
           std::int32_t* scores, __m512i (&most)[2]) {
  __m512i sum[rows][2];
  for (auto& row : sum) row[0] = _mm512_loadu_si512(offsets), row[1] = _mm512_loadu_si512(offsets + 16);
  for (std::int64_t at = 0; at < size; at += 4) {
    const __m512i low = _mm512_loadu_si512(queries + lane_queries * at);
    const __m512i high = _mm512_loadu_si512(queries + lane_queries * at + 64);
#pragma GCC unroll 8
    for (int row = 0; row < rows; ++row) {
      const __m512i four = broadcast(keys + row * size + at);
      sum[row][0] = _mm512_dpbusd_epi32(sum[row][0], four, low);
      sum[row][1] = _mm512_dpbusd_epi32(sum[row][1], four, high);
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < rows; ++row) {
    _mm512_storeu_si512(scores + row * lane_queries, sum[row][0]);
    _mm512_storeu_si512(scores + row * lane_queries + 16, sum[row][1]);
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) most[half] = _mm512_max_epi32(most[half], highest(sum, half));
}

// sums (8, 32) += shares (32,) * [values (quads, size, 4), 8 of each quad, times weights (quads, 32, 4)].
void mix(const std::int8_t* values, std::int64_t size, const std::uint8_t* weights, std::int64_t quads,
         const __m512 (&shares)[2], float* sums) {
  __m512i sum[rows][2];
  for (auto& row : sum) row[0] = row[1] = _mm512_setzero_si512();
  for (std::int64_t quad = 0; quad < quads; ++quad) {
    const __m512i low = _mm512_loadu_si512(weights + 4 * lane_queries * quad);
    const __m512i high = _mm512_loadu_si512(weights + 4 * lane_queries * quad + 64);
#pragma GCC unroll 8
    for (int row = 0; row < rows; ++row) {
      const __m512i four = broadcast(values + 4 * (quad * size + row));
      sum[row][0] = _mm512_dpbusd_epi32(sum[row][0], low, four);
      sum[row][1] = _mm512_dpbusd_epi32(sum[row][1], high, four);
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < rows; ++row) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      float* to = sums + row * lane_queries + 16 * half;
      _mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[row][half]), shares[half], _mm512_loadu_ps(to)));
    }
  }
}

// Eight of a row, as the size of a head is a multiple of eight.
__m256 eight_of(const Bf16* from) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))), 16));
}

__m256 magnitude(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), x); }

float highest_of(__m256 x) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

// Eight signed bytes.
std::int64_t rounded(__m256 x) { return _mm_cvtsi128_si64(_mm256_cvtsepi32_epi8(_mm256_cvtps_epi32(x))); }

// A scale that takes values of at most `most` to 127.
float scale_of(float most) { return most > 0 ? most / largest : 1.0F; }

// One head of one item, rounded to bytes, and the 32 queries at work.
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
        key_scales_(static_cast<std::size_t>(blocks_)),
        value_scales_(static_cast<std::size_t>(job.size)),
        means_(value_scales_.size()),
        sums_(job.size) {}

  // Keys as they are, (keys, size), the last one repeated to fill a product: then no maximum is of the padding. Values with
  // four keys side by side, (quads of keys, size, 4), padding is zero.
  void load(std::int64_t item, std::int64_t head) {
    const std::int64_t first = item * job_.keys * stride_ + head * job_.size;
    load_keys(job_.k + first);
    load_values(job_.v + first);
  }

  void attend(std::int64_t item, std::int64_t head, std::int64_t first) {
    const std::int64_t size = job_.size, count = std::min(lane_queries, job_.queries - first);
    const std::int64_t at = (item * job_.queries + first) * stride_ + head * size;
    for (std::int64_t query = 0; query < count; ++query) load_query(job_.q + at + query * stride_, query);
    sums_.clear();
    for (std::int64_t block = 0; block < blocks_; ++block) add(block);
    sums_.store(job_.output + at, count, stride_, [this](std::int64_t i) { return value_scales_[static_cast<std::size_t>(i)]; });
  }

 private:
  void load_keys(const Bf16* from) {
    const std::int64_t size = job_.size;
    std::fill(means_.begin(), means_.end(), 0.0F);
    for (std::int64_t key = 0; key < job_.keys; ++key) {
      for (std::int64_t i = 0; i < size; i += 8) {
        float* sum = means_.data() + i;
        _mm256_storeu_ps(sum, _mm256_add_ps(_mm256_loadu_ps(sum), eight_of(from + key * stride_ + i)));
      }
    }
    for (float& mean : means_) mean /= static_cast<float>(job_.keys);
    const auto centred = [&](std::int64_t key, std::int64_t i) {
      return _mm256_sub_ps(eight_of(from + key * stride_ + i), _mm256_loadu_ps(means_.data() + i));
    };
    for (std::int64_t block = 0; block < blocks_; ++block) {
      const std::int64_t begin = block * block_keys, end = std::min(begin + block_keys, job_.keys);
      __m256 most = _mm256_setzero_ps();
      for (std::int64_t key = begin; key < end; ++key) {
        for (std::int64_t i = 0; i < size; i += 8) most = _mm256_max_ps(most, magnitude(centred(key, i)));
      }
      const float scale = scale_of(highest_of(most));
      const __m256 factor = _mm256_set1_ps(1 / scale);
      key_scales_[static_cast<std::size_t>(block)] = scale * job_.scale * 1.44269504F;
      for (std::int64_t key = begin; key < end; ++key) {
        for (std::int64_t i = 0; i < size; i += 8) {
          const std::int64_t eight = rounded(_mm256_mul_ps(centred(key, i), factor)) ^ signs;
          __builtin_memcpy(keys_.data() + key * size + i, &eight, sizeof eight);
        }
      }
    }
    for (std::int64_t key = job_.keys; key % rows != 0; ++key) {
      std::copy_n(keys_.data() + (job_.keys - 1) * size, size, keys_.data() + key * size);
    }
  }

  void load_values(const Bf16* from) {
    const std::int64_t size = job_.size;
    for (std::int64_t i = 0; i < size; i += 8) {
      __m256 most = _mm256_setzero_ps();
      for (std::int64_t key = 0; key < job_.keys; ++key) most = _mm256_max_ps(most, magnitude(eight_of(from + key * stride_ + i)));
      _mm256_storeu_ps(value_scales_.data() + i, most);
    }
    for (float& scale : value_scales_) scale = scale_of(scale);
    const __m256 one = _mm256_set1_ps(1.0F);
    for (std::int64_t i = 0; i < size; i += 8) {
      const __m256 factor = _mm256_div_ps(one, _mm256_loadu_ps(value_scales_.data() + i));
      for (std::int64_t key = 0; key < job_.keys; ++key) {
        const std::int64_t eight = rounded(_mm256_mul_ps(eight_of(from + key * stride_ + i), factor));
        std::int8_t* to = values_.data() + (key / 4 * size + i) * 4 + key % 4;
        for (int k = 0; k < 8; ++k) to[4 * k] = static_cast<std::int8_t>(eight >> (8 * k));
      }
    }
  }

  void load_query(const Bf16* from, std::int64_t query) {
    __m256 most = _mm256_setzero_ps();
    for (std::int64_t i = 0; i < job_.size; i += 8) most = _mm256_max_ps(most, magnitude(eight_of(from + i)));
    const float scale = scale_of(highest_of(most));
    const __m256 factor = _mm256_set1_ps(1 / scale);
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < job_.size; i += 8) {
      const std::int64_t eight = rounded(_mm256_mul_ps(eight_of(from + i), factor));
      std::int8_t bytes[8];
      __builtin_memcpy(bytes, &eight, sizeof eight);
      for (const std::int8_t byte : bytes) sum += byte;
      std::int8_t* to = queries_.data() + (i / 4 * lane_queries + query) * 4;
      __builtin_memcpy(to, bytes, 4);
      __builtin_memcpy(to + 4 * lane_queries, bytes + 4, 4);
    }
    query_scales_[query] = scale;
    offsets_[query] = -middle * sum;
  }

  void add(std::int64_t block) {
    const std::int64_t size = job_.size, count = std::min(block_keys, job_.keys - block * block_keys);
    __m512i most[2] = {_mm512_set1_epi32(INT32_MIN), _mm512_set1_epi32(INT32_MIN)};
    for (std::int64_t key = 0; key < count; key += rows) {
      score(keys_.data() + (block * block_keys + key) * size, size, queries_.data(), offsets_, scores_.data() + key * lane_queries,
            most);
    }
    __m512 shares[2];
    weigh(count, key_scales_[static_cast<std::size_t>(block)], most, shares);
    for (std::int64_t i = 0; i < size; i += rows) {
      mix(values_.data() + block * block_keys * size + 4 * i, size, weights_.data(), (count + 3) / 4, shares, sums_.of(i));
    }
  }

  // Scores to weights, 254 * 2^(scaled score - the block's maximum), and the block's share beside the others. What was
  // summed before moves to the new maximum.
  void weigh(std::int64_t count, float key_scale, const __m512i (&highest)[2], __m512 (&shares)[2]) {
    for (int half = 0; half < 2; ++half) {
      const std::int32_t* scores = scores_.data() + 16 * half;
      const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(query_scales_ + 16 * half), _mm512_set1_ps(key_scale));
      const __m512 here = _mm512_mul_ps(_mm512_cvtepi32_ps(highest[half]), scale);
      const __m512 most = sums_.raise(half, here);
      shares[half] = lanes::exp2(_mm512_sub_ps(here, most));
      const __m512 offset = _mm512_sub_ps(_mm512_set1_ps(std::log2(finest)), here);
      const auto weight = [&](std::int64_t key) {
        const __m512 scaled = _mm512_cvtepi32_ps(_mm512_loadu_si512(scores + key * lane_queries));
        return _mm512_cvtps_epi32(lanes::exp2_byte(_mm512_fmadd_ps(scaled, scale, offset)));
      };
      const __m512i none = _mm512_setzero_si512(), ones = _mm512_set1_epi8(1);
      __m512i total = none;
      for (std::int64_t key = 0; key < count; key += 4) {
        const __m512i a = weight(key), b = key + 1 < count ? weight(key + 1) : none;
        const __m512i c = key + 2 < count ? weight(key + 2) : none, d = key + 3 < count ? weight(key + 3) : none;
        const __m512i ab = _mm512_or_si512(a, _mm512_slli_epi32(b, 8));
        const __m512i cd = _mm512_or_si512(_mm512_slli_epi32(c, 16), _mm512_slli_epi32(d, 24));
        const __m512i four = _mm512_or_si512(ab, cd);
        total = _mm512_dpbusd_epi32(total, four, ones);
        _mm512_storeu_si512(weights_.data() + (key / 4 * lane_queries + 16 * half) * 4, four);
      }
      sums_.add_weights(half, _mm512_mul_ps(_mm512_cvtepi32_ps(total), shares[half]));
    }
  }

  const Attention& job_;
  std::int64_t blocks_, stride_;
  std::vector<std::uint8_t> keys_;    // around 128
  std::vector<std::int8_t> values_, queries_;
  std::vector<std::int32_t> scores_;  // (128 keys, 32 queries)
  std::vector<std::uint8_t> weights_;  // (32 quads of keys, 32 queries, 4)
  std::vector<float> key_scales_, value_scales_, means_;
  RunningSums sums_;
  float query_scales_[lane_queries] = {};
  std::int32_t offsets_[lane_queries] = {};
};

}  // namespace

void attention_int8(const Attention& job, const Parallel& parallel) { for_each_head<Head>(job, parallel); }
#pragma GCC pop_options
#else
void attention_int8(const Attention&, const Parallel&) { throw BackendError("this build has no code for AVX512-VNNI"); }
#endif

}  // namespace hoirt::cpu

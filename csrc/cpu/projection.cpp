// Blocks of rows that stay in the second cache meet the weights, 32 columns at a time.
#include "csrc/cpu/projection.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "engine/error.h"

namespace hoirt::cpu {

namespace {

constexpr std::int64_t block = projection_channels;

}  // namespace

// (columns / 32, channels_in / 2, 32, 2): what one product reads lies in a row, two inputs side by side.
void pack_projection(const float* weights, std::int64_t channels_in, std::int64_t columns, bool transposed, Bf16* packed,
                     const Parallel& parallel) {
  parallel(columns / block, [&](std::int64_t begin, std::int64_t end) {
    Bf16* to = packed + begin * block * channels_in;
    for (std::int64_t panel = begin; panel < end; ++panel) {
      for (std::int64_t i = 0; i < block * channels_in; ++i) {
        const std::int64_t column = panel * block + i / 2 % block, in = i / (2 * block) * 2 + i % 2;
        *to++ = bf16_of(weights[transposed ? column * channels_in + in : in * columns + column]);
      }
    }
  });
}

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
namespace {

constexpr int most_rows = 12;                    // of one product: with two registers each, 24 of the 32
constexpr std::int64_t block_bytes = 640 << 10;  // rows at work, in the second cache
constexpr std::int64_t most_block_rows = 32 * most_rows;
constexpr std::int64_t enough_tasks = 16;

// (Rows, 2 pairs) times (pairs, 32, 2), plus the bias; every sum goes to finish(row, half, sum).
template <int Rows, typename Finish>
inline void product(const Bf16* rows, std::int64_t stride, const Bf16* weights, std::int64_t pairs, const float* bias,
                    const Finish& finish) {
  __m512 sum[Rows][2];
  for (auto& row : sum) row[0] = _mm512_loadu_ps(bias), row[1] = _mm512_loadu_ps(bias + 16);
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    const __m512bh low = lanes::load_pairs(weights + 2 * block * pair);
    const __m512bh high = lanes::load_pairs(weights + 2 * block * pair + block);
#pragma GCC unroll 12
    for (int row = 0; row < Rows; ++row) {
      const __m512bh two = lanes::broadcast_pair(rows + row * stride + 2 * pair);
      sum[row][0] = _mm512_dpbf16_ps(sum[row][0], two, low);
      sum[row][1] = _mm512_dpbf16_ps(sum[row][1], two, high);
    }
  }
#pragma GCC unroll 12
  for (int row = 0; row < Rows; ++row) finish(row, 0, sum[row][0]), finish(row, 1, sum[row][1]);
}

// x Phi(x), with Phi(x) as the logistic function of an odd polynomial.
inline __m512 gelu(__m512 x) {
  // Below -8 the result is 0 for bfloat16. Of a number and a NaN, maximum and minimum take the second.
  const __m512 above = _mm512_max_ps(_mm512_set1_ps(-8), x), bounded = _mm512_min_ps(_mm512_set1_ps(8), above);
  const __m512 square = _mm512_mul_ps(bounded, bounded);
  // -log2(e) times 1.59501577, 7.40112925e-2 and -7.03033645e-4
  __m512 sum = _mm512_fmadd_ps(_mm512_set1_ps(1.01426314e-3F), square, _mm512_set1_ps(-0.10677572F));
  sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(-2.30112133F));
  const __m512 power = lanes::exp2_short(_mm512_mul_ps(sum, bounded));
  return _mm512_mul_ps(above, _mm512_rcp14_ps(_mm512_add_ps(_mm512_set1_ps(1), power)));
}

// What one product needs to know of where it stands.
struct Place {
  const Bf16* rows;
  std::int64_t stride, pairs;
  const Bf16 *weights, *gate_weights;
  const float *bias, *gate_bias;
  const Bf16* residual;
  std::int64_t residual_stride;
  float factor;  // of the sum, before the residual
  Bf16* output;
  std::int64_t output_stride;
};

template <int Rows>
void plain(const Place& at) {
  product<Rows>(at.rows, at.stride, at.weights, at.pairs, at.bias, [&at](int row, int half, __m512 sum) {
    lanes::store(at.output + row * at.output_stride + 16 * half, sum);
  });
}

template <int Rows>
void summed(const Place& at) {
  product<Rows>(at.rows, at.stride, at.weights, at.pairs, at.bias, [&at](int row, int half, __m512 sum) {
    const __m512 other = lanes::load(at.residual + row * at.residual_stride + 16 * half);
    const __m512 scaled = _mm512_fmadd_ps(sum, _mm512_set1_ps(at.factor), other);
    lanes::store(at.output + row * at.output_stride + 16 * half, scaled);
  });
}

template <int Rows>
void gated(const Place& at) {
  alignas(64) float values[Rows * block];
  product<Rows>(at.rows, at.stride, at.weights, at.pairs, at.bias, [&values](int row, int half, __m512 sum) {
    _mm512_store_ps(values + row * block + 16 * half, sum);
  });
  product<Rows>(at.rows, at.stride, at.gate_weights, at.pairs, at.gate_bias, [&](int row, int half, __m512 sum) {
    const __m512 value = _mm512_load_ps(values + row * block + 16 * half);
    lanes::store(at.output + row * at.output_stride + 16 * half, _mm512_mul_ps(value, gelu(sum)));
  });
}

using Kernel = void (*)(const Place&);
template <int... Less>
constexpr std::array<std::array<Kernel, most_rows>, 3> kernels_of(std::integer_sequence<int, Less...>) {
  return {{{plain<Less + 1>...}, {summed<Less + 1>...}, {gated<Less + 1>...}}};
}
constexpr auto kernels = kernels_of(std::make_integer_sequence<int, most_rows>());

void layer_norm(const Projection& job, const Bf16* row, Bf16* to) {
  __m512 sum = _mm512_setzero_ps();
  for (std::int64_t i = 0; i < job.channels_in; i += 16) sum = _mm512_add_ps(sum, lanes::load(row + i));
  const auto count = static_cast<float>(job.channels_in);
  const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / count);
  __m512 squares = _mm512_setzero_ps();
  for (std::int64_t i = 0; i < job.channels_in; i += 16) {
    const __m512 x = _mm512_sub_ps(lanes::load(row + i), mean);
    squares = _mm512_fmadd_ps(x, x, squares);
  }
  const __m512 inverse = _mm512_set1_ps(1 / std::sqrt(_mm512_reduce_add_ps(squares) / count + job.epsilon));
  for (std::int64_t i = 0; i < job.channels_in; i += 16) {
    const __m512 x = _mm512_mul_ps(_mm512_sub_ps(lanes::load(row + i), mean), inverse);
    lanes::store(to + i, _mm512_fmadd_ps(x, _mm512_loadu_ps(job.scale + i), _mm512_loadu_ps(job.shift + i)));
  }
}

void group_norm(const Projection& job, std::int64_t row, Bf16* to) {
  const Bf16* from = job.input + row * job.channels_in;
  const std::int64_t at = row / job.item_rows * job.channels_in;
  for (std::int64_t i = 0; i < job.channels_in; i += 16) {
    const __m512 factor = _mm512_loadu_ps(job.scale + at + i), offset = _mm512_loadu_ps(job.shift + at + i);
    lanes::store(to + i, _mm512_fmadd_ps(lanes::load(from + i), factor, offset));
  }
}

// The rows as the products read them: where they are, or normalised in `room`.
const Bf16* prepared(const Projection& job, std::int64_t first, std::int64_t count, Bf16* room) {
  if (job.norm == Projection::Norm::none) return job.input + first * job.channels_in;
  for (std::int64_t i = 0; i < count; ++i) {
    Bf16* to = room + i * job.channels_in;
    if (job.norm == Projection::Norm::layer) {
      layer_norm(job, job.input + (first + i) * job.channels_in, to);
    } else {
      group_norm(job, first + i, to);
    }
  }
  return room;
}

// The panels begin .. end - 1 of `count` rows from `first`.
void multiply(const Projection& job, const Bf16* rows, std::int64_t first, std::int64_t count, std::int64_t begin,
              std::int64_t end) {
  const auto& kinds = kernels[job.gated ? 2 : job.residual ? 1 : 0];
  const std::int64_t width = job.channels_out / job.parts;
  for (std::int64_t panel = begin; panel < end; ++panel) {
    const std::int64_t column = panel * block, gate = job.channels_out + column;
    for (std::int64_t row = 0; row < count; row += most_rows) {
      Bf16* output = job.outputs[static_cast<std::size_t>(column / width)];
      const Place at{rows + row * job.channels_in,
                     job.channels_in,
                     job.channels_in / 2,
                     job.weights + column * job.channels_in,
                     job.weights + gate * job.channels_in,
                     job.bias + column,
                     job.bias + gate,
                     job.residual + (first + row) * job.channels_out + column,
                     job.channels_out,
                     job.factors ? job.factors[first / job.item_rows] : 1.0F,
                     output + (first + row) * width + column % width,
                     width};
      kinds[static_cast<std::size_t>(std::min<std::int64_t>(most_rows, count - row) - 1)](at);
    }
  }
}

}  // namespace

void project(const Projection& job, const Parallel& parallel) {
  const std::int64_t fit = block_bytes / (2 * job.channels_in) / most_rows * most_rows;
  const std::int64_t rows = std::clamp<std::int64_t>(fit, 4 * most_rows, most_block_rows);
  // No block holds rows of two items with factors of their own.
  const std::int64_t item_rows = job.factors ? job.item_rows : job.rows;
  const std::int64_t item_blocks = (item_rows + rows - 1) / rows, blocks = job.rows / item_rows * item_blocks;
  const std::int64_t panels = job.channels_out / block;
  const std::int64_t groups = std::clamp<std::int64_t>(enough_tasks / blocks, 1, panels);
  // Blocks of one group of columns follow each other, so its weights stay in the caches.
  parallel(blocks * groups, [&](std::int64_t begin, std::int64_t end) {
    const auto room = std::make_unique_for_overwrite<Bf16[]>(static_cast<std::size_t>(rows * job.channels_in));
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t at = task % blocks, group = task / blocks, start = at % item_blocks * rows;
      const std::int64_t first = at / item_blocks * item_rows + start, count = std::min(rows, item_rows - start);
      multiply(job, prepared(job, first, count, room.get()), first, count, panels * group / groups,
               panels * (group + 1) / groups);
    }
  });
}
#pragma GCC pop_options
#else
void project(const Projection&, const Parallel&) { throw BackendError("this build has no code for AVX512-BF16"); }
#endif

}  // namespace hoirt::cpu

// What both projections share, whatever numbers they multiply: norms, gates and sums, and the order of the work.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>

#include "csrc/cpu/bf16.h"
#include "csrc/cpu/parallel.h"
#include "csrc/cpu/projection.h"

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,fma")

namespace hoirt::cpu::projection {

constexpr std::int64_t block = projection_channels;
constexpr int most_rows = 12;                    // of one product: with two registers each, 24 of the 32
constexpr std::int64_t block_bytes = 640 << 10;  // rows at work, in the second cache
constexpr std::int64_t most_block_rows = 32 * most_rows;
constexpr std::int64_t enough_tasks = 16;

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

// What one product needs to know of where it stands. A Kind knows its Element, its Panel of 32 columns of the weights, and
// product<Rows>(rows, scales, channels, panel, finish), which gives every sum to finish(row, half, sum).
template <typename Kind>
struct Place {
  const typename Kind::Element* rows;  // (Rows, channels)
  const float* scales;                 // of the rows
  std::int64_t channels;
  typename Kind::Panel values, gates;
  const Bf16* residual;
  std::int64_t residual_stride;
  float factor;  // of the sum, before the residual
  Bf16* output;
  std::int64_t output_stride;
};

template <typename Kind, int Rows>
void plain(const Place<Kind>& at) {
  Kind::template product<Rows>(at.rows, at.scales, at.channels, at.values, [&at](int row, int half, __m512 sum) {
    lanes::store(at.output + row * at.output_stride + 16 * half, sum);
  });
}

template <typename Kind, int Rows>
void summed(const Place<Kind>& at) {
  Kind::template product<Rows>(at.rows, at.scales, at.channels, at.values, [&at](int row, int half, __m512 sum) {
    const __m512 other = lanes::load(at.residual + row * at.residual_stride + 16 * half);
    const __m512 scaled = _mm512_fmadd_ps(sum, _mm512_set1_ps(at.factor), other);
    lanes::store(at.output + row * at.output_stride + 16 * half, scaled);
  });
}

template <typename Kind, int Rows>
void gated(const Place<Kind>& at) {
  alignas(64) float values[Rows * block];
  Kind::template product<Rows>(at.rows, at.scales, at.channels, at.values, [&values](int row, int half, __m512 sum) {
    _mm512_store_ps(values + row * block + 16 * half, sum);
  });
  Kind::template product<Rows>(at.rows, at.scales, at.channels, at.gates, [&](int row, int half, __m512 sum) {
    const __m512 value = _mm512_load_ps(values + row * block + 16 * half);
    lanes::store(at.output + row * at.output_stride + 16 * half, _mm512_mul_ps(value, gelu(sum)));
  });
}

template <typename Kind>
using Kernel = void (*)(const Place<Kind>&);

template <typename Kind, int... Less>
constexpr std::array<std::array<Kernel<Kind>, most_rows>, 3> kernels_of(std::integer_sequence<int, Less...>) {
  return {{{plain<Kind, Less + 1>...}, {summed<Kind, Less + 1>...}, {gated<Kind, Less + 1>...}}};
}

inline void layer_norm(const Projection& job, const Bf16* row, Bf16* to) {
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

inline void group_norm(const Projection& job, std::int64_t row, Bf16* to) {
  const Bf16* from = job.input + row * job.channels_in;
  const std::int64_t at = row / job.item_rows * job.channels_in;
  for (std::int64_t i = 0; i < job.channels_in; i += 16) {
    const __m512 factor = _mm512_loadu_ps(job.scale + at + i), offset = _mm512_loadu_ps(job.shift + at + i);
    lanes::store(to + i, _mm512_fmadd_ps(lanes::load(from + i), factor, offset));
  }
}

// Normalises `row` of the input. There must be a norm.
inline void normalise(const Projection& job, std::int64_t row, Bf16* to) {
  if (job.norm == Projection::Norm::layer) {
    layer_norm(job, job.input + row * job.channels_in, to);
  } else {
    group_norm(job, row, to);
  }
}

// The panels begin .. end - 1 of `count` rows from `first`.
template <typename Kind>
void multiply(const Projection& job, const Kind& kind, std::int64_t first, std::int64_t count, std::int64_t begin,
              std::int64_t end) {
  static constexpr auto all = kernels_of<Kind>(std::make_integer_sequence<int, most_rows>());
  const auto& kernels = all[job.gated ? 2 : job.residual ? 1 : 0];
  const std::int64_t width = job.channels_out / job.parts;
  for (std::int64_t panel = begin; panel < end; ++panel) {
    const std::int64_t column = panel * block;
    Bf16* output = job.outputs[static_cast<std::size_t>(column / width)];
    for (std::int64_t row = 0; row < count; row += most_rows) {
      const Place<Kind> at{kind.rows(first + row),
                           kind.scales(first + row),
                           job.channels_in,
                           kind.panel(column),
                           kind.panel(job.gated ? job.channels_out + column : column),
                           job.residual + (first + row) * job.channels_out + column,
                           job.channels_out,
                           job.factors ? job.factors[first / job.item_rows] : 1.0F,
                           output + (first + row) * width + column % width,
                           width};
      kernels[static_cast<std::size_t>(std::min<std::int64_t>(most_rows, count - row) - 1)](at);
    }
  }
}

// A Kind made of the job, the weights and a number of rows holds that many at most, from a row that it is told by
// start_at(). It can prepare(begin, end) them, and gives the rows() and their scales() from a row on, and the panel() of a
// column.
template <typename Kind>
void project(const Projection& job, const typename Kind::Weights& weights, const Parallel& parallel) {
  if (job.rows == 0) return;
  const auto row_bytes = job.channels_in * static_cast<std::int64_t>(sizeof(typename Kind::Element));
  const std::int64_t fit = block_bytes / row_bytes / most_rows * most_rows;
  const std::int64_t rows = std::clamp<std::int64_t>(fit, 4 * most_rows, most_block_rows);
  // No block holds rows of two items with factors of their own.
  const std::int64_t item_rows = job.factors ? job.item_rows : job.rows;
  const std::int64_t item_blocks = (item_rows + rows - 1) / rows, blocks = job.rows / item_rows * item_blocks;
  const std::int64_t panels = job.channels_out / block;
  const auto first_of = [&](std::int64_t at) { return at / item_blocks * item_rows + at % item_blocks * rows; };
  const auto count_of = [&](std::int64_t at) { return std::min(rows, item_rows - at % item_blocks * rows); };
  if (blocks >= enough_tasks) {
    parallel(blocks, [&](std::int64_t begin, std::int64_t end) {
      Kind kind(job, weights, rows);
      for (std::int64_t at = begin; at < end; ++at) {
        kind.start_at(first_of(at));
        kind.prepare(first_of(at), first_of(at) + count_of(at));
        multiply(job, kind, first_of(at), count_of(at), 0, panels);
      }
    });
    return;
  }
  // Of few rows all are prepared first, and the columns are dealt out too. Blocks of one group of columns follow each other,
  // so its weights stay in the caches.
  const std::int64_t groups = std::clamp<std::int64_t>(enough_tasks / blocks, 1, panels);
  Kind kind(job, weights, job.rows);
  kind.start_at(0);
  parallel(job.rows, [&](std::int64_t begin, std::int64_t end) { kind.prepare(begin, end); });
  parallel(blocks * groups, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t at = task % blocks, group = task / blocks;
      multiply(job, kind, first_of(at), count_of(at), panels * group / groups, panels * (group + 1) / groups);
    }
  });
}

}  // namespace hoirt::cpu::projection

#pragma GCC pop_options
#endif

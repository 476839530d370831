// Products of unsigned bytes around 128, the rows, with signed ones, the weights.
#include "csrc/cpu/projection_int8.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "csrc/cpu/projection_rows.h"
#include "engine/error.h"

namespace hoirt::cpu {

// Values (columns / 32, channels_in / 4, 32, 4): what one product reads lies in a row, four inputs side by side.
void pack_projection_int8(const float* weights, std::int64_t channels_in, std::int64_t columns, bool transposed,
                          std::int8_t* values, float* scales, std::int32_t* offsets, const Parallel& parallel) {
  constexpr std::int64_t block = projection_channels;
  parallel(columns, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t column = begin; column < end; ++column) {
      const auto weight = [&](std::int64_t in) {
        return weights[transposed ? column * channels_in + in : in * columns + column];
      };
      float most = 0;
      for (std::int64_t in = 0; in < channels_in; ++in) most = std::max(most, std::abs(weight(in)));
      const float scale = most > 0 ? most / bytes::largest : 1.0F;
      std::int8_t* to = values + (column / block * channels_in * block + column % block * 4);
      std::int32_t sum = 0;
      for (std::int64_t in = 0; in < channels_in; ++in) {
        const auto value = static_cast<std::int8_t>(std::lrint(weight(in) / scale));
        to[in / 4 * 4 * block + in % 4] = value;
        sum += value;
      }
      scales[column] = scale;
      offsets[column] = -bytes::middle * sum;
    }
  });
}

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,fma")
namespace {

using projection::block;

inline __m512 value(__m512i products, float scale, const float* column_scales, const float* bias) {
  asm("" : "+v"(products));  // else GCC keeps every sum in memory, for the sake of this cast
  const __m512 by = _mm512_mul_ps(_mm512_loadu_ps(column_scales), _mm512_set1_ps(scale));
  return _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), by, _mm512_loadu_ps(bias));
}

class Bytes {
 public:
  using Element = std::uint8_t;
  using Weights = ProjectionInt8;
  struct Panel {
    const std::int8_t* weights;  // (channels / 4, 32, 4)
    const float *bias, *scales;
    const std::int32_t* offsets;
  };

  Bytes(const Projection& job, const Weights& weights, std::int64_t rows)
      : job_(job),
        weights_(weights),
        rows_(std::make_unique_for_overwrite<std::uint8_t[]>(static_cast<std::size_t>(rows * job.channels_in))),
        scales_(std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(rows))) {}

  void start_at(std::int64_t row) { start_ = row; }

  void prepare(std::int64_t begin, std::int64_t end) const {
    const bool norm = job_.norm != Projection::Norm::none;
    const auto room = std::make_unique_for_overwrite<Bf16[]>(static_cast<std::size_t>(norm ? job_.channels_in : 0));
    for (std::int64_t row = begin; row < end; ++row) {
      if (norm) projection::normalise(job_, row, room.get());
      const Bf16* values = norm ? room.get() : job_.input + row * job_.channels_in;
      scales_[static_cast<std::size_t>(row - start_)] =
          bytes::quantise(values, job_.channels_in, rows_.get() + (row - start_) * job_.channels_in);
    }
  }

  const std::uint8_t* rows(std::int64_t row) const { return rows_.get() + (row - start_) * job_.channels_in; }
  const float* scales(std::int64_t row) const { return scales_.get() + (row - start_); }
  Panel panel(std::int64_t column) const {
    return {weights_.values + column * job_.channels_in, job_.bias + column, weights_.scales + column,
            weights_.offsets + column};
  }

  template <int Rows, typename Finish>
  static void product(const std::uint8_t* rows, const float* scales, std::int64_t channels, const Panel& panel,
                      const Finish& finish) {
    __m512i sum[Rows][2];
    for (auto& row : sum) row[0] = _mm512_loadu_si512(panel.offsets), row[1] = _mm512_loadu_si512(panel.offsets + 16);
    bytes::add_products(rows, channels, panel.weights, channels / 4, sum);
#pragma GCC unroll 12
    for (int row = 0; row < Rows; ++row) {
      finish(row, 0, value(sum[row][0], scales[row], panel.scales, panel.bias));
      finish(row, 1, value(sum[row][1], scales[row], panel.scales + 16, panel.bias + 16));
    }
  }

 private:
  const Projection& job_;
  const Weights& weights_;
  std::unique_ptr<std::uint8_t[]> rows_;
  std::unique_ptr<float[]> scales_;
  std::int64_t start_ = 0;
};

}  // namespace

void project_int8(const Projection& job, const ProjectionInt8& weights, const Parallel& parallel) {
  projection::project<Bytes>(job, weights, parallel);
}
#pragma GCC pop_options
#else
void project_int8(const Projection&, const ProjectionInt8&, const Parallel&) {
  throw BackendError("this build has no code for AVX512-VNNI");
}
#endif

}  // namespace hoirt::cpu

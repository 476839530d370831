// Products of bfloat16.
#include "csrc/cpu/projection.h"

#include <memory>

#include "csrc/cpu/projection_rows.h"
#include "engine/error.h"

namespace hoirt::cpu {

// (columns / 32, channels_in / 2, 32, 2): what one product reads lies in a row, two inputs side by side.
void pack_projection(const float* weights, std::int64_t channels_in, std::int64_t columns, bool transposed, Bf16* packed,
                     const Parallel& parallel) {
  constexpr std::int64_t block = projection_channels;
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

using projection::block;

class Halves {
 public:
  using Element = Bf16;
  using Weights = const Bf16*;
  struct Panel {
    const Bf16* weights;  // (channels / 2, 32, 2)
    const float* bias;
  };

  Halves(const Projection& job, Weights weights, std::int64_t rows) : job_(job), weights_(weights) {
    if (job.norm == Projection::Norm::none) return;
    room_ = std::make_unique_for_overwrite<Bf16[]>(static_cast<std::size_t>(rows * job.channels_in));
  }

  void start_at(std::int64_t row) { start_ = row; }

  void prepare(std::int64_t begin, std::int64_t end) const {
    if (!room_) return;
    for (std::int64_t row = begin; row < end; ++row) {
      projection::normalise(job_, row, room_.get() + (row - start_) * job_.channels_in);
    }
  }

  // Without a norm they are read where they are.
  const Bf16* rows(std::int64_t row) const {
    return room_ ? room_.get() + (row - start_) * job_.channels_in : job_.input + row * job_.channels_in;
  }
  const float* scales(std::int64_t) const { return nullptr; }
  Panel panel(std::int64_t column) const { return {weights_ + column * job_.channels_in, job_.bias + column}; }

  template <int Rows, typename Finish>
  static void product(const Bf16* rows, const float*, std::int64_t channels, const Panel& panel, const Finish& finish) {
    __m512 sum[Rows][2];
    for (auto& row : sum) row[0] = _mm512_loadu_ps(panel.bias), row[1] = _mm512_loadu_ps(panel.bias + 16);
    lanes::add_products(rows, channels, panel.weights, channels / 2, sum);
#pragma GCC unroll 12
    for (int row = 0; row < Rows; ++row) finish(row, 0, sum[row][0]), finish(row, 1, sum[row][1]);
  }

 private:
  const Projection& job_;
  Weights weights_;
  std::int64_t start_ = 0;
  std::unique_ptr<Bf16[]> room_;
};

}  // namespace

void project(const Projection& job, const Bf16* weights, const Parallel& parallel) {
  projection::project<Halves>(job, weights, parallel);
}
#pragma GCC pop_options
#else
void project(const Projection&, const Bf16*, const Parallel&) {
  throw BackendError("this build has no code for AVX512-BF16");
}
#endif

}  // namespace hoirt::cpu

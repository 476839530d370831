// Winograd's convolution in int8: taps of the picture as unsigned bytes around 128, those of the weights signed.
#include "csrc/cpu/winograd_int8.h"

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "csrc/cpu/winograd_tiles.h"
#include "engine/error.h"

namespace hoirt::cpu {

using namespace winograd;

namespace {
using Plain = Tile<Two, Two>;
using Doubled = Tile<TwoOfDoubled, TwoOfDoubled>;
}  // namespace

// Values (16, channels_out / 32, channels_in / 4, 32, 4): what one product reads lies in a row, four inputs side by side.
void pack_winograd_int8(const float* weights, std::int64_t channels_out, std::int64_t channels_in, std::int8_t* values,
                        float* scales, std::int32_t* offsets, const Parallel& parallel) {
  const auto pack = [&](std::int64_t out, std::int64_t tap, std::vector<float>& row) {
    float most = 0;
    for (std::int64_t in = 0; in < channels_in; ++in) {
      row[static_cast<std::size_t>(in)] = Plain::of_kernel(weights + (out * channels_in + in) * 9, tap);
      most = std::max(most, std::abs(row[static_cast<std::size_t>(in)]));
    }
    const float scale = most > 0 ? most / bytes::largest : 1.0F;
    const std::int64_t panel = tap * (channels_out / block) + out / block;
    std::int32_t sum = 0;
    for (std::int64_t in = 0; in < channels_in; ++in) {
      const auto value = static_cast<std::int8_t>(std::lrint(row[static_cast<std::size_t>(in)] / scale));
      values[((panel * (channels_in / 4) + in / 4) * block + out % block) * 4 + in % 4] = value;
      sum += value;
    }
    scales[tap * channels_out + out] = scale;
    offsets[tap * channels_out + out] = -bytes::middle * sum;
  };
  parallel(channels_out, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> row(static_cast<std::size_t>(channels_in));
    for (std::int64_t out = begin; out < end; ++out) {
      for (std::int64_t tap = 0; tap < 16; ++tap) pack(out, tap, row);
    }
  });
}

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,fma")
namespace {

// The products of `Tiles` tiles with 32 output channels: (Tiles, 4 quads) times (quads, 32, 4).
struct Product {
  template <int Tiles>
  static void run(const std::uint8_t* tiles, std::int64_t stride, const std::int8_t* weights, const std::int32_t* offsets,
                  std::int64_t quads, std::int32_t* out) {
    __m512i sum[Tiles][2];
    for (auto& row : sum) {
      row[0] = _mm512_loadu_si512(offsets);
      row[1] = _mm512_loadu_si512(offsets + 16);
    }
    bytes::add_products(tiles, stride, weights, quads, sum);
#pragma GCC unroll 12
    for (int tile = 0; tile < Tiles; ++tile) {
      _mm512_storeu_si512(out + tile * block, sum[tile][0]);
      _mm512_storeu_si512(out + tile * block + 16, sum[tile][1]);
    }
  }
};
constexpr auto products = products_of<Product>(std::make_integer_sequence<int, most_tiles>());

template <typename TileOf>
class Bytes {
 public:
  using Tile = TileOf;
  using Sum = std::int32_t;
  using Weights = WinogradInt8;

  Bytes(const WinogradJob& job, const Source& source, const Weights& weights, std::int64_t together)
      : job_(job),
        tiles_(job, source),
        weights_(weights),
        together_(together),
        transformed_(
            std::make_unique_for_overwrite<std::uint8_t[]>(static_cast<std::size_t>(16 * together * job.channels_in))),
        scales_(static_cast<std::size_t>(16 * together)) {}

  void transform(std::int64_t first, std::int64_t begin, std::int64_t end) {
    const std::int64_t in = job_.channels_in;
    const auto taps = std::make_unique_for_overwrite<Bf16[]>(static_cast<std::size_t>(16 * in));
    for (std::int64_t i = begin; i < end; ++i) {
      tiles_.transform(first + i, taps.get(), in);
      for (std::int64_t tap = 0; tap < 16; ++tap) {
        if (Tile::is_zero(tap)) continue;
        scales_[static_cast<std::size_t>(i * 16 + tap)] =
            bytes::quantise(taps.get() + tap * in, in, transformed_.get() + (tap * together_ + i) * in);
      }
    }
  }

  void multiply(std::int64_t tap, std::int64_t at, std::int64_t slot, std::int64_t count, std::int32_t* sums) const {
    const std::int64_t in = job_.channels_in, out = job_.channels_out;
    products[static_cast<std::size_t>(count - 1)](transformed_.get() + (tap * together_ + slot) * in, in,
                                                  weights_.values + (tap * (out / block) + at) * in * block,
                                                  weights_.offsets + tap * out + at * block, in / 4, sums);
  }

  void finish(std::int64_t tile, std::int64_t slot, std::int64_t at, const std::int32_t* sums) const {
    const float* scales = scales_.data() + slot * 16;
    const float* weights = weights_.scales + at * block;
    tiles_.finish(tile, at * block, [&](std::int64_t tap, std::int64_t lane) {
      const __m512 sum = _mm512_cvtepi32_ps(_mm512_loadu_si512(sums + tap * task_tiles * block + lane));
      const __m512 scale = _mm512_mul_ps(_mm512_loadu_ps(weights + tap * job_.channels_out + lane), _mm512_set1_ps(scales[tap]));
      return _mm512_mul_ps(sum, scale);
    });
  }

 private:
  const WinogradJob& job_;
  Tiles<Tile> tiles_;
  Weights weights_;
  std::int64_t together_;
  std::unique_ptr<std::uint8_t[]> transformed_;  // (16, together, channels_in)
  std::vector<float> scales_;                    // (together, 16)
};

}  // namespace

void winograd_int8(const WinogradJob& job, const WinogradInt8& weights, const Parallel& parallel) {
  const auto run = job.doubled ? convolve<Bytes<Doubled>> : convolve<Bytes<Plain>>;
  run(job, 16 * job.channels_in, parallel, weights);
}
#pragma GCC pop_options
#else
void winograd_int8(const WinogradJob&, const WinogradInt8&, const Parallel&) {
  throw BackendError("this build has no code for AVX512-VNNI");
}
#endif

}  // namespace hoirt::cpu

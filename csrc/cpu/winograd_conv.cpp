// Winograd's convolution: transform the tiles of the picture, a matrix product for each tap, transform back.
#include "csrc/cpu/winograd_conv.h"

#include <memory>
#include <utility>

#include "csrc/cpu/winograd_tiles.h"
#include "engine/error.h"

namespace hoirt::cpu {

using namespace winograd;

namespace {

using Small = Tile<Two, Two>;
using Large = Tile<Four, Four>;
using Doubled = Tile<TwoOfDoubled, TwoOfDoubled>;

}  // namespace

std::size_t winograd_weight_count(std::int64_t channels_out, std::int64_t channels_in, std::int64_t tile) {
  return static_cast<std::size_t>(taps_of_tile(tile) * channels_out * channels_in);
}

// (taps, channels_out / 32, channels_in / 2, 32, 2): what one product reads lies in a row, two inputs side by side.
void pack_winograd_weights(const float* weights, std::int64_t channels_out, std::int64_t channels_in, std::int64_t tile,
                           Bf16* packed, const Parallel& parallel) {
  const auto tap_of = tile == 4 ? Large::of_kernel : Small::of_kernel;
  const auto pack = [&](std::int64_t out, std::int64_t in) {
    const float* kernel = weights + (out * channels_in + in) * 9;
    for (std::int64_t tap = 0; tap < taps_of_tile(tile); ++tap) {
      const std::int64_t panel = tap * (channels_out / block) + out / block;
      packed[((panel * (channels_in / 2) + in / 2) * block + out % block) * 2 + in % 2] = bf16_of(tap_of(kernel, tap));
    }
  };
  parallel(channels_out, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t out = begin; out < end; ++out) {
      for (std::int64_t in = 0; in < channels_in; ++in) pack(out, in);
    }
  });
}

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")
namespace {

// The products of `Tiles` tiles with 32 output channels: (Tiles, 2 pairs) times (pairs, 32, 2).
struct Product {
  template <int Tiles>
  static void run(const Bf16* tiles, std::int64_t stride, const Bf16* weights, std::int64_t pairs, float* out) {
    __m512 sum[Tiles][2];
    for (auto& row : sum) row[0] = row[1] = _mm512_setzero_ps();
    lanes::add_products(tiles, stride, weights, pairs, sum);
#pragma GCC unroll 12
    for (int tile = 0; tile < Tiles; ++tile) {
      _mm512_storeu_ps(out + tile * block, sum[tile][0]);
      _mm512_storeu_ps(out + tile * block + 16, sum[tile][1]);
    }
  }
};
constexpr auto products = products_of<Product>(std::make_integer_sequence<int, most_tiles>());

template <typename TileOf>
class Halves {
 public:
  using Tile = TileOf;
  using Sum = float;
  using Weights = const Bf16*;

  Halves(const WinogradJob& job, const Source& source, Weights weights, std::int64_t together)
      : job_(job),
        tiles_(job, source),
        weights_(weights),
        together_(together),
        transformed_(std::make_unique_for_overwrite<Bf16[]>(static_cast<std::size_t>(Tile::taps * together * job.channels_in))) {}

  void transform(std::int64_t first, std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      tiles_.transform(first + i, transformed_.get() + i * job_.channels_in, together_ * job_.channels_in);
    }
  }

  void multiply(std::int64_t tap, std::int64_t at, std::int64_t slot, std::int64_t count, float* sums) const {
    const std::int64_t in = job_.channels_in;
    products[static_cast<std::size_t>(count - 1)](transformed_.get() + (tap * together_ + slot) * in, in,
                                                  weights_ + (tap * (job_.channels_out / block) + at) * in * block, in / 2,
                                                  sums);
  }

  void finish(std::int64_t tile, std::int64_t, std::int64_t at, const float* sums) const {
    tiles_.finish(tile, at * block, [sums](std::int64_t tap, std::int64_t lane) {
      return _mm512_loadu_ps(sums + tap * task_tiles * block + lane);
    });
  }

 private:
  const WinogradJob& job_;
  Tiles<Tile> tiles_;
  Weights weights_;
  std::int64_t together_;
  std::unique_ptr<Bf16[]> transformed_;  // (taps, together, channels_in)
};

}  // namespace

void winograd_conv(const WinogradJob& job, const Bf16* weights, const Parallel& parallel) {
  const auto run = job.doubled ? convolve<Halves<Doubled>> : job.tile == 4 ? convolve<Halves<Large>> : convolve<Halves<Small>>;
  run(job, 2 * taps_of_tile(job.tile) * job.channels_in, parallel, weights);
}
#pragma GCC pop_options
#else
void winograd_conv(const WinogradJob&, const Bf16*, const Parallel&) {
  throw BackendError("this build has no code for AVX512-BF16");
}
#endif

}  // namespace hoirt::cpu

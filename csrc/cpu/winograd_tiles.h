// What Winograd's convolutions share, whatever numbers they multiply: tiles of a picture to 16 taps and back.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <utility>

#include "csrc/cpu/bf16.h"
#include "csrc/cpu/parallel.h"
#include "csrc/cpu/winograd_conv.h"
#include "csrc/cpu/winograd_source.h"

namespace hoirt::cpu::winograd {

constexpr std::int64_t block = winograd_channels;  // output channels that one product makes: two registers
constexpr int most_tiles = 12;                     // rows of one product: with two registers each, 24 of the 32
constexpr std::int64_t task_tiles = 48;            // tiles whose products lie in the second cache together
constexpr std::int64_t transformed_bytes = std::int64_t{5} << 20;  // of the picture, kept in the third cache

// Tap 4 * down + across of a 3x3 kernel.
inline float tap_of(const float* kernel, std::int64_t tap) {
  constexpr std::array<std::array<float, 3>, 4> to = {{{1, 0, 0}, {.5F, .5F, .5F}, {.5F, -.5F, .5F}, {0, 0, 1}}};
  const auto& down = to[static_cast<std::size_t>(tap / 4)];
  const auto& across = to[static_cast<std::size_t>(tap % 4)];
  float sum = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    sum += down[i] * (across[0] * kernel[3 * i] + across[1] * kernel[3 * i + 1] + across[2] * kernel[3 * i + 2]);
  }
  return sum;
}

// Of a doubled picture: the third of every four taps is a difference of equal pixels.
constexpr bool is_zero(bool doubled, std::int64_t tap) { return doubled && (tap / 4 == 2 || tap % 4 == 2); }

// Product::run<t> for t tiles, 1 .. most_tiles.
template <typename Product, int... Less>
constexpr auto products_of(std::integer_sequence<int, Less...>) {
  return std::array{Product::template run<Less + 1>...};
}

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")

// The tiles of 2x2 pixels of the output.
template <bool Doubled>
class Tiles {
 public:
  Tiles(const WinogradJob& job, const Source& source)
      : job_(job), source_(source), rows_((job.height + 1) / 2), columns_((job.width + 1) / 2) {}

  // The 4x4 pixels under a tile, transformed: tap t of channel c at to[t * stride + c]. Taps of zero are left out.
  void transform(std::int64_t tile, Bf16* to, std::int64_t stride) const {
    static constexpr Bf16 outside[16] = {};
    constexpr std::int64_t side = Doubled ? 3 : 4;  // pixels of the source under it
    const Corner corner = corner_of(tile);
    const std::int64_t top = Doubled ? corner.y / 2 : corner.y, left = Doubled ? corner.x / 2 : corner.x;
    const Bf16* pixel[side * side];
    for (std::int64_t i = 0; i < side * side; ++i) {
      const std::int64_t y = top + i / side - 1, x = left + i % side - 1;
      const bool inside = y >= 0 && x >= 0 && y < source_.height() && x < source_.width();
      pixel[i] = inside ? source_.pixel(corner.n, y, x) : nullptr;
    }
    for (std::int64_t channel = 0; channel < job_.channels_in; channel += 16) {
      __m512 d[4][4];
#pragma GCC unroll 16
      for (int i = 0; i < side * side; ++i) {
        d[i / side][i % side] = lanes::load(pixel[i] ? pixel[i] + channel : outside);
      }
#pragma GCC unroll 4
      for (int x = 0; x < side; ++x) forward(d[0][x], d[1][x], d[2][x], d[3][x]);
#pragma GCC unroll 4
      for (int y = 0; y < 4; ++y) {
        if (is_zero(Doubled, 4 * y)) continue;
        forward(d[y][0], d[y][1], d[y][2], d[y][3]);
#pragma GCC unroll 4
        for (int x = 0; x < 4; ++x) {
          if (!is_zero(Doubled, x)) lanes::store(to + (4 * y + x) * stride + channel, d[y][x]);
        }
      }
    }
  }

  // The pixels of a tile for the 32 output channels from `channel`; product(tap, lane) are 16 of its products.
  template <typename Product>
  void finish(std::int64_t tile, std::int64_t channel, const Product& product) const {
    const Corner corner = corner_of(tile);
    const float* biases = job_.bias + (job_.bias_per_item ? corner.n * job_.channels_out : 0) + channel;
    for (std::int64_t lane = 0; lane < block; lane += 16) {
      const __m512 bias = _mm512_loadu_ps(biases + lane);
      __m512 m[4][4];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) m[i / 4][i % 4] = is_zero(Doubled, i) ? _mm512_setzero_ps() : product(i, lane);
#pragma GCC unroll 4
      for (int x = 0; x < 4; ++x) backward(m[0][x], m[1][x], m[2][x], m[3][x]);
      for (int y = 0; y < 2; ++y) {
        backward(m[y][0], m[y][1], m[y][2], m[y][3]);
        for (int x = 0; x < 2; ++x) {
          if (corner.y + y >= job_.height || corner.x + x >= job_.width) continue;
          const std::int64_t pixel = (corner.n * job_.height + corner.y + y) * job_.width + corner.x + x;
          const std::int64_t at = pixel * job_.channels_out + channel + lane;
          __m512 sum = _mm512_add_ps(m[y][x], bias);
          if (job_.residual) sum = _mm512_add_ps(sum, lanes::load(job_.residual + at));
          lanes::store(job_.output + at, sum);
        }
      }
    }
  }

 private:
  struct Corner {
    std::int64_t n, y, x;
  };

  Corner corner_of(std::int64_t tile) const {
    return {tile / (rows_ * columns_), tile / columns_ % rows_ * 2, tile % columns_ * 2};
  }

  // Of a doubled picture a, b, c stand for the pixels a, b, b, c.
  static void forward(__m512& a, __m512& b, __m512& c, __m512& d) {
    if constexpr (Doubled) {
      const __m512 first = _mm512_sub_ps(a, b);
      d = _mm512_sub_ps(b, c);
      a = first, b = _mm512_add_ps(b, b);
    } else {
      const __m512 first = _mm512_sub_ps(a, c), second = _mm512_add_ps(b, c), third = _mm512_sub_ps(c, b);
      d = _mm512_sub_ps(b, d);
      a = first, b = second, c = third;
    }
  }

  static void backward(__m512& a, __m512& b, const __m512& c, const __m512& d) {
    a = _mm512_add_ps(_mm512_add_ps(a, b), c);
    b = _mm512_sub_ps(_mm512_sub_ps(b, c), d);
  }

  const WinogradJob& job_;
  const Source& source_;
  std::int64_t rows_, columns_;
};

#pragma GCC pop_options
#endif

// Transforms, multiplies and finishes all tiles, as many at once as the third cache holds: of `tile_bytes` each, when
// transformed. A Kind knows the numbers, what it sums in and its Weights: transform(first tile, slots begin .. end),
// multiply(tap, block, slot, count, sums), finish(tile, slot, block, sums). Slots count the transformed tiles that are kept;
// tap t of the sums lies at t * task_tiles * block.
template <typename Kind>
void convolve(const WinogradJob& job, std::int64_t tile_bytes, const Parallel& parallel,
              const typename Kind::Weights& weights) {
  const std::int64_t tiles = job.batch * ((job.height + 1) / 2) * ((job.width + 1) / 2);
  const std::int64_t together = std::min(std::max(task_tiles, transformed_bytes / tile_bytes / task_tiles * task_tiles), tiles);
  const std::int64_t blocks = job.channels_out / block;
  Source source(job, together);
  Kind kind(job, source, weights, together);
  for (std::int64_t first = 0; first < tiles; first += together) {
    const std::int64_t count = std::min(together, tiles - first);
    source.prepare(first, count, parallel);
    parallel(count, [&](std::int64_t begin, std::int64_t end) { kind.transform(first, begin, end); });
    const std::int64_t parts = (count + task_tiles - 1) / task_tiles;
    // Parts of one block of channels follow each other, so its weights stay in the cache.
    parallel(parts * blocks, [&](std::int64_t begin, std::int64_t end) {
      const auto sums = std::make_unique_for_overwrite<typename Kind::Sum[]>(16 * task_tiles * block);
      for (std::int64_t task = begin; task < end; ++task) {
        const std::int64_t at = task / parts, start = task % parts * task_tiles;
        const std::int64_t some = std::min(task_tiles, count - start);
        for (std::int64_t tap = 0; tap < 16; ++tap) {
          if (is_zero(job.doubled, tap)) continue;
          for (std::int64_t tile = 0; tile < some; tile += most_tiles) {
            kind.multiply(tap, at, start + tile, std::min<std::int64_t>(most_tiles, some - tile),
                          sums.get() + (tap * task_tiles + tile) * block);
          }
        }
        for (std::int64_t i = 0; i < some; ++i) kind.finish(first + start + i, start + i, at, sums.get() + i * block);
      }
    });
  }
}

}  // namespace hoirt::cpu::winograd

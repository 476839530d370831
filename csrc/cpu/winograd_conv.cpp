// Winograd's convolution: transform the tiles of the picture, 16 matrix products, transform back.
#include "csrc/cpu/winograd_conv.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "engine/error.h"

namespace hoirt::cpu {
namespace {

constexpr std::int64_t block = winograd_channels;  // output channels that one product makes: two registers
constexpr int most_tiles = 12;                     // rows of one product: with two registers each, 24 of the 32
constexpr std::int64_t task_tiles = 48;            // tiles whose products lie in the second cache together
constexpr std::int64_t transformed_bytes = std::int64_t{5} << 20;  // of the picture, kept in the third cache

constexpr std::array<std::array<float, 3>, 4> kernel_transform = {{{1, 0, 0}, {.5F, .5F, .5F}, {.5F, -.5F, .5F}, {0, 0, 1}}};

}  // namespace

std::size_t winograd_weight_count(std::int64_t channels_out, std::int64_t channels_in) {
  return static_cast<std::size_t>(16 * channels_out * channels_in);
}

// (16, channels_out / 32, channels_in / 2, 32, 2): what one product reads lies in a row, two inputs side by side.
void pack_winograd_weights(const float* weights, std::int64_t channels_out, std::int64_t channels_in, Bf16* packed,
                           const Parallel& parallel) {
  const auto pack = [&](std::int64_t out, std::int64_t in) {
    const float* kernel = weights + (out * channels_in + in) * 9;
    for (std::int64_t tap = 0; tap < 16; ++tap) {
      const auto& down = kernel_transform[static_cast<std::size_t>(tap / 4)];
      const auto& across = kernel_transform[static_cast<std::size_t>(tap % 4)];
      float sum = 0;
      for (std::size_t i = 0; i < 3; ++i) {
        sum += down[i] * (across[0] * kernel[3 * i] + across[1] * kernel[3 * i + 1] + across[2] * kernel[3 * i + 2]);
      }
      const std::int64_t panel = tap * (channels_out / block) + out / block;
      packed[((panel * (channels_in / 2) + in / 2) * block + out % block) * 2 + in % 2] = bf16_of(sum);
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
template <int Tiles>
void product(const Bf16* tiles, std::int64_t stride, const Bf16* weights, std::int64_t pairs, float* out) {
  __m512 sum[Tiles][2];
  for (auto& row : sum) row[0] = row[1] = _mm512_setzero_ps();
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    const __m512bh low = lanes::load_pairs(weights + 2 * block * pair);
    const __m512bh high = lanes::load_pairs(weights + 2 * block * pair + block);
#pragma GCC unroll 12
    for (int tile = 0; tile < Tiles; ++tile) {
      const __m512bh two = lanes::broadcast_pair(tiles + tile * stride + 2 * pair);
      sum[tile][0] = _mm512_dpbf16_ps(sum[tile][0], two, low);
      sum[tile][1] = _mm512_dpbf16_ps(sum[tile][1], two, high);
    }
  }
#pragma GCC unroll 12
  for (int tile = 0; tile < Tiles; ++tile) {
    _mm512_storeu_ps(out + tile * block, sum[tile][0]);
    _mm512_storeu_ps(out + tile * block + 16, sum[tile][1]);
  }
}

using Product = void (*)(const Bf16*, std::int64_t, const Bf16*, std::int64_t, float*);

template <int... Less>
constexpr std::array<Product, sizeof...(Less)> products_of(std::integer_sequence<int, Less...>) {
  return {product<Less + 1>...};
}
constexpr auto products = products_of(std::make_integer_sequence<int, most_tiles>());  // [t - 1]: of t tiles

class Tiles {
 public:
  explicit Tiles(const WinogradConv& conv) : conv_(conv), rows_((conv.height + 1) / 2), columns_((conv.width + 1) / 2) {}

  std::int64_t count() const { return conv_.batch * rows_ * columns_; }

  // The 4x4 pixels under a tile, transformed: tap t of channel c at to[t * stride + c].
  void transform(std::int64_t tile, Bf16* to, std::int64_t stride) const {
    static constexpr Bf16 outside[16] = {};
    const Corner corner = corner_of(tile);
    const Bf16* pixel[16];
    for (std::int64_t i = 0; i < 16; ++i) pixel[i] = pixel_at(corner, i / 4 - 1, i % 4 - 1);
    for (std::int64_t channel = 0; channel < conv_.channels_in; channel += 16) {
      __m512 d[4][4];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) d[i / 4][i % 4] = lanes::load(pixel[i] ? pixel[i] + channel : outside);
#pragma GCC unroll 4
      for (int x = 0; x < 4; ++x) forward(d[0][x], d[1][x], d[2][x], d[3][x]);
#pragma GCC unroll 4
      for (int y = 0; y < 4; ++y) {
        forward(d[y][0], d[y][1], d[y][2], d[y][3]);
#pragma GCC unroll 4
        for (int x = 0; x < 4; ++x) lanes::store(to + (4 * y + x) * stride + channel, d[y][x]);
      }
    }
  }

  // The 2x2 pixels of a tile for 32 output channels, from the products: tap t at products[t * task_tiles * 32].
  void finish(std::int64_t tile, const float* products_of_tile, std::int64_t channel) const {
    const Corner corner = corner_of(tile);
    for (std::int64_t half = 0; half < block; half += 16) {
      const __m512 bias = _mm512_loadu_ps(conv_.bias + channel + half);
      __m512 m[4][4];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) m[i / 4][i % 4] = _mm512_loadu_ps(products_of_tile + i * task_tiles * block + half);
#pragma GCC unroll 4
      for (int x = 0; x < 4; ++x) backward(m[0][x], m[1][x], m[2][x], m[3][x]);
      for (int y = 0; y < 2; ++y) {
        backward(m[y][0], m[y][1], m[y][2], m[y][3]);
        for (int x = 0; x < 2; ++x) {
          if (corner.y + y >= conv_.height || corner.x + x >= conv_.width) continue;
          const std::int64_t at = (corner.n * conv_.height + corner.y + y) * conv_.width + corner.x + x;
          lanes::store(conv_.output + at * conv_.channels_out + channel + half, _mm512_add_ps(m[y][x], bias));
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

  // Null outside of the picture.
  const Bf16* pixel_at(const Corner& corner, std::int64_t down, std::int64_t right) const {
    const std::int64_t y = corner.y + down, x = corner.x + right;
    if (y < 0 || x < 0 || y >= conv_.height || x >= conv_.width) return nullptr;
    return conv_.input + ((corner.n * conv_.height + y) * conv_.width + x) * conv_.channels_in;
  }

  static void forward(__m512& a, __m512& b, __m512& c, __m512& d) {
    const __m512 first = _mm512_sub_ps(a, c), second = _mm512_add_ps(b, c), third = _mm512_sub_ps(c, b);
    d = _mm512_sub_ps(b, d);
    a = first, b = second, c = third;
  }

  static void backward(__m512& a, __m512& b, const __m512& c, const __m512& d) {
    a = _mm512_add_ps(_mm512_add_ps(a, b), c);
    b = _mm512_sub_ps(_mm512_sub_ps(b, c), d);
  }

  const WinogradConv& conv_;
  std::int64_t rows_, columns_;
};

}  // namespace

void winograd_conv(const WinogradConv& conv, const Parallel& parallel) {
  const Tiles tiles(conv);
  const std::int64_t in = conv.channels_in, blocks = conv.channels_out / block, all = tiles.count();
  const std::int64_t fitting = transformed_bytes / (32 * in) / task_tiles * task_tiles;
  const std::int64_t together = std::min(std::max(task_tiles, fitting), all);
  const std::int64_t stride = together * in;  // of a tap
  const auto transformed = std::make_unique_for_overwrite<Bf16[]>(static_cast<std::size_t>(16 * stride));
  for (std::int64_t first = 0; first < all; first += together) {
    const std::int64_t count = std::min(together, all - first);
    parallel(count, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) tiles.transform(first + i, transformed.get() + i * in, stride);
    });
    const std::int64_t parts = (count + task_tiles - 1) / task_tiles;
    // Parts of one block of channels follow each other, so its weights stay in the cache.
    parallel(parts * blocks, [&](std::int64_t begin, std::int64_t end) {
      const auto sums = std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(16 * task_tiles * block));
      for (std::int64_t task = begin; task < end; ++task) {
        const std::int64_t at = task / parts, start = task % parts * task_tiles;
        const std::int64_t some = std::min(task_tiles, count - start);
        for (std::int64_t tap = 0; tap < 16; ++tap) {
          const Bf16* weights = conv.weights + (tap * blocks + at) * in * block;
          for (std::int64_t tile = 0; tile < some; tile += most_tiles) {
            const auto rows = static_cast<std::size_t>(std::min<std::int64_t>(most_tiles, some - tile));
            products[rows - 1](transformed.get() + tap * stride + (start + tile) * in, in, weights, in / 2,
                               sums.get() + (tap * task_tiles + tile) * block);
          }
        }
        for (std::int64_t i = 0; i < some; ++i) tiles.finish(first + start + i, sums.get() + i * block, at * block);
      }
    });
  }
}
#pragma GCC pop_options
#else
void winograd_conv(const WinogradConv&, const Parallel&) {
  throw BackendError("this build has no code for AVX512-BF16");
}
#endif

}  // namespace hoirt::cpu

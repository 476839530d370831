// What Winograd's convolutions share, whatever numbers they multiply: tiles of a picture to taps and back.
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
#include "csrc/cpu/winograd_transforms.h"

namespace hoirt::cpu::winograd {

constexpr std::int64_t block = winograd_channels;  // output channels that one product makes: two registers
constexpr int most_tiles = 12;                     // rows of one product: with two registers each, 24 of the 32
constexpr std::int64_t task_tiles = 48;            // tiles whose products lie in the second cache together
constexpr std::int64_t transformed_bytes = std::int64_t{5} << 20;  // of the picture, kept in the third cache

// A tile of a picture: what the transforms make of its rows, and across them. Tap down * Row::taps + across.
template <typename ColumnTransform, typename RowTransform>
struct Tile {
  using Column = ColumnTransform;
  using Row = RowTransform;
  static constexpr std::int64_t taps = Column::taps * Row::taps, height = Column::pixels_out, width = Row::pixels_out;
  static constexpr bool is_zero(std::int64_t tap) { return Column::is_zero(tap / Row::taps) || Row::is_zero(tap % Row::taps); }

  // One tap of a 3x3 kernel.
  static float of_kernel(const float* kernel, std::int64_t tap) {
    const auto& down = Column::weights[static_cast<std::size_t>(tap / Row::taps)];
    const auto& across = Row::weights[static_cast<std::size_t>(tap % Row::taps)];
    float sum = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      sum += down[i] * (across[0] * kernel[3 * i] + across[1] * kernel[3 * i + 1] + across[2] * kernel[3 * i + 2]);
    }
    return sum;
  }
};

// Product::run<t> for t tiles, 1 .. most_tiles.
template <typename Product, int... Less>
constexpr auto products_of(std::integer_sequence<int, Less...>) {
  return std::array{Product::template run<Less + 1>...};
}

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")

// Tiles of pixels of the output.
template <typename Tile>
class Tiles {
 public:
  Tiles(const WinogradJob& job, const Source& source)
      : job_(job), source_(source), rows_(tiles_of(job.height, Tile::height)), columns_(tiles_of(job.width, Tile::width)) {}

  // The pixels under a tile, transformed: tap t of channel c at to[t * stride + c]. Taps of zero are left out.
  void transform(std::int64_t tile, Bf16* to, std::int64_t stride) const {
    using Column = typename Tile::Column;
    using Row = typename Tile::Row;
    static constexpr Bf16 outside[16] = {};
    constexpr std::int64_t high = Column::pixels_in, wide = Row::pixels_in;
    const Corner corner = corner_of(tile);
    const std::int64_t top = corner.row * Column::step - 1, left = corner.column * Row::step - 1;
    const Bf16* pixel[high * wide];
    for (std::int64_t i = 0; i < high * wide; ++i) {
      const std::int64_t y = top + i / wide, x = left + i % wide;
      const bool inside = y >= 0 && x >= 0 && y < source_.height() && x < source_.width();
      pixel[i] = inside ? source_.pixel(corner.n, y, x) : nullptr;
    }
    for (std::int64_t channel = 0; channel < job_.channels_in; channel += 16) {
      __m512 d[Column::taps * Row::taps];
#pragma GCC unroll 6
      for (std::int64_t x = 0; x < wide; ++x) {
#pragma GCC unroll 6
        for (std::int64_t y = 0; y < high; ++y) {
          const Bf16* at = pixel[y * wide + x];
          d[y * Row::taps + x] = lanes::load(at ? at + channel : outside);
        }
        forward<Row::taps>(Column{}, d + x);
      }
#pragma GCC unroll 6
      for (std::int64_t y = 0; y < Column::taps; ++y) {
        if (Column::is_zero(y)) continue;
        forward<1>(Row{}, d + y * Row::taps);
#pragma GCC unroll 6
        for (std::int64_t tap = y * Row::taps; tap < (y + 1) * Row::taps; ++tap) {
          if (!Tile::is_zero(tap)) lanes::store(to + tap * stride + channel, d[tap]);
        }
      }
    }
  }

  // The pixels of a tile for the 32 output channels from `channel`; product(tap, lane) are 16 of its products.
  template <typename Product>
  void finish(std::int64_t tile, std::int64_t channel, const Product& product) const {
    using Column = typename Tile::Column;
    using Row = typename Tile::Row;
    const Corner corner = corner_of(tile);
    const std::int64_t top = corner.row * Tile::height, left = corner.column * Tile::width;
    const float* biases = job_.bias + (job_.bias_per_item ? corner.n * job_.channels_out : 0) + channel;
    for (std::int64_t lane = 0; lane < block; lane += 16) {
      const __m512 bias = _mm512_loadu_ps(biases + lane);
      __m512 m[Tile::taps];
#pragma GCC unroll 6
      for (std::int64_t x = 0; x < Row::taps; ++x) {
        if (Row::is_zero(x)) continue;
#pragma GCC unroll 6
        for (std::int64_t tap = x; tap < Tile::taps; tap += Row::taps) {
          if (!Tile::is_zero(tap)) m[tap] = product(tap, lane);
        }
        backward<Row::taps>(Column{}, m + x);
      }
#pragma GCC unroll 4
      for (std::int64_t y = 0; y < Tile::height; ++y) {
        if (top + y >= job_.height) break;
        __m512* row = m + y * Row::taps;
        backward<1>(Row{}, row);
#pragma GCC unroll 4
        for (std::int64_t x = 0; x < Tile::width; ++x) {
          if (left + x >= job_.width) break;
          const std::int64_t pixel = (corner.n * job_.height + top + y) * job_.width + left + x;
          const std::int64_t at = pixel * job_.channels_out + channel + lane;
          __m512 sum = _mm512_add_ps(row[x], bias);
          if (job_.residual) sum = _mm512_add_ps(sum, lanes::load(job_.residual + at));
          lanes::store(job_.output + at, sum);
        }
      }
    }
  }

 private:
  struct Corner {
    std::int64_t n, row, column;
  };

  Corner corner_of(std::int64_t tile) const { return {tile / (rows_ * columns_), tile / columns_ % rows_, tile % columns_}; }

  const WinogradJob& job_;
  const Source& source_;
  std::int64_t rows_, columns_;
};

#pragma GCC pop_options
#endif

// Transforms, multiplies and finishes all tiles, as many at once as the third cache holds: of `tile_bytes` each, when
// transformed. A Kind knows the Tile and its numbers, what it sums in and its Weights: transform(first tile, slots begin ..
// end), multiply(tap, block, slot, count, sums), finish(tile, slot, block, sums). Slots count the transformed tiles that are
// kept; tap t of the sums lies at t * task_tiles * block.
template <typename Kind>
void convolve(const WinogradJob& job, std::int64_t tile_bytes, const Parallel& parallel,
              const typename Kind::Weights& weights) {
  using Tile = typename Kind::Tile;
  const std::int64_t tiles = job.batch * tiles_of(job.height, Tile::height) * tiles_of(job.width, Tile::width);
  const std::int64_t together = std::min(std::max(task_tiles, transformed_bytes / tile_bytes / task_tiles * task_tiles), tiles);
  const std::int64_t blocks = job.channels_out / block;
  Source source(job, {Tile::height, Tile::width, Tile::Column::pixels_in, Tile::Column::step}, together);
  Kind kind(job, source, weights, together);
  for (std::int64_t first = 0; first < tiles; first += together) {
    const std::int64_t count = std::min(together, tiles - first);
    source.prepare(first, count, parallel);
    parallel(count, [&](std::int64_t begin, std::int64_t end) { kind.transform(first, begin, end); });
    const std::int64_t parts = (count + task_tiles - 1) / task_tiles;
    // Parts of one block of channels follow each other, so its weights stay in the cache.
    parallel(parts * blocks, [&](std::int64_t begin, std::int64_t end) {
      const auto sums = std::make_unique_for_overwrite<typename Kind::Sum[]>(Tile::taps * task_tiles * block);
      for (std::int64_t task = begin; task < end; ++task) {
        const std::int64_t at = task / parts, start = task % parts * task_tiles;
        const std::int64_t some = std::min(task_tiles, count - start);
        for (std::int64_t tap = 0; tap < Tile::taps; ++tap) {
          if (Tile::is_zero(tap)) continue;
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

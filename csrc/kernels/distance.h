// Euclidean distance to the nearest pixel of a mask, exact up to a radius: the nearest one of each column, then the
// smallest dx^2 + dy^2 of each row. And what is made of it: a mask that is grown, an edge that is soft.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

constexpr std::int64_t most_distance_extent = 1 << 14;
constexpr std::int32_t out_of_reach = 1 << 30;  // more than the squares of two such extents add up to

// Which pixels the distance is measured to, and how far.
struct NearestPixel {
  const std::uint8_t* mask = nullptr;  // (height, width)
  std::int64_t height = 0, width = 0;
  std::int32_t radius = 0;
  bool set = true;      // to pixels that are not 0, else to those that are
  bool border = false;  // whether what lies beyond the picture is as near as a pixel there

  HOIRT_HD bool hit(std::int64_t row, std::int64_t column) const {
    return row < 0 || row >= height ? border : (mask[row * width + column] != 0) == set;
  }
  HOIRT_HD bool inside(std::int64_t row, std::int64_t margin) const { return row >= -margin && row < height + margin; }
};

// The square of the distance along a pixel's own column.
struct ColumnDistance {
  NearestPixel nearest;
  std::int32_t* squares = nullptr;  // (height, width)

  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    std::int32_t found = out_of_reach;
    for (std::int32_t step = 0; step <= nearest.radius; ++step) {
      if (!nearest.inside(row - step, 1) && !nearest.inside(row + step, 1)) break;
      if (nearest.hit(row - step, column) || nearest.hit(row + step, column)) {
        found = step * step;
        break;
      }
    }
    squares[row * nearest.width + column] = found;
  }
};

// What becomes of the square of a distance.
struct AsDistance {
  using T = float;
  float far = 0;  // what stands for more than the radius
  HOIRT_HD T operator()(std::int32_t square) const {
    const float root = std::sqrt(static_cast<float>(square));
    return square == out_of_reach ? far : root;
  }
};
struct AsGrown {
  using T = std::uint8_t;
  std::int32_t most = 0;  // the square of the radius, which is less than out_of_reach
  HOIRT_HD T operator()(std::int32_t square) const { return square <= most; }
};
struct AsOpacity {
  using T = float;
  float rise = 1;  // pixels over which it rises from 0 to 1
  HOIRT_HD T operator()(std::int32_t square) const {
    const float ramp = std::sqrt(static_cast<float>(square)) / rise;
    const float part = ramp < 1.0F && square != out_of_reach ? ramp : 1.0F;
    return part * part * (3.0F - 2.0F * part);
  }
};

// Along a row, from the squares of the columns.
template <typename As>
struct RowDistance {
  NearestPixel nearest;
  const std::int32_t* squares = nullptr;  // (height, width)
  typename As::T* out = nullptr;          // (height, width)
  As as;

  // The smallest square of a pixel; beyond the picture nothing but its border is near.
  HOIRT_HD std::int32_t smallest(std::int64_t row, std::int64_t column) const {
    const std::int32_t* line = squares + row * nearest.width;
    std::int32_t best = line[column];
    for (std::int32_t step = 1; step <= nearest.radius && step * step < best; ++step) {
      const std::int64_t left = column - step, right = column + step;
      if (left < -1 && right > nearest.width) break;
      const std::int32_t square = step * step;
      if (left >= 0 && line[left] + square < best) best = line[left] + square;
      if (right < nearest.width && line[right] + square < best) best = line[right] + square;
      if (nearest.border && (left == -1 || right == nearest.width) && square < best) best = square;
    }
    return best;
  }
  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    out[row * nearest.width + column] = as(smallest(row, column));
  }
};

}  // namespace hoirt::kernels

// Colour match: what the autoencoder shifts around the hole is taken back, smoothly into the hole. Differences of kept
// pixels are averaged over cells, continued from coarser and coarser levels (push and pull), and added.
#pragma once

#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

constexpr int colour_cell = 4;  // pixels: finer differences are texture, not a shift of colours

// A level: sums of differences times what is known of a cell, and that share, both as means over the cell.
struct ColourLevel {
  float* shift = nullptr;   // (height, width, 3)
  float* weight = nullptr;  // (height, width)
  std::int64_t height = 0, width = 0;
};

// The finest level, from pictures.
struct ColourCells {
  const float* colours = nullptr;           // (height, width, 3), 0..255
  const std::uint8_t* original = nullptr;   // (height, width, 3)
  const std::uint8_t* hole = nullptr;       // (height, width), not 0 in the hole
  std::int64_t height = 0, width = 0;
  ColourLevel to;

  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    float sum[3] = {}, known = 0;
    for (std::int64_t y = row * colour_cell; y < (row + 1) * colour_cell && y < height; ++y) {
      for (std::int64_t x = column * colour_cell; x < (column + 1) * colour_cell && x < width; ++x) {
        const std::int64_t pixel = y * width + x;
        if (hole[pixel]) continue;
        known += 1.0F;
        for (int c = 0; c < 3; ++c) sum[c] += static_cast<float>(original[3 * pixel + c]) - colours[3 * pixel + c];
      }
    }
    constexpr float all = colour_cell * colour_cell;
    const std::int64_t cell = row * to.width + column;
    for (int c = 0; c < 3; ++c) to.shift[3 * cell + c] = sum[c] / all;
    to.weight[cell] = known / all;
  }
};

// The next coarser level: means over two by two cells; what lies outside counts as nothing.
struct ColourCoarser {
  ColourLevel from, to;

  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    float sum[3] = {}, weight = 0;
    for (std::int64_t y = 2 * row; y < 2 * row + 2 && y < from.height; ++y) {
      for (std::int64_t x = 2 * column; x < 2 * column + 2 && x < from.width; ++x) {
        const std::int64_t cell = y * from.width + x;
        for (int c = 0; c < 3; ++c) sum[c] += from.shift[3 * cell + c];
        weight += from.weight[cell];
      }
    }
    const std::int64_t cell = row * to.width + column;
    for (int c = 0; c < 3; ++c) to.shift[3 * cell + c] = sum[c] / 4.0F;
    to.weight[cell] = weight / 4.0F;
  }
};

// Weighted means where there is weight, elsewhere those of the coarser level, which `below` is stretched to this size.
struct ColourPull {
  ColourLevel level;             // `shift` becomes the means
  const float* below = nullptr;  // (height, width, 3), null for the coarsest level

  HOIRT_HD void operator()(std::int64_t cell) const {
    const float weight = level.weight[cell];
    const float trust = weight < 1.0F ? weight : 1.0F;
    for (int c = 0; c < 3; ++c) {
      float& shift = level.shift[3 * cell + c];
      const float mean = shift / (weight > 1e-6F ? weight : 1e-6F);
      shift = below ? trust * mean + (1.0F - trust) * below[3 * cell + c] : mean;
    }
  }
};

// Adds the finest level, stretched to the picture's size, where any pixel was kept.
struct ColourAdd {
  const float* colours = nullptr;  // (size,)
  const float* shift = nullptr;    // (size,)
  const float* known = nullptr;    // the coarsest level's weight: 0 if no pixel was kept
  float* out = nullptr;            // may be `colours`

  HOIRT_HD void operator()(std::int64_t i) const {
    if (!(*known > 0.0F)) {
      out[i] = colours[i];
      return;
    }
    const float value = colours[i] + shift[i];
    out[i] = value < 0.0F ? 0.0F : value > 255.0F ? 255.0F : value;
  }
};

}  // namespace hoirt::kernels

// Colour match: what the autoencoder shifts around the hole is taken back, smoothly into the hole. Differences of kept
// pixels are averaged over cells, continued from coarser and coarser levels (push and pull), and added.
#pragma once

#include <cstdint>

#include "csrc/kernels/host_device.h"
#include "csrc/kernels/spans.h"

namespace hoirt::kernels {

constexpr int colour_cell = 4;  // pixels: finer differences are texture, not a shift of colours

// A level: sums of differences times what is known of a cell, and that share, both as means over the cell.
struct ColourLevel {
  float* shift = nullptr;   // (height, width, 3)
  float* weight = nullptr;  // (height, width)
  std::int64_t height = 0, width = 0;
};

// The finest level, from pictures. `wide` reads a cell's rows as wide as they allow.
struct ColourCells {
  const float* colours = nullptr;           // (height, width, 3), 0..255
  const std::uint8_t* original = nullptr;   // (height, width, 3)
  const std::uint8_t* hole = nullptr;       // (height, width), not 0 in the hole
  std::int64_t height = 0, width = 0;
  ColourLevel to;

  template <bool wide = false>
  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    float sum[3] = {}, known = 0;
    for (std::int64_t y = row * colour_cell; y < (row + 1) * colour_cell && y < height; ++y) {
      if constexpr (wide) {
        const std::int64_t x = column * colour_cell, pixel = y * width + x;
        const int count = width - x < colour_cell ? static_cast<int>(width - x) : colour_cell;
        std::uint8_t in_hole[colour_cell] = {}, bytes[3 * colour_cell] = {};
        float values[3 * colour_cell] = {};
        load<colour_cell>(hole + pixel, count, in_hole);
        load<3 * colour_cell>(original + 3 * pixel, 3 * count, bytes);
        load<3 * colour_cell>(colours + 3 * pixel, 3 * count, values);
        HOIRT_UNROLL
        for (int k = 0; k < colour_cell; ++k) {
          if (k < count && !in_hole[k]) add(bytes + 3 * k, values + 3 * k, sum, known);
        }
      } else {
        for (std::int64_t x = column * colour_cell; x < (column + 1) * colour_cell && x < width; ++x) {
          const std::int64_t pixel = y * width + x;
          if (!hole[pixel]) add(original + 3 * pixel, colours + 3 * pixel, sum, known);
        }
      }
    }
    constexpr float all = colour_cell * colour_cell;
    const std::int64_t cell = row * to.width + column;
    for (int c = 0; c < 3; ++c) to.shift[3 * cell + c] = sum[c] / all;
    to.weight[cell] = known / all;
  }
  HOIRT_HD static void add(const std::uint8_t* bytes, const float* values, float* sum, float& known) {
    known += 1.0F;
    for (int c = 0; c < 3; ++c) sum[c] += static_cast<float>(bytes[c]) - values[c];
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
    for (int c = 0; c < 3; ++c) {
      float& shift = level.shift[3 * cell + c];
      shift = pulled(shift, weight, below ? below[3 * cell + c] : 0.0F);
    }
  }
  HOIRT_HD float pulled(float shift, float weight, float coarser) const {
    const float trust = weight < 1.0F ? weight : 1.0F;
    const float mean = shift / (weight > 1e-6F ? weight : 1e-6F);
    return below ? trust * mean + (1.0F - trust) * coarser : mean;
  }

  // The same in spans of cells.
  using Written = Spans<float, 3>;
  HOIRT_HD std::int64_t row_count() const { return 1; }
  HOIRT_HD std::int64_t row_size() const { return level.height * level.width; }
  HOIRT_HD void write(std::int64_t, std::int64_t i) const {
    const Span part = Written::at(level.shift, row_size(), i);
    float shift[Written::elements] = {}, coarser[Written::elements] = {}, weight[Written::width] = {};
    Written::load(level.shift, part, shift);
    Reader<float>(level.weight, row_size()).run<Written::width>(level.weight + part.first, part.count, weight);
    if (below) {
      Reader<float>(below, 3 * row_size()).run<Written::elements>(below + 3 * part.first, 3 * part.count, coarser);
    }
    HOIRT_UNROLL
    for (int k = 0; k < Written::elements; ++k) shift[k] = pulled(shift[k], weight[k / 3], coarser[k]);
    Written::store(level.shift, part, shift);
  }
};

// Adds the finest level, stretched to the picture's size, where any pixel was kept.
struct ColourAdd {
  const float* colours = nullptr;  // (size,)
  const float* shift = nullptr;    // (size,)
  const float* known = nullptr;    // the coarsest level's weight: 0 if no pixel was kept
  float* out = nullptr;            // may be `colours`
  std::int64_t size = 0;

  HOIRT_HD void operator()(std::int64_t i) const {
    if (!(*known > 0.0F)) {
      out[i] = colours[i];
      return;
    }
    out[i] = shifted(colours[i], shift[i]);
  }
  HOIRT_HD static float shifted(float colour, float by) {
    const float value = colour + by;
    return value < 0.0F ? 0.0F : value > 255.0F ? 255.0F : value;
  }

  // The same in spans.
  using Written = Spans<float>;
  HOIRT_HD std::int64_t row_count() const { return 1; }
  HOIRT_HD std::int64_t row_size() const { return size; }
  HOIRT_HD void write(std::int64_t, std::int64_t i) const {
    constexpr int width = Written::width;
    const Span part = Written::at(out, size, i);
    float values[width] = {}, by[width] = {};
    Reader<float>(colours, size).run<width>(colours + part.first, part.count, values);
    if (*known > 0.0F) {
      Reader<float>(shift, size).run<width>(shift + part.first, part.count, by);
      HOIRT_UNROLL
      for (int k = 0; k < width; ++k) values[k] = shifted(values[k], by[k]);
    }
    Written::store(out, part, values);
  }
};

}  // namespace hoirt::kernels

// Colour match: what the autoencoder shifts around the hole is taken back, smoothly into the hole. Differences of kept
// pixels are averaged over cells, continued from coarser and coarser levels (push and pull), and added.
#pragma once

#include <cstdint>

#include "csrc/kernels/host_device.h"
#include "csrc/kernels/spans.h"

namespace hoirt::kernels {

constexpr int colour_cell = 4;  // pixels: finer differences are texture, not a shift of colours

// The shift of three colours times what is known of a cell, and that share, both as means over the cell; once it is
// pulled, the shift itself. One access.
using ColourCell = Pack<float, 4>;
constexpr int known_share = 3;  // where it lies

// A level of the pyramid.
struct ColourLevel {
  ColourCell* cells = nullptr;  // (height, width)
  std::int64_t height = 0, width = 0;

  HOIRT_HD bool exists() const { return height > 0; }
  HOIRT_HD ColourCell& at(std::int64_t row, std::int64_t column) const { return cells[row * width + column]; }
};

// The finest level, from pictures; a cell's rows are read as wide as they allow.
struct ColourCells {
  const float* colours = nullptr;           // (height, width, 3), 0..255
  const std::uint8_t* original = nullptr;   // (height, width, 3)
  const std::uint8_t* hole = nullptr;       // (height, width), not 0 in the hole
  std::int64_t height = 0, width = 0;
  ColourLevel to;

  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    constexpr int side = colour_cell;
    ColourCell sum{};
    const std::int64_t x = column * side, end = (row + 1) * side < height ? (row + 1) * side : height;
    const int count = width - x < side ? static_cast<int>(width - x) : side;
    for (std::int64_t y = row * side; y < end; ++y) {
      const std::int64_t pixel = y * width + x;
      std::uint8_t in_hole[side] = {}, bytes[3 * side] = {};
      float values[3 * side] = {};
      load<side>(hole + pixel, count, in_hole);
      load<3 * side>(original + 3 * pixel, 3 * count, bytes);
      load<3 * side>(colours + 3 * pixel, 3 * count, values);
      HOIRT_UNROLL
      for (int k = 0; k < side; ++k) {
        if (k >= count || in_hole[k]) continue;
        for (int c = 0; c < 3; ++c) sum.values[c] += static_cast<float>(bytes[3 * k + c]) - values[3 * k + c];
        sum.values[known_share] += 1.0F;
      }
    }
    for (float& value : sum.values) value /= side * side;
    to.at(row, column) = sum;
  }
};

// The next two coarser levels: means over two by two cells; what lies outside counts as nothing.
struct ColourCoarser {
  ColourLevel from, to, next;  // `next` need not exist

  // `row` and `column` are those of `next`.
  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    ColourCell sum{};
    for (std::int64_t y = 2 * row; y < 2 * row + 2 && y < to.height; ++y) {
      for (std::int64_t x = 2 * column; x < 2 * column + 2 && x < to.width; ++x) {
        const ColourCell cell = mean(y, x);
        to.at(y, x) = cell;
        add(cell, sum);
      }
    }
    if (next.exists()) next.at(row, column) = quarter(sum);
  }
  HOIRT_HD ColourCell mean(std::int64_t row, std::int64_t column) const {
    ColourCell sum{};
    for (std::int64_t y = 2 * row; y < 2 * row + 2 && y < from.height; ++y) {
      for (std::int64_t x = 2 * column; x < 2 * column + 2 && x < from.width; ++x) add(from.at(y, x), sum);
    }
    return quarter(sum);
  }
  HOIRT_HD static void add(const ColourCell& cell, ColourCell& sum) {
    for (int c = 0; c < 4; ++c) sum.values[c] += cell.values[c];
  }
  HOIRT_HD static ColourCell quarter(ColourCell sum) {
    for (float& value : sum.values) value /= 4.0F;
    return sum;
  }
};

// Where a position of a finer grid lies between the cells of a level, as Pillow's bilinear filter has it.
struct BetweenCells {
  std::int32_t low, high;
  float share;  // of `high`

  // `scale`: cells of the level, `size` in all, for one of the finer grid.
  HOIRT_HD static BetweenCells of(std::int64_t position, double scale, std::int64_t size) {
    const double at = (static_cast<double>(static_cast<std::int32_t>(position)) + 0.5) * scale - 0.5;
    const auto last = static_cast<std::int32_t>(size - 1);
    const std::int32_t floor = at > 0.0 ? static_cast<std::int32_t>(at) : 0, low = floor < last ? floor : last;
    const float share = static_cast<float>(at - static_cast<double>(low));
    return {low, low < last ? low + 1 : last, share > 0.0F ? share : 0.0F};
  }
};

HOIRT_HD inline double cells_for_one(std::int64_t size, std::int64_t finer) {
  return static_cast<double>(size) / static_cast<double>(finer);
}

// The shift that lies so far from `low` to `high`.
HOIRT_HD inline ColourCell mixed(const ColourCell& low, const ColourCell& high, float share) {
  ColourCell out;
  for (int c = 0; c < 4; ++c) out.values[c] = low.values[c] + (high.values[c] - low.values[c]) * share;
  return out;
}

// Weighted means where there is weight, elsewhere those of the coarser level, stretched to this size. Two levels at once:
// what is pulled of the one between is not kept, as only the finest level is asked for in the end.
struct ColourPull {
  ColourLevel level, coarser;  // not pulled yet; the former will be
  ColourLevel pulled;          // the next coarser one. Neither this nor `coarser` exists for the coarsest

  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    level.at(row, column) = continued(level, coarser, row, column, [this](std::int64_t y, std::int64_t x) {
      return continued(coarser, pulled, y, x, [this](std::int64_t v, std::int64_t u) { return pulled.at(v, u); });
    });
  }

  template <typename Below>
  HOIRT_HD static ColourCell continued(const ColourLevel& level, const ColourLevel& coarser, std::int64_t row,
                                       std::int64_t column, const Below& below) {
    ColourCell cell = level.at(row, column);
    const float weight = cell.values[known_share];
    for (int c = 0; c < 3; ++c) cell.values[c] /= weight > 1e-6F ? weight : 1e-6F;
    if (weight >= 1.0F || !coarser.exists()) return cell;
    const auto rows = BetweenCells::of(row, cells_for_one(coarser.height, level.height), coarser.height);
    const auto columns = BetweenCells::of(column, cells_for_one(coarser.width, level.width), coarser.width);
    const ColourCell left = mixed(below(rows.low, columns.low), below(rows.high, columns.low), rows.share);
    const ColourCell right = mixed(below(rows.low, columns.high), below(rows.high, columns.high), rows.share);
    const ColourCell mean = mixed(left, right, columns.share);
    for (int c = 0; c < 3; ++c) cell.values[c] = weight * cell.values[c] + (1.0F - weight) * mean.values[c];
    return cell;
  }
};

// Adds the finest level, stretched to the picture's size, where any pixel was kept.
struct ColourAdd {
  const float* colours = nullptr;     // (height, width, 3)
  float* out = nullptr;               // may be `colours`
  std::int64_t height = 0, width = 0;
  ColourLevel finest;
  const ColourCell* coarsest = nullptr;  // of which nothing is known if no pixel was kept
  double down = cells_for_one(finest.height, height), across = cells_for_one(finest.width, width);

  using Written = Spans<float, 3>;
  HOIRT_HD std::int64_t row_count() const { return height; }
  HOIRT_HD std::int64_t row_size() const { return width; }
  HOIRT_HD void write(std::int64_t row, std::int64_t i) const {
    float* line = out + 3 * row * width;
    const Span part = Written::at(line, width, i);
    if (part.count == 0) return;
    float values[Written::elements] = {}, shift[Written::elements];
    const Reader<float> read(colours, 3 * height * width);
    read.run<Written::elements>(colours + 3 * (row * width + part.first), 3 * part.count, values);
    if (coarsest->values[known_share] > 0.0F) {
      const auto rows = BetweenCells::of(row, down, finest.height);
      // The cells that these pixels lie between: three, as a pixel is no wider than a third of a cell, unless there are two.
      const std::int64_t first = BetweenCells::of(part.first, across, finest.width).low;
      ColourCell columns[3];
      HOIRT_UNROLL
      for (int j = 0; j < 3; ++j) {
        const std::int64_t column = first + j < finest.width ? first + j : finest.width - 1;
        columns[j] = mixed(finest.at(rows.low, column), finest.at(rows.high, column), rows.share);
      }
      HOIRT_UNROLL
      for (int k = 0; k < Written::width; ++k) {
        const auto between = BetweenCells::of(part.first + k, across, finest.width);
        const ColourCell& left = between.low == first ? columns[0] : columns[1];
        const ColourCell& right = between.high == first ? columns[0] : between.high == first + 1 ? columns[1] : columns[2];
        const ColourCell cell = mixed(left, right, between.share);
        for (int c = 0; c < 3; ++c) shift[3 * k + c] = cell.values[c];
      }
      HOIRT_UNROLL
      for (int k = 0; k < Written::elements; ++k) {
        float value = values[k] + shift[k];
        value = value < 0.0F ? 0.0F : value;
        values[k] = value > 255.0F ? 255.0F : value;
      }
    }
    Written::store(line, part, values);
  }
};

}  // namespace hoirt::kernels

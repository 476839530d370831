// Maps of a region: which cells see hand, which latent cells a mask touches, a map laid over another, an opacity cut to
// a mask. One functor each, called per pixel of what it writes; masks are bytes, of which those that are not 0 are set.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

// One axis of a window that is looked through at cells which cover a crop.
struct CellAxis {
  std::int64_t count = 0, cells = 0;    // samples of the window, cells of the crop
  double start = 0, length = 1;         // of the window, in pixels of the picture
  double crop_start = 0, crop_length = 1;

  // The cell under the middle of a sample; -1: none.
  HOIRT_HD std::int64_t cell(std::int64_t sample) const {
    const double position = start + (static_cast<double>(sample) + 0.5) * length / static_cast<double>(count);
    const double at = std::floor((position - crop_start) * static_cast<double>(cells) / crop_length);
    return at >= 0 && at < static_cast<double>(cells) ? static_cast<std::int64_t>(at) : -1;
  }
};

// Sets the pixels of a mask that see a cell of more than a half.
struct LookUp {
  const float* region = nullptr;  // (rows.cells, columns.cells)
  std::uint8_t* mask = nullptr;   // (rows.count, columns.count), changed in place
  CellAxis rows, columns;

  HOIRT_HD std::int64_t row_count() const { return rows.count; }
  HOIRT_HD std::int64_t column_count() const { return columns.count; }
  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t y = rows.cell(row), x = columns.cell(column);
    if (y >= 0 && x >= 0 && region[y * columns.cells + x] > 0.5F) mask[row * columns.count + column] = 1;
  }
};

// 1 where any pixel of a cell of factor x factor is set, else 0.
struct Touched {
  const std::uint8_t* masks = nullptr;  // (count, height, width), height and width multiples of factor
  float* cells = nullptr;               // (count, height / factor, width / factor)
  std::int64_t count = 0, height = 0, width = 0, factor = 1;

  HOIRT_HD std::int64_t row_count() const { return count * (height / factor); }
  HOIRT_HD std::int64_t column_count() const { return width / factor; }
  // The rows of all masks are behind one another, and so are those of the cells.
  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    const std::uint8_t* corner = masks + row * factor * width + column * factor;
    bool any = false;
    for (std::int64_t y = 0; y < factor && !any; ++y) {
      for (std::int64_t x = 0; x < factor && !any; ++x) any = corner[y * width + x] != 0;
    }
    cells[row * column_count() + column] = any ? 1.0F : 0.0F;
  }
};

// Lays the bytes of a part that are not 0 over a map.
struct Lay {
  const std::uint8_t* part = nullptr;  // (part_height, part_width)
  std::uint8_t* map = nullptr;         // (.., width), changed in place; the part lies inside
  std::int64_t part_height = 0, part_width = 0, width = 0;
  std::int64_t top = 0, left = 0;

  HOIRT_HD std::int64_t row_count() const { return part_height; }
  HOIRT_HD std::int64_t column_count() const { return part_width; }
  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    const std::uint8_t value = part[row * part_width + column];
    if (value) map[(top + row) * width + left + column] = value;
  }
};

// An opacity where a mask is more than a half, else 0; and there a map becomes 1.
struct Cut {
  const float* inside = nullptr;   // (height, width)
  const float* opacity = nullptr;  // (height, width)
  float* alpha = nullptr;          // (height, width)
  std::uint8_t* map = nullptr;     // (.., map_width), changed in place; the mask lies inside
  std::int64_t height = 0, width = 0, map_width = 0;
  std::int64_t top = 0, left = 0;

  HOIRT_HD std::int64_t row_count() const { return height; }
  HOIRT_HD std::int64_t column_count() const { return width; }
  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t at = row * width + column;
    const bool in = inside[at] > 0.5F;
    alpha[at] = in ? opacity[at] : 0.0F;
    if (in) map[(top + row) * map_width + left + column] = 1;
  }
};

}  // namespace hoirt::kernels

// Distances on the CPU: columns by a scan down and one up, rows in blocks that stop where nothing nearer can come.
#include <algorithm>
#include <memory>
#include <vector>

#include "csrc/cpu/launchers.h"
#include "csrc/cpu/vector_widths.h"
#include "csrc/raster/workers.h"

namespace hoirt::cpu {
namespace {

using kernels::NearestPixel;
using kernels::out_of_reach;

constexpr std::int64_t piece = 1 << 16;  // pixels that a thread takes at once
constexpr std::int64_t block = 64;       // columns

// One step of a scan: distances of a row from those of the one before it.
HOIRT_VECTOR_WIDTHS
void scan(const std::int32_t* before, std::int32_t* row, std::int64_t width, std::int32_t most) {
  for (std::int64_t x = 0; x < width; ++x) row[x] = std::min(row[x], std::min(before[x] + 1, most));
}

HOIRT_VECTOR_WIDTHS
void find_pixels(const std::uint8_t* mask, std::int32_t* row, std::int64_t width, bool set, std::int32_t most) {
  for (std::int64_t x = 0; x < width; ++x) row[x] = (mask[x] != 0) == set ? 0 : most;
}

HOIRT_VECTOR_WIDTHS
void square(std::int32_t* row, std::int64_t width, std::int32_t radius) {
  for (std::int64_t x = 0; x < width; ++x) row[x] = row[x] > radius ? out_of_reach : row[x] * row[x];
}

// kernels::ColumnDistance of all pixels.
void columns(const NearestPixel& nearest, std::int32_t* squares) {
  const std::int64_t width = nearest.width;
  const std::int32_t most = nearest.radius + 1;
  const std::vector<std::int32_t> beyond(static_cast<std::size_t>(width), nearest.border ? 0 : most);
  const std::int32_t* before = beyond.data();
  for (std::int64_t row = 0; row < nearest.height; ++row) {
    std::int32_t* line = squares + row * width;
    find_pixels(nearest.mask + row * width, line, width, nearest.set, most);
    scan(before, line, width, most);
    before = line;
  }
  before = beyond.data();
  for (std::int64_t row = nearest.height - 1; row >= 0; --row) {
    std::int32_t* line = squares + row * width;
    scan(before, line, width, most);
    before = line;
  }
  for (std::int64_t row = 0; row < nearest.height; ++row) square(squares + row * width, width, nearest.radius);
}

// kernels::RowDistance::smallest of a block; `line` may be read `radius` to both sides of it.
HOIRT_VECTOR_WIDTHS
void smallest(const std::int32_t* line, std::int32_t radius, std::int32_t* best) {
  std::int32_t high = 0, low = out_of_reach;
  for (std::int64_t k = -radius; k < block + radius; ++k) low = std::min(low, line[k]);
  for (std::int64_t k = 0; k < block; ++k) best[k] = line[k], high = std::max(high, line[k]);
  if (low == out_of_reach) return;
  for (std::int32_t step = 1; step <= radius && step * step < high; ++step) {
    const std::int32_t across = step * step;
    for (std::int64_t k = 0; k < block; ++k) {
      best[k] = std::min(best[k], std::min(line[k - step], line[k + step]) + across);
    }
    if (step % 4 > 0) continue;
    high = 0;
    for (std::int64_t k = 0; k < block; ++k) high = std::max(high, best[k]);
  }
}

template <typename As>
void rows(const NearestPixel& nearest, const std::int32_t* squares, const As& as, typename As::T* out) {
  const std::int64_t width = nearest.width, blocks = (width + block - 1) / block, together = std::max<std::int64_t>(piece / width, 1);
  const std::int64_t items = (nearest.height + together - 1) / together;
  const auto radius = static_cast<std::size_t>(nearest.radius);
  raster::for_each_item(items, raster::thread_count(0), [&] {
    // A row between what is beyond it; only the two pixels beside it can be near.
    std::vector<std::int32_t> padded(static_cast<std::size_t>(blocks * block) + 2 * radius + 1, out_of_reach);
    return [&, padded = std::move(padded)](std::int64_t item) mutable {
      std::int32_t* line = padded.data() + radius;
      const std::int64_t end = std::min(nearest.height, (item + 1) * together);
      for (std::int64_t row = item * together; row < end; ++row) {
        std::copy_n(squares + row * width, width, line);
        if (nearest.border && radius > 0) line[-1] = line[width] = 0;
        std::int32_t best[block];
        for (std::int64_t first = 0; first < width; first += block) {
          smallest(line + first, nearest.radius, best);
          const std::int64_t count = std::min(block, width - first);
          for (std::int64_t k = 0; k < count; ++k) out[row * width + first + k] = as(best[k]);
        }
      }
    };
  });
}

}  // namespace

void distance(const DistanceJob& job) {
  const auto squares = std::make_unique_for_overwrite<std::int32_t[]>(static_cast<std::size_t>(job.nearest.height * job.nearest.width));
  columns(job.nearest, squares.get());
  job.visit([&](const auto& as, auto* out) { rows(job.nearest, squares.get(), as, out); });
}

}  // namespace hoirt::cpu

// The picture that a Winograd convolution reads: as it is, or a band of its rows at a time, normalised and activated.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "csrc/cpu/norm_silu.h"
#include "csrc/cpu/winograd_conv.h"

namespace hoirt::cpu::winograd {

constexpr std::int64_t tiles_of(std::int64_t extent, std::int64_t side) { return (extent + side - 1) / side; }

// How tiles lie on the picture: their size in the output, the rows that one reads and how many further the next one starts.
struct TileRows {
  std::int64_t height, width, reads, step;
};

// Rows are counted through all pictures of the batch. A band stays in the cache; the whole activated picture, written
// and read once, would pass through memory.
class Source {
 public:
  Source(const WinogradJob& job, const TileRows& tile, std::int64_t tiles_together)
      : job_(job),
        tile_(tile),
        height_(job.doubled ? job.height / 2 : job.height),
        width_(job.doubled ? job.width / 2 : job.width),
        tile_rows_(tiles_of(job.height, tile.height)),
        columns_(tiles_of(job.width, tile.width)) {
    if (!job.factors) return;
    const std::int64_t most = tile.step * (tiles_together / columns_ + 2) + tile.reads;
    const std::int64_t rows = std::min(most, job.batch * height_);
    band_ = std::make_unique_for_overwrite<Bf16[]>(static_cast<std::size_t>(rows * row_size()));
  }

  std::int64_t height() const { return height_; }
  std::int64_t width() const { return width_; }

  // What the tiles first .. first + count - 1 read.
  void prepare(std::int64_t first, std::int64_t count, const Parallel& parallel) {
    if (!job_.factors) return;
    from_ = std::max<std::int64_t>(source_row(first) - 1, 0);
    const std::int64_t until = std::min(source_row(first + count - 1) + tile_.reads - 1, job_.batch * height_);
    parallel((until - from_) * width_, [&](std::int64_t begin, std::int64_t end) {
      while (begin < end) {  // to the end of an item at most
        const std::int64_t pixel = from_ * width_ + begin, item = pixel / (height_ * width_);
        const std::int64_t some = std::min(end - begin, (item + 1) * height_ * width_ - pixel);
        const std::int64_t at = item * job_.channels_in;
        silu(job_.input + pixel * job_.channels_in, some, job_.channels_in, job_.factors + at, job_.offsets + at,
             band_.get() + begin * job_.channels_in);
        begin += some;
      }
    });
  }

  // Of the picture `item`; the row must be one of those prepared.
  const Bf16* pixel(std::int64_t item, std::int64_t y, std::int64_t x) const {
    const std::int64_t at = ((item * height_ + y) * width_ + x) * job_.channels_in;
    return job_.factors ? band_.get() + at - from_ * row_size() : job_.input + at;
  }

 private:
  std::int64_t row_size() const { return width_ * job_.channels_in; }

  // Where the upper left pixel of a tile lies; it reads from one row above.
  std::int64_t source_row(std::int64_t tile) const {
    return tile / (columns_ * tile_rows_) * height_ + tile / columns_ % tile_rows_ * tile_.step;
  }

  const WinogradJob& job_;
  TileRows tile_;
  std::int64_t height_, width_, tile_rows_, columns_;
  std::int64_t from_ = 0;
  std::unique_ptr<Bf16[]> band_;
};

}  // namespace hoirt::cpu::winograd

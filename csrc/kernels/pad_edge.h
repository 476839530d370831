// A picture in a larger frame, its edge pixels repeated outward.
#pragma once

#include <cstdint>

#include "csrc/kernels/host_device.h"
#include "csrc/kernels/spans.h"

namespace hoirt::kernels {

struct PadEdge {
  const std::uint8_t* from = nullptr;  // (height, width, channels)
  std::uint8_t* to = nullptr;          // (out_height, out_width, channels)
  std::int64_t height = 0, width = 0, out_height = 0, out_width = 0, channels = 0;
  std::int64_t top = 0, left = 0;  // where the picture's corner lies

  HOIRT_HD static std::int64_t inside(std::int64_t at, std::int64_t extent) {
    return at < 0 ? 0 : at >= extent ? extent - 1 : at;
  }
  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    const std::uint8_t* pixel = from + (inside(row - top, height) * width + inside(column - left, width)) * channels;
    for (std::int64_t c = 0; c < channels; ++c) to[(row * out_width + column) * channels + c] = pixel[c];
  }

  // The same in spans.
  using Written = Spans<std::uint8_t>;
  HOIRT_HD std::int64_t row_count() const { return out_height; }
  HOIRT_HD std::int64_t row_size() const { return out_width * channels; }
  HOIRT_HD void write(std::int64_t row, std::int64_t i) const {
    std::uint8_t* line = to + row * row_size();
    const Span part = Written::at(line, row_size(), i);
    if (part.count == 0) return;
    const std::uint8_t* source = from + inside(row - top, height) * width * channels;
    const std::int64_t first = left * channels, end = first + width * channels;
    Reader<std::uint8_t> read(from, height * width * channels);
    std::int64_t channel = part.first % channels;
    std::uint8_t out[Written::elements] = {};
    HOIRT_UNROLL
    for (int k = 0; k < Written::width; ++k) {
      if (k >= part.count) continue;
      const std::int64_t x = part.first + k;
      out[k] = read(source + (x < first ? channel : x < end ? x - first : end - first - channels + channel));
      if (++channel == channels) channel = 0;
    }
    Written::store(line, part, out);
  }
};

}  // namespace hoirt::kernels

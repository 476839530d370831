// A picture in a larger frame, its edge pixels repeated outward.
#pragma once

#include <cstdint>

#include "csrc/kernels/host_device.h"

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
};

}  // namespace hoirt::kernels

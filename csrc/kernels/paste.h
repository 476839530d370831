// Blends a patch into a picture of bytes; pixels with alpha 0 keep their bits.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

struct Paste {
  std::uint8_t* picture = nullptr;  // (height, width, 3), changed in place
  const float* patch = nullptr;     // (patch_height, patch_width, 3), 0..255
  const float* alpha = nullptr;     // (patch_height, patch_width), 0..1
  std::int64_t height = 0, width = 0, patch_height = 0, patch_width = 0;
  std::int64_t top = 0, left = 0;  // where the patch's corner lies; it may hang over every border

  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t y = top + row;
    const std::int64_t x = left + column;
    const std::int64_t source = row * patch_width + column;
    const double a = alpha[source];
    if (a == 0 || y < 0 || x < 0 || y >= height || x >= width) return;
    std::uint8_t* pixel = picture + 3 * (y * width + x);
    for (int k = 0; k < 3; ++k) {
      const double value = std::rint(a * patch[3 * source + k] + (1.0 - a) * pixel[k]);
      pixel[k] = static_cast<std::uint8_t>(value < 0 ? 0.0 : value > 255 ? 255.0 : value);
    }
  }
};

}  // namespace hoirt::kernels

// Blends a patch into a picture of bytes; pixels with alpha 0 keep their bits.
#pragma once

#include <cstdint>

#include "csrc/kernels/host_device.h"
#include "csrc/kernels/spans.h"

namespace hoirt::kernels {

struct Paste {
  std::uint8_t* picture = nullptr;  // (height, width, 3), changed in place
  const float* patch = nullptr;     // (patch_height, patch_width, 3), 0..255
  const float* alpha = nullptr;     // (patch_height, patch_width), 0..1
  std::int64_t height = 0, width = 0, patch_height = 0, patch_width = 0;
  std::int64_t top = 0, left = 0;  // where the patch's corner lies; it may hang over every border

  // To the nearest, ties to even. Between bytes and doubles by adding a power of two, whose low bits the integer then is: a
  // GPU converts slower than it reads.
  HOIRT_HD static std::uint8_t blend(double a, float colour, std::uint8_t below) {
    const double under = __builtin_bit_cast(double, 0x4330000000000000U | below) - 0x1p52;
    double value = a * colour + (1.0 - a) * under;
    value = value < 0 ? 0.0 : value > 255 ? 255.0 : value;
    return static_cast<std::uint8_t>(__builtin_bit_cast(std::uint64_t, value + 0x1p52));
  }
  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t y = top + row;
    const std::int64_t x = left + column;
    const std::int64_t source = row * patch_width + column;
    const double a = alpha[source];
    if (a == 0 || y < 0 || x < 0 || y >= height || x >= width) return;
    std::uint8_t* pixel = picture + 3 * (y * width + x);
    for (int k = 0; k < 3; ++k) pixel[k] = blend(a, patch[3 * source + k], pixel[k]);
  }

  // The same in spans of the picture's rows, of what lies under the patch: four pixels, for which alpha and patch are read
  // in four accesses of 16 bytes.
  using Written = Spans<std::uint8_t, 3, 4>;
  HOIRT_HD std::int64_t first_column() const { return left < 0 ? -left : 0; }  // of the patch
  HOIRT_HD std::int64_t row_count() const { return patch_height; }
  HOIRT_HD std::int64_t row_size() const {
    const std::int64_t end = patch_width < width - left ? patch_width : width - left;
    return end > first_column() ? end - first_column() : 0;
  }
  HOIRT_HD void write(std::int64_t row, std::int64_t i) const {
    const std::int64_t y = top + row, first = first_column();
    if (y < 0 || y >= height) return;
    std::uint8_t* line = picture + 3 * (y * width + left + first);
    const Span part = Written::at(line, row_size(), i);
    const std::int64_t source = row * patch_width + first + part.first, size = patch_height * patch_width;
    float a[Written::width] = {}, colour[Written::elements] = {};
    Reader<float>(alpha, size).run<Written::width>(alpha + source, part.count, a);
    bool any = false;
    for (int k = 0; k < Written::width; ++k) any |= a[k] != 0.0F;
    if (!any) return;
    Reader<float>(patch, 3 * size).run<Written::elements>(patch + 3 * source, 3 * part.count, colour);
    std::uint8_t pixels[Written::elements] = {};
    Written::load(line, part, pixels);
    HOIRT_UNROLL
    for (int k = 0; k < Written::width; ++k) {
      if (a[k] == 0.0F) continue;
      for (int c = 3 * k; c < 3 * k + 3; ++c) pixels[c] = blend(a[k], colour[c], pixels[c]);
    }
    Written::store(line, part, pixels);
  }
};

}  // namespace hoirt::kernels

// What a device is asked to do with pictures: sizes and addresses; the scratch memory is the device's own business.
#pragma once

#include <cstdint>

#include "csrc/kernels/resize.h"
#include "engine/tensor.h"

namespace hoirt {

// (height, width, channels) to (out_height, out_width, channels), uint8 or float32.
struct ResizeJob {
  const void* from = nullptr;
  void* to = nullptr;
  DType dtype = DType::u8;
  std::int64_t channels = 1;
  kernels::ResizeAxis rows, columns;  // with the same filter
};

// out = colours with the shift of the pixels that are kept taken out; see csrc/kernels/colour.h.
struct ColourJob {
  const float* colours = nullptr;          // (height, width, 3), 0..255
  const std::uint8_t* original = nullptr;  // (height, width, 3)
  const std::uint8_t* hole = nullptr;      // (height, width)
  float* out = nullptr;                    // may be `colours`
  std::int64_t height = 0, width = 0;
};

// uint8 (count, area, channels) to planes (count, out_channels, area) of `dtype`, and back to colours.
struct NormaliseJob {
  const std::uint8_t* pixels = nullptr;
  const std::uint8_t* holes = nullptr;
  void* planes = nullptr;
  DType dtype = DType::f32;
  std::int64_t count = 0, area = 0, channels = 3, out_channels = 3;
  float divisor = 127.5F, offset = 1.0F;
};
struct ColoursJob {
  const void* planes = nullptr;
  float* colours = nullptr;
  DType dtype = DType::f32;
  std::int64_t count = 0, area = 0;
  float scale = 127.5F, shift = 127.5F;
  std::int32_t* flag = nullptr;
};

}  // namespace hoirt

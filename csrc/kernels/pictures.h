// Between pictures and networks: bytes to planes of floats, and planes back to colours.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/element.h"
#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

// value / divisor - offset, in float32; times 0 in the hole.
template <typename T>
struct NormaliseTo {
  const std::uint8_t* pixels = nullptr;  // (count, area, channels)
  const std::uint8_t* holes = nullptr;   // (count, area), not 0 in the hole; null: no hole
  T* planes = nullptr;                   // (count, out_channels, area)
  std::int64_t count = 0, area = 0, channels = 3;
  std::int64_t out_channels = 3;  // a single channel is repeated
  float divisor = 127.5F, offset = 1.0F;

  // What one plane's write is at once where packs().
  static constexpr int span = 16 / sizeof(T);
  HOIRT_HD bool packs() const { return area % span == 0 && aligned_to(16, planes); }

  // Pixels width i .. width i + width - 1 of one picture.
  template <int width>
  HOIRT_HD void operator()(std::int64_t picture, std::int64_t i) const {
    const std::int64_t first = picture * area + width * i;
    for (std::int64_t c = 0; c < out_channels; ++c) {
      Pack<T, width> out;
      for (int k = 0; k < width; ++k) {
        const std::uint8_t byte = pixels[(first + k) * channels + (channels == 1 ? 0 : c)];
        float value = static_cast<float>(byte) / divisor - offset;
        if (holes && holes[first + k]) value *= 0.0F;
        out.values[k] = from_float<T>(value);
      }
      *reinterpret_cast<Pack<T, width>*>(planes + (picture * out_channels + c) * area + width * i) = out;
    }
  }
};

// value * scale + shift in float32, clamped to 0..255; NaN stays.
template <typename T>
struct ColoursFrom {
  const T* planes = nullptr;  // (count, 3, area)
  float* colours = nullptr;   // (count, area, 3)
  std::int64_t count = 0, area = 0;
  float scale = 127.5F, shift = 127.5F;
  std::int32_t* flag = nullptr;  // gets 0 if a plane is not finite; may be null

  static constexpr int channels = 3;
  static constexpr int span = 4;  // pixels: 48 bytes of colours
  HOIRT_HD bool packs() const { return area % span == 0 && aligned_to(16, planes, colours); }

  template <int width>
  HOIRT_HD void operator()(std::int64_t picture, std::int64_t i) const {
    float out[channels * width];
    bool finite = true;
    for (int c = 0; c < channels; ++c) {
      const auto values =
          *reinterpret_cast<const Pack<T, width>*>(planes + (picture * channels + c) * area + width * i);
      for (int k = 0; k < width; ++k) {
        const float value = to_float(values.values[k]);
        finite &= std::isfinite(value);
        float colour = value * scale + shift;
        colour = colour < 0.0F ? 0.0F : colour;
        out[channels * k + c] = colour > 255.0F ? 255.0F : colour;
      }
    }
    float* to = colours + (picture * area + width * i) * channels;
    using Piece = Pack<float, width>;
    for (int p = 0; p < channels; ++p) {
      Piece piece;
      for (int k = 0; k < width; ++k) piece.values[k] = out[width * p + k];
      *reinterpret_cast<Piece*>(to + width * p) = piece;
    }
    if (!finite && flag) *flag = 0;
  }
};

}  // namespace hoirt::kernels

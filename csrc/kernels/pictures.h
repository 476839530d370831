// Between pictures and networks: bytes to planes of floats, and planes back to colours.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/element.h"
#include "csrc/kernels/host_device.h"
#include "csrc/kernels/spans.h"

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
  float inverse = inverse_of(divisor);  // 0 where corrected_quotient() would not do

  static constexpr int rgb = 3;
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
        out.values[k] = value(byte, holes && holes[first + k]);
      }
      *reinterpret_cast<Pack<T, width>*>(planes + (picture * out_channels + c) * area + width * i) = out;
    }
  }
  // The same where in_colour() holds: all bytes are read at once.
  HOIRT_HD bool in_colour() const { return channels == rgb && out_channels == rgb && inverse != 0.0F; }
  template <int width>
  HOIRT_HD void write_planes(std::int64_t picture, std::int64_t i) const {
    const std::int64_t first = picture * area + width * i;
    std::uint8_t bytes[rgb * width], in_hole[width] = {};
    load<rgb * width>(pixels + rgb * first, rgb * width, bytes);
    if (holes) load<width>(holes + first, width, in_hole);
    HOIRT_UNROLL
    for (int c = 0; c < rgb; ++c) {
      Pack<T, width> out;
      HOIRT_UNROLL
      for (int k = 0; k < width; ++k) out.values[k] = shifted(quotient(bytes[rgb * k + c]), in_hole[k]);
      *reinterpret_cast<Pack<T, width>*>(planes + (picture * rgb + c) * area + width * i) = out;
    }
  }
  HOIRT_HD T value(std::uint8_t byte, bool in_hole) const { return shifted(static_cast<float>(byte) / divisor, in_hole); }
  HOIRT_HD T shifted(float quotient, bool in_hole) const {
    float out = quotient - offset;
    if (in_hole) out *= 0.0F;
    return from_float<T>(out);
  }
  HOIRT_HD float quotient(std::uint8_t byte) const {
#ifdef __CUDA_ARCH__
    return corrected_quotient(byte);
#else
    return static_cast<float>(byte) / divisor;
#endif
  }
  // The same number in three instructions: the remainder of a guess corrects it.
  HOIRT_HD float corrected_quotient(std::uint8_t byte) const {
    const float guess = static_cast<float>(byte) * inverse;
    return std::fma(std::fma(-guess, divisor, static_cast<float>(byte)), inverse, guess);
  }
  HOIRT_HD static float inverse_of(float divisor) {
    const float size = divisor < 0.0F ? -divisor : divisor;
    return size > 0x1p-100F && size < 0x1p100F ? 1.0F / divisor : 0.0F;
  }

  // The same in spans of planes.
  using Written = Spans<T>;
  HOIRT_HD std::int64_t row_count() const { return count * out_channels; }
  HOIRT_HD std::int64_t row_size() const { return area; }
  HOIRT_HD void write(std::int64_t plane, std::int64_t i) const {
    T* line = planes + plane * area;
    const Span part = Written::at(line, area, i);
    const std::int64_t first = plane / out_channels * area + part.first;
    const std::uint8_t* source = pixels + first * channels + (channels == 1 ? 0 : plane % out_channels);
    Reader<std::uint8_t> byte(pixels, count * area * channels), hole(holes, holes ? count * area : 0);
    T out[Written::elements] = {};
    HOIRT_UNROLL
    for (int k = 0; k < Written::width; ++k) {
      if (k < part.count) out[k] = value(byte(source + k * channels), holes && hole(holes + first + k));
    }
    Written::store(line, part, out);
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
        out[channels * k + c] = colour(value);
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
  HOIRT_HD float colour(float value) const {
    float out = value * scale + shift;
    out = out < 0.0F ? 0.0F : out;
    return out > 255.0F ? 255.0F : out;
  }

  // The same in spans of pixels.
  using Written = Spans<float, channels>;
  HOIRT_HD std::int64_t row_count() const { return count; }
  HOIRT_HD std::int64_t row_size() const { return area; }
  HOIRT_HD void write(std::int64_t picture, std::int64_t i) const {
    float* line = colours + picture * area * channels;
    const Span part = Written::at(line, area, i);
    Reader<T> read(planes, count * channels * area);
    float out[Written::elements] = {};
    bool finite = true;
    HOIRT_UNROLL
    for (int c = 0; c < channels; ++c) {
      T values[Written::width] = {};
      read.template run<Written::width>(planes + (picture * channels + c) * area + part.first, part.count, values);
      for (int k = 0; k < Written::width; ++k) {
        const float value = to_float(values[k]);
        finite &= std::isfinite(value);
        out[channels * k + c] = colour(value);
      }
    }
    Written::store(line, part, out);
    if (!finite && flag) *flag = 0;
  }
};

}  // namespace hoirt::kernels

// Resampling as Pillow does it (libImaging/Resample.c): separable filters, antialiased when shrinking, over a part of the
// source; 8-bit values in fixed point, float32 values with float64 sums. And the nearest pixel (Geometry.c).
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/element.h"
#include "csrc/kernels/host_device.h"
#include "csrc/kernels/spans.h"

namespace hoirt::kernels {

enum class Filter : std::int32_t { nearest, bilinear, bicubic };

HOIRT_HD inline double filter_support(Filter filter) { return filter == Filter::bicubic ? 2.0 : 1.0; }

HOIRT_HD inline double filter_value(Filter filter, double x) {
  constexpr double a = -0.5;
  x = x < 0.0 ? -x : x;
  if (filter == Filter::bilinear) return x < 1.0 ? 1.0 - x : 0.0;
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  return x < 2.0 ? (((x - 5) * x + 8) * x - 4) * a : 0.0;
}

// Which values of the source a position adds up.
struct TapRange {
  std::int32_t first, count;
};

// One axis: `out_size` positions over low..high of `in_size`. The extents are float32, as Pillow keeps its box.
struct ResizeAxis {
  std::int64_t in_size = 0, out_size = 0;
  float low = 0, high = 0;
  Filter filter = Filter::bilinear;

  HOIRT_HD double scale() const { return static_cast<double>(high - low) / static_cast<double>(out_size); }
  HOIRT_HD double stretch() const { return scale() < 1.0 ? 1.0 : scale(); }
  HOIRT_HD double support() const { return filter_support(filter) * stretch(); }
  // The most weights that a position has.
  HOIRT_HD std::int64_t taps() const { return static_cast<std::int64_t>(std::ceil(support())) * 2 + 1; }
  HOIRT_HD double center(std::int64_t i) const {
    return static_cast<double>(low) + (static_cast<double>(i) + 0.5) * scale();
  }
  HOIRT_HD TapRange range(std::int64_t i) const {
    const auto first = static_cast<std::int64_t>(center(i) - support() + 0.5);
    const auto end = static_cast<std::int64_t>(center(i) + support() + 0.5);
    const std::int64_t begin = first < 0 ? 0 : first;
    return {static_cast<std::int32_t>(begin), static_cast<std::int32_t>((end > in_size ? in_size : end) - begin)};
  }
  HOIRT_HD bool changes() const { return in_size != out_size || low != 0.0F || high != static_cast<float>(out_size); }
};

// Weights: 22-bit fixed point for bytes, float64 for float32.
template <typename T>
struct TapWeight {
  using Type = double;
  HOIRT_HD static Type from(double weight) { return weight; }
};
template <>
struct TapWeight<std::uint8_t> {
  using Type = std::int32_t;
  static constexpr int bits = 32 - 8 - 2;
  HOIRT_HD static Type from(double weight) {
    const double scaled = weight * (1 << bits);
    return static_cast<Type>(weight < 0 ? -0.5 + scaled : 0.5 + scaled);
  }
};

// The weights of one position.
template <typename T>
struct MakeTaps {
  using Weight = typename TapWeight<T>::Type;
  ResizeAxis axis;
  TapRange* ranges = nullptr;  // (out_size,)
  Weight* weights = nullptr;   // (out_size, taps)

  HOIRT_HD void operator()(std::int64_t i) const {
    const TapRange range = axis.range(i);
    const double center = axis.center(i), inverse = 1.0 / axis.stretch();
    double total = 0.0;
    for (std::int32_t k = 0; k < range.count; ++k) total += value(range.first + k, center, inverse);
    Weight* to = weights + i * axis.taps();
    for (std::int32_t k = 0; k < range.count; ++k) {
      const double weight = value(range.first + k, center, inverse);
      to[k] = TapWeight<T>::from(total != 0.0 ? weight / total : weight);
    }
    ranges[i] = range;
  }

  HOIRT_HD double value(std::int32_t x, double center, double inverse) const {
    return filter_value(axis.filter, (static_cast<double>(x) - center + 0.5) * inverse);
  }
};

// Positions of the nearest pixels of an axis, one after another as the rounding of Pillow's sum has it; -1: none.
struct MakeNearest {
  ResizeAxis axis;
  TapRange* ranges = nullptr;  // `first` is the position, `count` is not used

  HOIRT_HD void operator()(std::int64_t) const {
    const double step = axis.scale();
    double at = static_cast<double>(axis.low) + step * 0.5;
    for (std::int64_t i = 0; i < axis.out_size; ++i, at += step) {
      const std::int64_t x = at < 0.0 ? -1 : static_cast<std::int64_t>(at);
      ranges[i].first = x < axis.in_size ? static_cast<std::int32_t>(x) : -1;
      ranges[i].count = 1;
    }
  }
};

// One pass along the middle axis: (outer, in_size, inner) to (outer, out_size, inner).
template <typename T>
struct ResizePass {
  using Weight = typename TapWeight<T>::Type;
  const T* from = nullptr;
  T* to = nullptr;
  const TapRange* ranges = nullptr;
  const Weight* weights = nullptr;
  std::int64_t taps = 0;
  std::int64_t outer = 0, in_size = 0, out_size = 0, inner = 0;
  TapRange held{};  // which rows of the middle axis `from` holds

  // What is read and written at once where packs().
  static constexpr int span = 16 / sizeof(T);
  HOIRT_HD bool packs() const { return inner % span == 0 && aligned_to(16, from, to); }

  // Elements width j .. width j + width - 1 of one position.
  template <int width>
  HOIRT_HD void operator()(std::int64_t o, std::int64_t i, std::int64_t j) const {
    const TapRange range = ranges[i];
    const T* source = source_of(o, range) + width * j;
    const Weight* weight = weights + i * taps;
    Sum sums[width];
    for (int l = 0; l < width; ++l) sums[l] = start();
    for (std::int32_t k = 0; k < range.count; ++k, source += inner) {
      const auto values = *reinterpret_cast<const Pack<T, width>*>(source);
      for (int l = 0; l < width; ++l) sums[l] += values.values[l] * weight[k];
    }
    Pack<T, width> out;
    for (int l = 0; l < width; ++l) out.values[l] = finish(sums[l]);
    *reinterpret_cast<Pack<T, width>*>(to + (o * out_size + i) * inner + width * j) = out;
  }

  HOIRT_HD const T* source_of(std::int64_t o, TapRange range) const {
    return from + (o * in_size + range.first - held.first) * inner;
  }
  HOIRT_HD std::int64_t size() const { return ((outer - 1) * in_size + held.count) * inner; }  // of `from`

  using Sum = Weight;
  static constexpr bool bytes = sizeof(T) == 1;

  HOIRT_HD static Sum start() { return bytes ? static_cast<Sum>(1 << (TapWeight<std::uint8_t>::bits - 1)) : Sum{0}; }
  HOIRT_HD static std::uint8_t finish(std::int32_t sum) {
    const std::int32_t value = sum >> TapWeight<std::uint8_t>::bits;
    return static_cast<std::uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
  }
  HOIRT_HD static float finish(double sum) { return static_cast<float>(sum); }
};

// The pass in spans, where a position holds the channels of one pixel.
template <typename T, int channels>
struct ResizePixels {
  ResizePass<T> pass;

  using Written = Spans<T, channels>;
  HOIRT_HD std::int64_t row_count() const { return pass.outer; }
  HOIRT_HD std::int64_t row_size() const { return pass.out_size; }
  HOIRT_HD void write(std::int64_t row, std::int64_t i) const {
    T* line = pass.to + row * pass.out_size * channels;
    const Span part = Written::at(line, pass.out_size, i);
    Reader<T> read(pass.from, pass.size());
    T out[Written::elements] = {};
    HOIRT_UNROLL
    for (int p = 0; p < Written::width; ++p) {
      if (p >= part.count) continue;
      const TapRange range = pass.ranges[part.first + p];
      const T* source = pass.source_of(row, range);
      const auto* weight = pass.weights + (part.first + p) * pass.taps;
      typename ResizePass<T>::Sum sums[channels];
      for (int c = 0; c < channels; ++c) sums[c] = ResizePass<T>::start();
      for (std::int32_t k = 0; k < range.count; ++k) {
        for (int c = 0; c < channels; ++c) sums[c] += read(source + channels * k + c) * weight[k];
      }
      for (int c = 0; c < channels; ++c) out[channels * p + c] = ResizePass<T>::finish(sums[c]);
    }
    Written::store(line, part, out);
  }
};

// The pass in spans, where a position holds more, such as a row of the picture.
template <typename T>
struct ResizeRows {
  ResizePass<T> pass;

  using Written = Spans<T>;
  HOIRT_HD std::int64_t row_count() const { return pass.outer * pass.out_size; }
  HOIRT_HD std::int64_t row_size() const { return pass.inner; }
  HOIRT_HD void write(std::int64_t row, std::int64_t i) const {
    T* line = pass.to + row * pass.inner;
    const Span part = Written::at(line, pass.inner, i);
    if (part.count == 0) return;
    const std::int64_t position = row % pass.out_size;
    const TapRange range = pass.ranges[position];
    const T* source = pass.source_of(row / pass.out_size, range) + part.first;
    const auto* weight = pass.weights + position * pass.taps;
    Reader<T> read(pass.from, pass.size());
    typename ResizePass<T>::Sum sums[Written::width];
    T values[Written::width] = {};
    for (int l = 0; l < Written::width; ++l) sums[l] = ResizePass<T>::start();
    for (std::int32_t k = 0; k < range.count; ++k, source += pass.inner) {
      read.template run<Written::width>(source, part.count, values);
      for (int l = 0; l < Written::width; ++l) sums[l] += values[l] * weight[k];
    }
    for (int l = 0; l < Written::width; ++l) values[l] = ResizePass<T>::finish(sums[l]);
    Written::store(line, part, values);
  }
};

// (rows, columns, inner) to the nearest pixels; what lies outside of the source is 0.
template <typename T>
struct TakeNearest {
  const T* from = nullptr;
  T* to = nullptr;
  const TapRange *rows = nullptr, *columns = nullptr;
  std::int64_t in_rows = 0, in_columns = 0, out_rows = 0, out_columns = 0, inner = 0;

  HOIRT_HD void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t y = rows[row].first, x = columns[column].first;
    for (std::int64_t j = 0; j < inner; ++j) {
      to[(row * out_columns + column) * inner + j] = y < 0 || x < 0 ? T{0} : from[(y * in_columns + x) * inner + j];
    }
  }

  // The same in spans.
  using Written = Spans<T>;
  HOIRT_HD std::int64_t row_count() const { return out_rows; }
  HOIRT_HD std::int64_t row_size() const { return out_columns * inner; }
  HOIRT_HD void write(std::int64_t row, std::int64_t i) const {
    T* line = to + row * row_size();
    const Span part = Written::at(line, row_size(), i);
    const std::int64_t y = rows[row].first;
    Reader<T> read(from, in_rows * in_columns * inner);
    T out[Written::width] = {};
    std::int64_t column = part.first / inner, j = part.first % inner;
    HOIRT_UNROLL
    for (int k = 0; k < Written::width; ++k) {
      if (k >= part.count) continue;
      const std::int64_t x = columns[column].first;
      if (y >= 0 && x >= 0) out[k] = read(from + (y * in_columns + x) * inner + j);
      if (++j == inner) j = 0, ++column;
    }
    Written::store(line, part, out);
  }
};

}  // namespace hoirt::kernels

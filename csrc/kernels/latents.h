// What an autoencoder's moments become: latents, sampled or their mean, scaled for the denoiser or back.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/host_device.h"
#include "csrc/kernels/spans.h"

namespace hoirt::kernels {

// out = (mean + exp(logvar / 2) noise) scale / divisor, in float32.
struct SamplePosterior {
  const float* mean = nullptr;    // (size,)
  const float* logvar = nullptr;  // read with noise only
  const float* noise = nullptr;   // null: the mean
  float* out = nullptr;           // may be `mean`
  std::int64_t size = 0;
  float scale = 1, divisor = 1;

  HOIRT_HD static float drawn(float mean, float logvar, float noise) { return mean + std::exp(0.5F * logvar) * noise; }
  HOIRT_HD float scaled(float value) const { return value * scale / divisor; }

  HOIRT_HD void operator()(std::int64_t i) const {
    float value = mean[i];
    if (noise) value = drawn(value, logvar[i], noise[i]);
    out[i] = scaled(value);
  }

  // The same in spans.
  using Written = Spans<float>;
  HOIRT_HD std::int64_t row_count() const { return 1; }
  HOIRT_HD std::int64_t row_size() const { return size; }
  HOIRT_HD void write(std::int64_t, std::int64_t i) const {
    constexpr int width = Written::width;
    const Span part = Written::at(out, size, i);
    float values[width] = {}, spread[width] = {}, normals[width] = {};
    Reader<float>(mean, size).run<width>(mean + part.first, part.count, values);
    if (noise) {
      Reader<float>(logvar, size).run<width>(logvar + part.first, part.count, spread);
      Reader<float>(noise, size).run<width>(noise + part.first, part.count, normals);
    }
    HOIRT_UNROLL
    for (int k = 0; k < width; ++k) {
      values[k] = scaled(noise ? drawn(values[k], spread[k], normals[k]) : values[k]);
    }
    Written::store(out, part, values);
  }
};

}  // namespace hoirt::kernels

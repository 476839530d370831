// What an autoencoder's moments become: latents, sampled or their mean, scaled for the denoiser or back.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

// out = (mean + exp(logvar / 2) noise) scale / divisor, in float32.
struct SamplePosterior {
  const float* mean = nullptr;    // (size,)
  const float* logvar = nullptr;  // read with noise only
  const float* noise = nullptr;   // null: the mean
  float* out = nullptr;           // may be `mean`
  std::int64_t size = 0;
  float scale = 1, divisor = 1;

  HOIRT_HD void operator()(std::int64_t i) const {
    float value = mean[i];
    if (noise) value += std::exp(0.5F * logvar[i]) * noise[i];
    out[i] = value * scale / divisor;
  }
};

}  // namespace hoirt::kernels

// Box-Muller normals from two random words, in float32 by +, *, fused multiply-add and square root alone: the same bits on
// every processor and device, and vector code where the compiler can make it, which no mathematics library promises.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

// The square root of `value`, correctly rounded, from 1 / root to float32's precision. So CUDA's own does it, behind a branch
// for tiny and huge numbers.
HOIRT_HD inline float corrected_root(float value, float inverse) {
  const float root = value * inverse, half = 0.5F * inverse;
  return std::fma(std::fma(-root, root, value), half, root);
}
HOIRT_HD inline float square_root(float value) {
#ifdef __CUDA_ARCH__
  float inverse;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(value));
  return corrected_root(value, inverse);
#else
  return std::sqrt(value);
#endif
}

// sqrt(-2 ln u) to 1.6e-7 of its size, where u = (word + 0.5) / 2^32, the middle of the word's cell in (0, 1).
HOIRT_HD inline float radius_of(std::uint32_t word) {
  // u below one half, u - 1 above, which is exact where u is nearly 1.
  const float z = std::fma(static_cast<float>(static_cast<std::int32_t>(word)), 0x1p-32F, 0x1p-33F);
  const std::uint32_t below = (word >> 31) - 1U;  // all bits, or none
  // u = (1 + f) 2^e with f in -1/2..0: e 2^23 from the exponent's bits below one half, f = z and e = 0 above.
  const auto bits = __builtin_bit_cast(std::uint32_t, z);
  const std::uint32_t exponent = ((bits & 0xFF800000U) - 0x3F000000U) & below;
  const float f = __builtin_bit_cast(float, bits - exponent) - __builtin_bit_cast(float, 0x3F800000U & below);
  const auto e = static_cast<float>(static_cast<std::int32_t>(exponent));
  // -2 ln(1 + f) / f for f in -1/2..0, with the least largest error of its degree: 2.4e-8.
  float sum = -2.82847071F;
  sum = std::fma(sum, f, -3.27788234F);
  sum = std::fma(sum, f, -2.41632676F);
  sum = std::fma(sum, f, -0.361413449F);
  sum = std::fma(sum, f, -0.527259171F);
  sum = std::fma(sum, f, 0.487382084F);
  sum = std::fma(sum, f, -0.667263091F);
  sum = std::fma(sum, f, 0.999990463F);
  sum = std::fma(sum, f, -2.0F);
  constexpr float minus_two_ln_2 = -1.38629436F;
  return square_root(std::fma(e, minus_two_ln_2 * 0x1p-23F, sum * f));
}

struct SinCos {
  float sin, cos;
};

// Sine and cosine of 2 pi (word + 0.5) / 2^32 to 2e-7 of their size.
HOIRT_HD inline SinCos sin_cos_of(std::uint32_t word) {
  const std::uint32_t eighth_on = word + 0x20000000U;  // its upper two bits: the nearest quarter turn
  const auto from_quarter = static_cast<float>(static_cast<std::int32_t>(word << 2));
  const float turn = std::fma(from_quarter, 0x1p-34F, 0x1p-33F);  // -1/8..1/8
  const float q = turn * turn;
  // sin(2 pi turn) / turn and cos(2 pi turn), again with the least largest errors: 2.8e-8 and 3.9e-8.
  float sine = std::fma(-76.7749557F, q, 81.6256256F);
  sine = std::fma(sine, q, -41.3418655F);
  sine = std::fma(sine, q, 6.28318548F) * turn;
  float cosine = std::fma(-83.6179123F, q, 64.9222107F);
  cosine = std::fma(cosine, q, -19.7391624F);
  cosine = std::fma(cosine, q, 1.0F);
  const bool odd = static_cast<std::int32_t>(eighth_on << 1) < 0;
  const auto signed_as = [](float value, std::uint32_t sign) {
    return __builtin_bit_cast(float, __builtin_bit_cast(std::uint32_t, value) ^ (sign & 0x80000000U));
  };
  return {signed_as(odd ? cosine : sine, eighth_on), signed_as(odd ? sine : cosine, eighth_on + 0x40000000U)};
}

struct NormalPair {
  float first, second;
};

// Two independent standard normals.
HOIRT_HD inline NormalPair box_muller(std::uint32_t first, std::uint32_t second) {
  const float radius = radius_of(first);
  const SinCos angle = sin_cos_of(second);
  return {radius * angle.cos, radius * angle.sin};
}

}  // namespace hoirt::kernels

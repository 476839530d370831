// Elements of memory in float32, float16 and bfloat16, and runs of them in one access of up to 16 bytes.
#pragma once

#include <cstdint>
#include <cstring>

#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

struct Half {
  std::uint16_t bits;
};
struct BFloat {
  std::uint16_t bits;
};

HOIRT_HD inline float to_float(float value) { return value; }

HOIRT_HD inline float to_float(BFloat value) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(value.bits) << 16);
}

HOIRT_HD inline float to_float(Half value) {
#ifdef __CUDA_ARCH__
  float out;
  asm("cvt.f32.f16 %0, %1;" : "=f"(out) : "h"(value.bits));
  return out;
#else
  const std::uint32_t sign = (value.bits & 0x8000U) << 16;
  const std::uint32_t magnitude = value.bits & 0x7FFFU;
  if (magnitude >= 0x7C00U) return __builtin_bit_cast(float, sign | 0x7F800000U | (magnitude & 0x3FFU) << 13);
  // The bits as those of a float that is 2^112 too small; subnormal ones come out right too.
  const float shifted = __builtin_bit_cast(float, magnitude << 13) * 0x1p112F;
  return __builtin_bit_cast(float, sign | __builtin_bit_cast(std::uint32_t, shifted));
#endif
}

// To the nearest, ties to even; too large becomes infinity, NaN stays NaN.
template <typename T>
HOIRT_HD T from_float(float value);

template <>
HOIRT_HD inline float from_float<float>(float value) {
  return value;
}

template <>
HOIRT_HD inline BFloat from_float<BFloat>(float value) {
#ifdef __CUDA_ARCH__
  BFloat out;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
  return out;
#else
  const auto bits = __builtin_bit_cast(std::uint32_t, value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return {static_cast<std::uint16_t>(bits >> 16 | 0x40U)};
  return {static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1U)) >> 16)};
#endif
}

template <>
HOIRT_HD inline Half from_float<Half>(float value) {
#ifdef __CUDA_ARCH__
  Half out;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(out.bits) : "f"(value));
  return out;
#else
  const auto bits = __builtin_bit_cast(std::uint32_t, value);
  const std::uint32_t sign = bits >> 16 & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  std::uint32_t out;
  if (magnitude > 0x7F800000U) {
    out = 0x7E00U;
  } else if (magnitude >= 0x477FF000U) {  // 65520 and above
    out = 0x7C00U;
  } else if (magnitude >= 0x38800000U) {  // normal: 2^-14 and above
    const std::uint32_t rounded = magnitude + 0xFFFU + (magnitude >> 13 & 1U);
    out = (rounded >> 13) - (112U << 10);
  } else {
    // Adding 0.5 rounds to a multiple of 2^-24, the step of subnormal numbers, in the low bits.
    const float shifted = __builtin_bit_cast(float, magnitude) + 0.5F;
    out = __builtin_bit_cast(std::uint32_t, shifted) - 0x3F000000U;
  }
  return {static_cast<std::uint16_t>(sign | out)};
#endif
}

// `count` elements that are read or written at once where their address is a multiple of their size.
template <typename T, int count>
struct alignas(sizeof(T) * count) Pack {
  T values[count];
};

// Whether every address is a multiple of `bytes`, a power of two; null is.
template <typename... Pointers>
HOIRT_HD bool aligned_to(std::uintptr_t bytes, const Pointers*... pointers) {
  std::uintptr_t bits = 0;
  ((bits |= reinterpret_cast<std::uintptr_t>(pointers)), ...);
  return (bits & (bytes - 1)) == 0;
}

}  // namespace hoirt::kernels

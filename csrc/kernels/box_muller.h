// Box-Muller normals from two random words, in float64 by +, -, *, / and sqrt alone: the same bits on every processor
// and device, and vector code where the compiler can make it, which no mathematics library promises.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

// The middle of the word's cell in (0, 1): never 0, so its logarithm is finite.
HOIRT_HD inline double to_uniform(std::uint32_t word) { return (static_cast<double>(word) + 0.5) * 0x1p-32; }

// Natural logarithm of a normal, positive double, to 1e-15 of its size.
HOIRT_HD inline double logarithm(double value) {
  constexpr double ln_2 = 0.693147180559945309417232121458;
  const std::uint64_t bits = __builtin_bit_cast(std::uint64_t, value);
  // value = m 2^e with m in [1/2 sqrt 2, sqrt 2): the offset moves the mantissa's wrap there.
  const std::uint64_t offset = bits + 0x00095F619980C434U;
  const double e = __builtin_bit_cast(double, (offset >> 52) | 0x4330000000000000U) - (0x1p52 + 1023.0);
  const double m = __builtin_bit_cast(double, (offset & 0x000FFFFFFFFFFFFFU) + 0x3FE6A09E667F3BCCU);
  // log m = 2 artanh s, s in -0.172 .. 0.172: eleven terms of its series.
  const double s = (m - 1.0) / (m + 1.0);
  const double q = s * s;
  double sum = 1.0 / 21.0;
  for (int k = 19; k >= 1; k -= 2) sum = sum * q + 1.0 / k;
  return e * ln_2 + 2.0 * s * sum;
}

struct SinCos {
  double sin, cos;
};

// Sine and cosine of 2 pi turn, turn in 0..1, to 1e-15.
HOIRT_HD inline SinCos sin_cos_of_turn(double turn) {
  constexpr double two_pi = 6.283185307179586476925286766559;
  constexpr double to_integer = 0x1.8p52;  // adding it rounds to the nearest integer, in the low bits
  const double shifted = 4.0 * turn + to_integer;
  const std::uint64_t quarter = __builtin_bit_cast(std::uint64_t, shifted) & 3U;
  const double a = two_pi * (turn - 0.25 * (shifted - to_integer));  // -pi/4 .. pi/4
  const double q = a * a;
  double sine = 1.0, cosine = 1.0;  // Horner's rule on both series, to the terms in a^17 and a^18
  for (int k = 16; k >= 2; k -= 2) sine = 1.0 - q * (1.0 / (k * (k + 1))) * sine;
  for (int k = 18; k >= 2; k -= 2) cosine = 1.0 - q * (1.0 / (k * (k - 1))) * cosine;
  sine *= a;
  const double s = quarter & 1U ? cosine : sine;
  const double c = quarter & 1U ? sine : cosine;
  return {quarter & 2U ? -s : s, (quarter + 1U) & 2U ? -c : c};
}

struct NormalPair {
  float first, second;
};

// Two independent standard normals.
HOIRT_HD inline NormalPair box_muller(std::uint32_t first, std::uint32_t second) {
  const double radius = std::sqrt(-2.0 * logarithm(to_uniform(first)));
  const SinCos angle = sin_cos_of_turn(to_uniform(second));
  return {static_cast<float>(radius * angle.cos), static_cast<float>(radius * angle.sin)};
}

}  // namespace hoirt::kernels

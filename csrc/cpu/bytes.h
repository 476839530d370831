// bfloat16 values as unsigned bytes around 128, for products with signed bytes. For files built for AVX512-VNNI.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/cpu/bf16.h"

namespace hoirt::cpu {

// Whether this processor has the instructions, and this build the code.
bool multiplies_int8();

}  // namespace hoirt::cpu

namespace hoirt::cpu::bytes {

constexpr float largest = 127;
constexpr std::int32_t middle = 128;

}  // namespace hoirt::cpu::bytes

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512vnni,fma")

namespace hoirt::cpu::bytes {

// The largest magnitude; bfloat16 without its sign is in the order of its bits. `count` is a multiple of 32.
inline float most_of(const Bf16* values, std::int64_t count) {
  const __m512i magnitude = _mm512_set1_epi16(0x7FFF);
  __m512i most = _mm512_setzero_si512();
  for (std::int64_t i = 0; i < count; i += 32) {
    most = _mm512_max_epu16(most, _mm512_and_si512(_mm512_loadu_si512(values + i), magnitude));
  }
  const __m512i low = _mm512_and_si512(most, _mm512_set1_epi32(0xFFFF));
  const __m512i high = _mm512_srli_epi32(most, 16);
  return float_of(static_cast<Bf16>(_mm512_reduce_max_epu32(_mm512_max_epu32(low, high))));
}

// Writes round(value / scale) + 128 with the scale that uses all of a byte, and returns that. Of an infinity or a NaN the
// scale is one too, so that it shows.
inline float quantise(const Bf16* values, std::int64_t count, std::uint8_t* to) {
  const float most = most_of(values, count);
  const bool usual = most > 1e-30F && std::isfinite(most);
  const __m512 by = _mm512_set1_ps(usual ? largest / most : 0.0F);
  const __m128i flip = _mm_set1_epi8(static_cast<char>(middle));
  for (std::int64_t i = 0; i < count; i += 16) {
    const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(lanes::load(values + i), by));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm_xor_si128(_mm512_cvtsepi32_epi8(whole), flip));
  }
  return usual ? most / largest : most;
}

// Adds the products of four bytes, the same in every lane, with sixteen times four signed ones.
inline __m512i add_products(__m512i sum, const std::uint8_t* four, __m512i others) {
  int all;
  __builtin_memcpy(&all, four, sizeof all);
  return _mm512_dpbusd_epi32(sum, _mm512_set1_epi32(all), others);
}

// Adds to `sum` the products of `Rows` rows, `stride` bytes apart, with a panel of 32 columns: (Rows, 4 quads) times
// (quads, 32, 4).
template <int Rows>
[[gnu::always_inline]] inline void add_products(const std::uint8_t* rows, std::int64_t stride, const std::int8_t* panel,
                                                std::int64_t quads, __m512i (&sum)[Rows][2]) {
  for (std::int64_t quad = 0; quad < quads; ++quad) {
    const __m512i low = _mm512_loadu_si512(panel + 128 * quad), high = _mm512_loadu_si512(panel + 128 * quad + 64);
#pragma GCC unroll 12
    for (int row = 0; row < Rows; ++row) {
      sum[row][0] = add_products(sum[row][0], rows + row * stride + 4 * quad, low);
      sum[row][1] = add_products(sum[row][1], rows + row * stride + 4 * quad, high);
    }
  }
}

}  // namespace hoirt::cpu::bytes

#pragma GCC pop_options
#endif

// bfloat16 in memory and in 512-bit registers. Functions that use registers are for files built for AVX512-BF16.
#pragma once

#include <bit>
#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HOIRT_AVX512_BF16 1
#include <immintrin.h>
#else
#define HOIRT_AVX512_BF16 0
#endif

namespace hoirt::cpu {

using Bf16 = std::uint16_t;

inline float float_of(Bf16 value) { return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16); }

// To nearest, ties to even; a NaN stays one.
inline Bf16 bf16_of(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (value != value) return static_cast<Bf16>((bits >> 16) | 0x40u);
  return static_cast<Bf16>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

// Whether this processor multiplies bfloat16 in 512-bit registers, and this build has the code for it.
inline bool multiplies_bf16() {
#if HOIRT_AVX512_BF16
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
  return false;
#endif
}

}  // namespace hoirt::cpu

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")

namespace hoirt::cpu::lanes {

inline __m512 load(const Bf16* from) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

inline void store(Bf16* to, __m512 value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
}

inline __m512bh load_pairs(const Bf16* from) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(from)); }

// Two neighbours in every lane.
inline __m512bh broadcast_pair(const Bf16* from) {
  int both;
  __builtin_memcpy(&both, from, sizeof both);
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(both));
}

// Adds to `sum` the products of `Rows` rows, `stride` values apart, with a panel of 32 columns: (Rows, 2 pairs) times
// (pairs, 32, 2).
template <int Rows>
[[gnu::always_inline]] inline void add_products(const Bf16* rows, std::int64_t stride, const Bf16* panel, std::int64_t pairs,
                                                __m512 (&sum)[Rows][2]) {
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    const __m512bh low = load_pairs(panel + 64 * pair), high = load_pairs(panel + 64 * pair + 32);
#pragma GCC unroll 12
    for (int row = 0; row < Rows; ++row) {
      const __m512bh two = broadcast_pair(rows + row * stride + 2 * pair);
      sum[row][0] = _mm512_dpbf16_ps(sum[row][0], two, low);
      sum[row][1] = _mm512_dpbf16_ps(sum[row][1], two, high);
    }
  }
}

// Lane by lane (a, b).
inline __m512i paired(__m512 a, __m512 b) {
  alignas(64) static constexpr std::uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                          8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(order), reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a)));
}

// 2^x, relative error 2e-7 between -126 and 128, 0 far below: a polynomial on -0.5 .. 0.5, scaled by the exponent.
inline __m512 exp2(__m512 x) {
  const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 part = _mm512_sub_ps(x, whole);
  __m512 sum = _mm512_set1_ps(1.53458118e-4F);
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(1.33999314e-3F));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(9.61848896e-3F));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(5.55032878e-2F));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(2.40226469e-1F));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(6.93147206e-1F));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(1.0F));
  return _mm512_scalef_ps(sum, whole);
}

// The same to 8e-5, more than bfloat16 keeps: a polynomial on 0 .. 1.
inline __m512 exp2_short(__m512 x) {
  const __m512 part = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 sum = _mm512_set1_ps(7.802398e-2F);
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(2.2606702e-1F));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(6.9583408e-1F));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(9.9992511e-1F));
  return _mm512_scalef_ps(sum, x);
}

// The same to 1.8e-3, which is half of a 255th.
inline __m512 exp2_byte(__m512 x) {
  const __m512 part = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  __m512 sum = _mm512_set1_ps(3.3718437e-1F);
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(6.5763301e-1F));
  sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(1.00172737F));
  return _mm512_scalef_ps(sum, x);
}

}  // namespace hoirt::cpu::lanes

#pragma GCC pop_options
#endif

// Winograd's transforms of one row: pixels to taps and taps to pixels.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "csrc/cpu/bf16.h"

namespace hoirt::cpu::winograd {

// The taps of a row of three weights, as weights of these.
template <std::size_t Taps>
using OfWeights = std::array<std::array<float, 3>, Taps>;

// F(2, 3): two pixels from four. Lavin and Gray, 2015.
struct Two {
  static constexpr int pixels_in = 4, taps = 4, pixels_out = 2, step = 2;  // step: from a tile's input to the next one's
  static constexpr OfWeights<taps> weights = {{{1, 0, 0}, {.5F, .5F, .5F}, {.5F, -.5F, .5F}, {0, 0, 1}}};
  static constexpr bool is_zero(std::int64_t) { return false; }
};

// F(4, 3): four pixels from six. Interpolates at 0, +-a, +-b and infinity: of all small fractions these lose the least
// when taps are rounded, less than half of what the usual 1 and 2 lose.
struct Four {
  static constexpr int pixels_in = 6, taps = 6, pixels_out = 4, step = 4;
  static constexpr float a = 0.625F, b = 1.5F, aa = a * a, bb = b * b;
  static constexpr float of_a = 1 / (2 * aa * (aa - bb)), of_b = 1 / (2 * bb * (bb - aa));
  static constexpr OfWeights<taps> weights = {{{1 / (aa * bb), 0, 0},
                                               {of_a, a * of_a, aa * of_a},
                                               {of_a, -a * of_a, aa * of_a},
                                               {of_b, b * of_b, bb * of_b},
                                               {of_b, -b * of_b, bb * of_b},
                                               {0, 0, 1}}};
  static constexpr bool is_zero(std::int64_t) { return false; }
};

// F(2, 3) where the input's pixels count twice: a, b, c stand for a, b, b, c. The third tap is a difference of equals.
struct TwoOfDoubled {
  static constexpr int pixels_in = 3, taps = 4, pixels_out = 2, step = 1;
  static constexpr OfWeights<taps> weights = Two::weights;
  static constexpr bool is_zero(std::int64_t tap) { return tap == 2; }
};

#if HOIRT_AVX512_BF16
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")

// In place, `Stride` apart: pixels_in pixels to taps; the taps of zero are left alone.
template <int Stride>
void forward(Two, __m512* d) {
  __m512 &d0 = d[0], &d1 = d[Stride], &d2 = d[2 * Stride], &d3 = d[3 * Stride];
  const __m512 first = _mm512_sub_ps(d0, d2), second = _mm512_add_ps(d1, d2), third = _mm512_sub_ps(d2, d1);
  d3 = _mm512_sub_ps(d1, d3);
  d0 = first, d1 = second, d2 = third;
}

template <int Stride>
void forward(TwoOfDoubled, __m512* d) {
  __m512 &d0 = d[0], &d1 = d[Stride];
  d[3 * Stride] = _mm512_sub_ps(d1, d[2 * Stride]);
  d0 = _mm512_sub_ps(d0, d1), d1 = _mm512_add_ps(d1, d1);
}

template <int Stride>
void forward(Four, __m512* d) {
  __m512 &d0 = d[0], &d1 = d[Stride], &d2 = d[2 * Stride], &d3 = d[3 * Stride], &d4 = d[4 * Stride], &d5 = d[5 * Stride];
  const __m512 a = _mm512_set1_ps(Four::a), b = _mm512_set1_ps(Four::b);
  const __m512 aa = _mm512_set1_ps(Four::aa), bb = _mm512_set1_ps(Four::bb);
  const __m512 sum = _mm512_set1_ps(Four::aa + Four::bb), product = _mm512_set1_ps(Four::aa * Four::bb);
  const __m512 even_a = _mm512_fnmadd_ps(bb, d2, d4), odd_a = _mm512_fnmadd_ps(bb, d1, d3);
  const __m512 even_b = _mm512_fnmadd_ps(aa, d2, d4), odd_b = _mm512_fnmadd_ps(aa, d1, d3);
  d0 = _mm512_fmadd_ps(product, d0, _mm512_fnmadd_ps(sum, d2, d4));
  d5 = _mm512_fmadd_ps(product, d1, _mm512_fnmadd_ps(sum, d3, d5));
  d1 = _mm512_fmadd_ps(a, odd_a, even_a), d2 = _mm512_fnmadd_ps(a, odd_a, even_a);
  d3 = _mm512_fmadd_ps(b, odd_b, even_b), d4 = _mm512_fnmadd_ps(b, odd_b, even_b);
}

inline __m512 weighted(float a, __m512 of_a, float b, __m512 of_b) {
  return _mm512_fmadd_ps(_mm512_set1_ps(a), of_a, _mm512_mul_ps(_mm512_set1_ps(b), of_b));
}

// In place, `Stride` apart: taps to pixels_out pixels.
template <int Stride>
void backward(Two, __m512* m) {
  __m512 &m0 = m[0], &m1 = m[Stride];
  const __m512 m2 = m[2 * Stride];
  m0 = _mm512_add_ps(_mm512_add_ps(m0, m1), m2);
  m1 = _mm512_sub_ps(_mm512_sub_ps(m1, m2), m[3 * Stride]);
}

template <int Stride>
void backward(TwoOfDoubled, __m512* m) {
  __m512 &m0 = m[0], &m1 = m[Stride];
  m0 = _mm512_add_ps(m0, m1), m1 = _mm512_sub_ps(m1, m[3 * Stride]);
}

template <int Stride>
void backward(Four, __m512* m) {
  __m512 &m0 = m[0], &m1 = m[Stride], &m2 = m[2 * Stride], &m3 = m[3 * Stride];
  const __m512 m4 = m[4 * Stride], m5 = m[5 * Stride];
  const __m512 even_a = _mm512_add_ps(m1, m2), odd_a = _mm512_sub_ps(m1, m2);
  const __m512 even_b = _mm512_add_ps(m3, m4), odd_b = _mm512_sub_ps(m3, m4);
  m0 = _mm512_add_ps(m0, _mm512_add_ps(even_a, even_b));
  m1 = weighted(Four::a, odd_a, Four::b, odd_b);
  m2 = weighted(Four::aa, even_a, Four::bb, even_b);
  m3 = _mm512_add_ps(m5, weighted(Four::a * Four::aa, odd_a, Four::b * Four::bb, odd_b));
}

#pragma GCC pop_options
#endif

}  // namespace hoirt::cpu::winograd

// Attention in bfloat16 without the table of scores: keys pass by in blocks, with a running maximum.
#pragma once

#include <cstdint>

#include "csrc/cpu/bf16.h"
#include "csrc/cpu/parallel.h"

namespace hoirt::cpu {

// out = softmax(q k^T * scale) v, for every head of every item.
struct Attention {
  std::int64_t batch = 0, queries = 0, keys = 0, heads = 0;
  std::int64_t size = 0;  // of a head, a multiple of 8
  float scale = 1;
  const Bf16* q = nullptr;  // (batch, queries, heads, size)
  const Bf16* k = nullptr;  // (batch, keys, heads, size)
  const Bf16* v = nullptr;  // (batch, keys, heads, size)
  Bf16* output = nullptr;   // like q
};

// Scores, maxima and sums are float32; probabilities are rounded to bfloat16 before they meet the values. The bits do
// not depend on the threads. Needs multiplies_bf16(). Milakov and Gimelshein, "Online normalizer calculation for
// softmax", 2018; Dao et al., "FlashAttention", 2022.
void attention(const Attention& attention, const Parallel& parallel);

}  // namespace hoirt::cpu

// Philox normals on the CPU, in runs of blocks: the functor's steps one after another, each as vector code.
#include <algorithm>
#include <array>

#include "csrc/cpu/launchers.h"
#include "csrc/cpu/vector_widths.h"
#include "csrc/kernels/philox.h"

namespace hoirt::cpu {
namespace {

constexpr std::size_t run = 256;  // blocks of four normals
using Words = std::array<std::array<std::uint32_t, run>, 4>;
using Normals = std::array<std::array<float, run>, 4>;

HOIRT_VECTOR_WIDTHS
void draw_words(std::uint64_t seed, std::uint32_t stream, std::uint64_t first_block, Words& words) {
#pragma GCC ivdep
  for (std::size_t i = 0; i < run; ++i) {
    const auto drawn = kernels::philox_words(seed, stream, first_block + i);
    words[0][i] = drawn.word[0];
    words[1][i] = drawn.word[1];
    words[2][i] = drawn.word[2];
    words[3][i] = drawn.word[3];
  }
}

HOIRT_VECTOR_WIDTHS
void make_pairs(const std::array<std::uint32_t, run>& a, const std::array<std::uint32_t, run>& b,
                std::array<float, run>& first, std::array<float, run>& second) {
#pragma GCC ivdep
  for (std::size_t i = 0; i < run; ++i) {
    const auto pair = kernels::box_muller(a[i], b[i]);
    first[i] = pair.first;
    second[i] = pair.second;
  }
}

}  // namespace

void philox_normals(std::uint64_t seed, std::uint32_t stream, std::int64_t first_block, std::int64_t count, float* out) {
  constexpr std::int64_t run_elements = 4 * static_cast<std::int64_t>(run);
  Words words;
  Normals normals;
  for (std::int64_t begin = 0; begin < count; begin += run_elements) {
    draw_words(seed, stream, static_cast<std::uint64_t>(first_block + begin / 4), words);
    make_pairs(words[0], words[1], normals[0], normals[1]);
    make_pairs(words[2], words[3], normals[2], normals[3]);
    const auto elements = static_cast<std::size_t>(std::min(run_elements, count - begin));
    for (std::size_t i = 0; i < elements; ++i) out[static_cast<std::size_t>(begin) + i] = normals[i % 4][i / 4];
  }
}

Tensor philox_normal(std::uint64_t seed, std::uint32_t stream, const Shape& shape) {
  Tensor out(shape, DType::f32);
  philox_normals(seed, stream, 0, static_cast<std::int64_t>(out.size()), out.data<float>());
  return out;
}

}  // namespace hoirt::cpu

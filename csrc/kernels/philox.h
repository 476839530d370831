// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) and Box-Muller normals.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

struct PhiloxWords {
  std::uint32_t word[4];
};

HOIRT_HD inline PhiloxWords philox4x32(PhiloxWords counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t left = std::uint64_t{0xD2511F53u} * counter.word[0];
    const std::uint64_t right = std::uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(right >> 32) ^ counter.word[1] ^ key0, static_cast<std::uint32_t>(right),
                static_cast<std::uint32_t>(left >> 32) ^ counter.word[3] ^ key1, static_cast<std::uint32_t>(left)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// The middle of the word's cell in (0, 1): never 0, so its logarithm is finite.
HOIRT_HD inline double to_uniform(std::uint32_t word) { return (static_cast<double>(word) + 0.5) * 0x1p-32; }

HOIRT_HD inline void box_muller(std::uint32_t first, std::uint32_t second, float* out) {
  constexpr double two_pi = 6.283185307179586476925286766559;
  const double radius = std::sqrt(-2.0 * std::log(to_uniform(first)));
  const double angle = two_pi * to_uniform(second);
  out[0] = static_cast<float>(radius * std::cos(angle));
  out[1] = static_cast<float>(radius * std::sin(angle));
}

// Standard normals of elements 4 block .. 4 block + 3 of one item.
HOIRT_HD inline void philox_normal4(std::uint64_t seed, std::uint32_t stream, std::int64_t block, float out[4]) {
  const auto index = static_cast<std::uint64_t>(block);
  const PhiloxWords counter{{static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32), stream, 0}};
  const PhiloxWords words =
      philox4x32(counter, static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  box_muller(words.word[0], words.word[1], out);
  box_muller(words.word[2], words.word[3], out + 2);
}

// One item's normals in memory: element i of stream `stream` under `seed`.
struct PhiloxFill {
  std::uint64_t seed = 0;
  std::uint32_t stream = 0;
  float* out = nullptr;
  std::int64_t size = 0;

  HOIRT_HD void operator()(std::int64_t block) const {
    float four[4];
    philox_normal4(seed, stream, block, four);
    for (std::int64_t k = 0; k < 4 && 4 * block + k < size; ++k) out[4 * block + k] = four[k];
  }
};

}  // namespace hoirt::kernels

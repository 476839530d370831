// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011) and the normals made of it.
#pragma once

#include <cstdint>

#include "csrc/kernels/box_muller.h"
#include "csrc/kernels/element.h"
#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

struct PhiloxWords {
  std::uint32_t word[4];
};

// The upper half of the product.
HOIRT_HD inline std::uint32_t multiply_high(std::uint32_t a, std::uint32_t b) {
#ifdef __CUDA_ARCH__
  return __umulhi(a, b);  // of 64 bits nvcc would make sums of zeros too
#else
  return static_cast<std::uint32_t>(std::uint64_t{a} * b >> 32);
#endif
}

HOIRT_HD inline PhiloxWords philox4x32(PhiloxWords counter, std::uint32_t key0, std::uint32_t key1) {
  constexpr std::uint32_t left = 0xD2511F53u, right = 0xCD9E8D57u;
  for (int round = 0; round < 10; ++round) {
    counter = {{multiply_high(right, counter.word[2]) ^ counter.word[1] ^ key0, right * counter.word[2],
                multiply_high(left, counter.word[0]) ^ counter.word[3] ^ key1, left * counter.word[0]}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// The four words of block `block` of the stream `stream` under `seed`.
HOIRT_HD inline PhiloxWords philox_words(std::uint64_t seed, std::uint32_t stream, std::uint64_t block) {
  const PhiloxWords counter{{static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), stream, 0}};
  return philox4x32(counter, static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
}

// Standard normals of elements 4 block .. 4 block + 3 of one item.
HOIRT_HD inline void philox_normal4(std::uint64_t seed, std::uint32_t stream, std::int64_t block, float out[4]) {
  const PhiloxWords words = philox_words(seed, stream, static_cast<std::uint64_t>(block));
  const NormalPair low = box_muller(words.word[0], words.word[1]);
  const NormalPair high = box_muller(words.word[2], words.word[3]);
  out[0] = low.first, out[1] = low.second, out[2] = high.first, out[3] = high.second;
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
    if (block < size / 4 && aligned_to(16, out)) {
      *reinterpret_cast<Pack<float, 4>*>(out + 4 * block) = {{four[0], four[1], four[2], four[3]}};
      return;
    }
    for (std::int64_t k = 0; k < 4 && 4 * block + k < size; ++k) out[4 * block + k] = four[k];
  }
};

}  // namespace hoirt::kernels

// Guided step, Philox normals and the finite check on the CPU.
#include <cmath>

#include "csrc/cpu/launchers.h"

namespace hoirt::cpu {

void guided_step(const kernels::GuidedStep& step) {
  const std::int64_t blocks = step.blocks();
  for (std::int64_t item = 0; item < step.items; ++item) {
    for (std::int64_t block = 0; block < blocks; ++block) step(item, block);
  }
}

Tensor philox_normal(std::uint64_t seed, std::uint32_t stream, const Shape& shape) {
  Tensor out(shape, DType::f32);
  const auto size = static_cast<std::int64_t>(out.size());
  const kernels::PhiloxFill fill{seed, stream, out.data<float>(), size};
  for (std::int64_t block = 0; 4 * block < size; ++block) fill(block);
  return out;
}

bool all_finite(const float* values, std::size_t count) {
  bool finite = true;
  for (std::size_t i = 0; i < count; ++i) finite &= std::isfinite(values[i]);
  return finite;
}

}  // namespace hoirt::cpu

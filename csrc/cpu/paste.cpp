// Paste on the CPU, with its checks.
#include "csrc/kernels/paste.h"

#include <algorithm>
#include <span>
#include <string>

#include "csrc/cpu/launchers.h"

namespace hoirt::cpu {
namespace {

void check(const Tensor& picture, const Tensor& patch, const Tensor& alpha) {
  if (picture.rank() != 3 || picture.dim(2) != 3) {
    throw InputError("picture must have shape (H, W, 3), not " + to_string(picture.shape()));
  }
  if (patch.rank() != 3 || patch.dim(2) != 3) {
    throw InputError("patch must have shape (h, w, 3), not " + to_string(patch.shape()));
  }
  if (alpha.shape() != Shape{patch.dim(0), patch.dim(1)}) {
    throw InputError("alpha must have the patch's height and width " + to_string(Shape{patch.dim(0), patch.dim(1)}) +
                     ", not " + to_string(alpha.shape()));
  }
  if (!all_finite(patch.data<float>(), patch.size())) throw InputError("patch holds NaN or infinity");
  const std::span<const float> weights(alpha.data<float>(), alpha.size());
  if (!std::ranges::all_of(weights, [](float a) { return a >= 0.0f && a <= 1.0f; })) {
    throw InputError("alpha must lie in 0..1");
  }
}

}  // namespace

void paste(const kernels::Paste& kernel) {
  // Only the rows and columns that meet the picture; the far corner is compared without adding to `top`, which may be huge.
  const auto first = [](std::int64_t offset) { return offset < 0 ? (offset == INT64_MIN ? INT64_MAX : -offset) : 0; };
  const auto last = [](std::int64_t offset, std::int64_t extent, std::int64_t size) {
    return offset >= extent ? 0 : offset < extent - size ? size : extent - offset;
  };
  const std::int64_t rows = last(kernel.top, kernel.height, kernel.patch_height);
  const std::int64_t columns = last(kernel.left, kernel.width, kernel.patch_width);
  for (std::int64_t row = first(kernel.top); row < rows; ++row) {
    for (std::int64_t column = first(kernel.left); column < columns; ++column) kernel(row, column);
  }
}

Tensor paste(const Tensor& picture, const Tensor& patch, const Tensor& alpha, std::int64_t top, std::int64_t left) {
  check(picture, patch, alpha);
  Tensor out(picture.shape(), DType::u8);
  std::ranges::copy_n(picture.data<std::uint8_t>(), static_cast<std::ptrdiff_t>(picture.size()),
                      out.data<std::uint8_t>());
  paste({out.data<std::uint8_t>(), patch.data<float>(), alpha.data<float>(), out.dim(0), out.dim(1), patch.dim(0),
         patch.dim(1), top, left});
  return out;
}

}  // namespace hoirt::cpu

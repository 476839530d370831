// Convolves before it enlarges: less than half the work of a convolution on a picture of doubled pixels.
#include "csrc/openvino/upsample_conv.h"

#include <array>
#include <memory>
#include <openvino/opsets/opset13.hpp>
#include <vector>

#include "csrc/openvino/convolution.h"
#include "csrc/openvino/doubled_pixels.h"

namespace hoirt::openvino {
namespace {

using ov::opset13::Add;
using ov::opset13::Constant;
using ov::opset13::Convolution;

using Fold = std::array<std::array<float, 3>, 2>;
// Even outputs see the pixels i-1, i, i; odd ones i, i, i+1.
constexpr std::array<Fold, 2> folds = {{{{{1, 0, 0}, {0, 1, 1}}}, {{{1, 1, 0}, {0, 0, 1}}}}};

// The 2x2 kernels of the outputs at rows of parity `y` and columns of parity `x`.
std::shared_ptr<Constant> folded(const std::vector<float>& weights, const ov::Shape& shape, std::size_t y,
                                 std::size_t x) {
  const std::size_t kernels = shape[0] * shape[1];
  std::vector<float> sums(kernels * 4, 0.0F);
  for (std::size_t kernel = 0; kernel < kernels; ++kernel) {
    for (std::size_t tap = 0; tap < 4 * 9; ++tap) {
      const std::size_t to = tap / 9, row = tap % 9 / 3, column = tap % 3;
      sums[kernel * 4 + to] += folds[y][to / 2][row] * folds[x][to % 2][column] * weights[kernel * 9 + tap % 9];
    }
  }
  return Constant::create(ov::element::f32, {shape[0], shape[1], 2, 2}, sums);
}

void shrink(const std::shared_ptr<Convolution>& node, const ov::Output<ov::Node>& small, const Constant& weights) {
  const auto values = weights.cast_vector<float>();
  const auto with_bias = biased(*node, weights.get_shape()[0]);
  ov::OutputVector parts;
  for (const std::ptrdiff_t y : {0, 1}) {
    for (const std::ptrdiff_t x : {0, 1}) {
      const auto kernel = folded(values, weights.get_shape(), static_cast<std::size_t>(y), static_cast<std::size_t>(x));
      ov::Output<ov::Node> part = std::make_shared<Convolution>(
          small, kernel, ov::Strides{1, 1}, ov::CoordinateDiff{1 - y, 1 - x}, ov::CoordinateDiff{y, x},
          ov::Strides{1, 1});
      if (with_bias) part = std::make_shared<Add>(part, with_bias->bias);
      parts.push_back(part);
    }
  }
  const auto side_by_side = std::make_shared<ov::opset13::Concat>(parts, 1);
  const auto large = std::make_shared<ov::opset13::DepthToSpace>(
      side_by_side, ov::opset13::DepthToSpace::DepthToSpaceMode::BLOCKS_FIRST, 2);
  const std::shared_ptr<ov::Node> old = with_bias ? with_bias->sum : node;
  large->set_friendly_name(old->get_friendly_name());
  old->output(0).replace(large);
}

}  // namespace

void shrink_upsampled_convolutions(ov::Model& model) {
  for (const auto& op : model.get_ordered_ops()) {
    const auto node = ov::as_type_ptr<Convolution>(op);
    const auto weights = node ? stored_floats(node->input_value(1)) : nullptr;
    if (!weights || !is_plain_3x3(*node, weights->get_shape())) continue;
    if (const auto small = before_doubling(node->input_value(0)); small.get_node()) shrink(node, small, *weights);
  }
}

}  // namespace hoirt::openvino

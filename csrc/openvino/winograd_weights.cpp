// Packs weights when a model is read, and hands them to the kernel when a node runs.
#include "csrc/openvino/winograd_weights.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "csrc/cpu/winograd_int8.h"
#include "csrc/openvino/convolution.h"
#include "csrc/openvino/quantised.h"
#include "csrc/openvino/threads.h"

namespace hoirt::openvino {
namespace {

using ov::opset13::Constant;
using ov::opset13::Convolution;

constexpr std::size_t few_channels = 128;  // below, the products are too few to pay for the transforms
// Wider layers see small pictures: larger tiles would save 3 % of a step of SD1.5 there and take 2.7 GB of weights.
constexpr std::size_t most_channels_of_large_tiles = 640;
constexpr auto block = static_cast<std::size_t>(cpu::winograd_channels);

ov::OutputVector halves(const std::vector<float>& weights, const ov::Shape& shape, std::int64_t tile) {
  const auto taps = static_cast<std::size_t>(cpu::taps_of_tile(tile));
  ov::Tensor packed(ov::element::bf16, {taps, shape[0] / block, shape[1] / 2, 2 * block});
  cpu::pack_winograd_weights(weights.data(), static_cast<std::int64_t>(shape[0]), static_cast<std::int64_t>(shape[1]), tile,
                             static_cast<cpu::Bf16*>(packed.data()), on_threads);
  return {std::make_shared<Constant>(packed)};
}

ov::OutputVector bytes(const std::vector<float>& weights, const ov::Shape& shape) {
  ov::Tensor values(ov::element::i8, {16, shape[0] / block, shape[1] / 4, 4 * block});
  ov::Tensor scales(ov::element::f32, {16, shape[0]}), offsets(ov::element::i32, {16, shape[0]});
  cpu::pack_winograd_int8(weights.data(), static_cast<std::int64_t>(shape[0]), static_cast<std::int64_t>(shape[1]),
                          values.data<std::int8_t>(), scales.data<float>(), offsets.data<std::int32_t>(), on_threads);
  return {std::make_shared<Constant>(values), std::make_shared<Constant>(scales), std::make_shared<Constant>(offsets)};
}

}  // namespace

std::optional<WinogradConvolution> winograd_convolution(const Convolution& node) {
  const auto extents = node.get_input_partial_shape(1);
  if (extents.is_dynamic() || !is_plain_3x3(node, extents.to_shape())) return std::nullopt;
  const ov::Shape weights = extents.to_shape();
  const bool fits = weights[0] % block == 0 && weights[1] % block == 0 && std::min(weights[0], weights[1]) >= few_channels;
  if (!fits) return std::nullopt;
  const auto unrounded = before_quantising(node.input_value(0));
  const bool int8 = unrounded.get_node() && cpu::multiplies_int8();
  return WinogradConvolution{int8 ? unrounded : node.input_value(0), weights, int8};
}

ov::OutputVector packed_weights(const Convolution& node, bool int8, bool doubled) {
  const auto weights = int8 ? dequantised(node.input_value(1)) : stored_floats(node.input_value(1));
  if (!weights) return {};
  const auto values = weights->cast_vector<float>();
  if (int8) return bytes(values, weights->get_shape());
  const bool large = !doubled && weights->get_shape()[0] <= most_channels_of_large_tiles;
  return halves(values, weights->get_shape(), large ? 4 : 2);
}

void convolve(cpu::WinogradJob job, const ov::TensorVector& inputs, std::size_t first) {
  if (inputs[first].get_element_type() == ov::element::bf16) {
    job.tile = cpu::tile_of_taps(static_cast<std::int64_t>(inputs[first].get_shape()[0]));
    return cpu::winograd_conv(job, static_cast<const cpu::Bf16*>(inputs[first].data()), on_threads);
  }
  const cpu::WinogradInt8 weights{inputs[first].data<const std::int8_t>(), inputs[first + 1].data<const float>(),
                                  inputs[first + 2].data<const std::int32_t>()};
  cpu::winograd_int8(job, weights, on_threads);
}

std::shared_ptr<Constant> floats(const std::vector<float>& values) {
  return Constant::create(ov::element::f32, {values.size()}, values);
}

}  // namespace hoirt::openvino

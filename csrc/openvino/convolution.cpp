// What rewrites of convolutions ask of them.
#include "csrc/openvino/convolution.h"

namespace hoirt::openvino {
namespace {

using ov::opset13::Add;
using ov::opset13::Constant;
using ov::opset13::Convolution;

}  // namespace

std::shared_ptr<Constant> stored_floats(const ov::Output<ov::Node>& output) {
  auto node = output.get_node_shared_ptr();
  if (output.get_element_type() != ov::element::f32) return nullptr;
  if (ov::is_type<ov::opset13::Convert>(node)) node = node->get_input_node_shared_ptr(0);
  auto constant = ov::as_type_ptr<Constant>(node);
  return constant && constant->get_element_type().is_real() ? constant : nullptr;
}

bool is_plain_3x3(const Convolution& node, const ov::Shape& weights) {
  return weights.size() == 4 && weights[2] == 3 && weights[3] == 3 && node.get_strides() == ov::Strides{1, 1} &&
         node.get_dilations() == ov::Strides{1, 1} && node.get_auto_pad() == ov::op::PadType::EXPLICIT &&
         node.get_pads_begin() == ov::CoordinateDiff{1, 1} && node.get_pads_end() == ov::CoordinateDiff{1, 1};
}

bool is_plain_1x1(const Convolution& node) {
  const auto& weights = node.get_input_partial_shape(1);
  return weights.rank() == 4 && weights[2] == 1 && weights[3] == 1 && node.get_strides() == ov::Strides{1, 1} &&
         node.get_auto_pad() == ov::op::PadType::EXPLICIT && node.get_pads_begin() == ov::CoordinateDiff{0, 0} &&
         node.get_pads_end() == ov::CoordinateDiff{0, 0};
}

std::optional<Biased> biased(const Convolution& node, std::size_t channels) {
  std::optional<Biased> found;
  for (const auto& user : node.get_output_target_inputs(0)) {
    if (ov::is_type<ov::opset13::ShapeOf>(user.get_node())) continue;
    if (found || !ov::is_type<Add>(user.get_node())) return std::nullopt;
    auto bias = user.get_node()->get_input_node_shared_ptr(1 - user.get_index());
    if (ov::is_type<ov::opset13::Reshape>(bias)) bias = bias->get_input_node_shared_ptr(0);
    const auto values = ov::as_type_ptr<Constant>(bias);
    const auto rank = user.get_node()->get_input_partial_shape(1 - user.get_index()).rank();
    if (!values || rank.is_dynamic() || rank.get_length() != 4) return std::nullopt;
    if (ov::shape_size(values->get_shape()) != channels) return std::nullopt;
    found = {user.get_node()->shared_from_this(), std::make_shared<Constant>(*values, ov::Shape{1, channels, 1, 1})};
  }
  return found;
}

}  // namespace hoirt::openvino

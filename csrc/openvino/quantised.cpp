// Walks back along the nodes that the reader of ONNX files makes of the two operators.
#include "csrc/openvino/quantised.h"

#include <openvino/opsets/opset13.hpp>

#include "csrc/openvino/fold.h"

namespace hoirt::openvino {
namespace {

using ov::opset13::Constant;
using ov::opset13::Convert;
using ov::opset13::FakeQuantize;
using ov::opset13::Multiply;
using ov::opset13::Subtract;

// The integers in (integers [- zero]) * scale, the form of DequantizeLinear; no node for other expressions.
ov::Output<ov::Node> integers(const ov::Output<ov::Node>& output) {
  if (!ov::is_type<Multiply>(output.get_node())) return {};
  auto value = output.get_node()->input_value(0);
  if (ov::is_type<Subtract>(value.get_node())) value = value.get_node()->input_value(0);
  if (!ov::is_type<Convert>(value.get_node())) return {};
  return value.get_node()->input_value(0);
}

}  // namespace

bool dequantises(const ov::Output<ov::Node>& output) {
  const auto values = integers(output);
  const bool stored = values.get_node() && ov::is_type<Constant>(values.get_node());
  return stored && values.get_element_type() == ov::element::i8;
}

std::shared_ptr<Constant> dequantised(const ov::Output<ov::Node>& output) {
  return dequantises(output) ? fold(output, {}) : nullptr;
}

ov::Output<ov::Node> before_quantising(const ov::Output<ov::Node>& output) {
  const auto bytes = integers(output);
  if (!bytes.get_node() || !ov::is_type<Convert>(bytes.get_node())) return {};
  const auto rounded = bytes.get_node()->get_input_node_shared_ptr(0);
  return ov::is_type<FakeQuantize>(rounded) ? rounded->input_value(0) : ov::Output<ov::Node>{};
}

}  // namespace hoirt::openvino

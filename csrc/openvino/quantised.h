// What ONNX's QuantizeLinear and DequantizeLinear become in OpenVINO, and what stood before them.
#pragma once

#include <memory>
#include <openvino/op/constant.hpp>

namespace hoirt::openvino {

// Whether the output is stored int8 weights times their scales.
bool dequantises(const ov::Output<ov::Node>& output);

// The float values of such weights; null for other expressions.
std::shared_ptr<ov::op::v0::Constant> dequantised(const ov::Output<ov::Node>& output);

// What is rounded to bytes and turned back into floats here; nothing (no node) if the output is not that.
ov::Output<ov::Node> before_quantising(const ov::Output<ov::Node>& output);

}  // namespace hoirt::openvino

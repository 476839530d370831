// The value of an expression in a model that does not depend on what its inputs hold.
#pragma once

#include <memory>
#include <openvino/core/model.hpp>
#include <openvino/op/constant.hpp>
#include <optional>

namespace hoirt::openvino {

// Null if it depends on the parameters. The reader of ONNX files computes ranks, axes and steps in the graph. Copies
// what the output is computed from: for small expressions only.
std::shared_ptr<ov::op::v0::Constant> fold(const ov::Output<ov::Node>& output, const ov::ParameterVector& parameters);

// One number, if it follows from constants and from fixed extents of tensors, whatever their other extents are.
std::optional<double> number_of(const ov::Output<ov::Node>& output);

}  // namespace hoirt::openvino

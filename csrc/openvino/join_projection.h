// Finds projections in a graph, and what stands before and after them.
#pragma once

#include <memory>
#include <openvino/core/model.hpp>
#include <openvino/opsets/opset13.hpp>

namespace hoirt::openvino {

// Replaces a product of tokens with stored weights, the layer norm before it, and the gate (a multiplication by gelu of
// half of the columns) or the residual sum after it; up to three products of the same tokens become one operation. What the
// graph quantises multiplies in int8, with scales of our own instead of the graph's. Like the others, for networks that are
// wide enough, in the order of the graph. Needs cpu::multiplies_bf16().
void join_projection(const std::shared_ptr<ov::opset13::MatMul>& node, const ov::ParameterVector& parameters);

// The same for a 1x1 convolution after a group norm, or of a picture that one of our nodes makes, or which is scaled and
// added, as a ControlNet's features are.
void join_projection(const std::shared_ptr<ov::opset13::Convolution>& node, const ov::ParameterVector& parameters);

}  // namespace hoirt::openvino

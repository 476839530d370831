// The value of an expression in a model that does not depend on what its inputs hold.
#include "csrc/openvino/fold.h"

#include <cmath>
#include <openvino/opsets/opset13.hpp>
#include <openvino/pass/constant_folding.hpp>
#include <openvino/pass/manager.hpp>

namespace hoirt::openvino {
namespace {

// One extent of a tensor, taken out of its shape.
std::optional<double> extent_of(const ov::Node& taken) {
  const auto shape = ov::as_type_ptr<ov::opset13::ShapeOf>(taken.get_input_node_shared_ptr(0));
  const auto which = number_of(taken.input_value(1));
  const bool one = taken.get_output_partial_shape(0).is_static() && ov::shape_size(taken.get_output_shape(0)) == 1;
  if (!shape || !which || !one || shape->get_input_partial_shape(0).rank().is_dynamic()) return std::nullopt;
  const auto& extents = shape->get_input_partial_shape(0);
  const auto axis = static_cast<std::int64_t>(*which) + (*which < 0 ? extents.rank().get_length() : 0);
  if (axis < 0 || axis >= extents.rank().get_length() || extents[axis].is_dynamic()) return std::nullopt;
  return static_cast<double>(extents[axis].get_length());
}

}  // namespace

std::optional<double> number_of(const ov::Output<ov::Node>& output) {
  namespace op = ov::opset13;
  const auto node = output.get_node_shared_ptr();
  if (const auto constant = ov::as_type_ptr<op::Constant>(node)) {
    if (ov::shape_size(constant->get_shape()) != 1) return std::nullopt;
    return constant->cast_vector<double>()[0];
  }
  if (ov::is_type<op::Slice>(node) || ov::is_type<op::Gather>(node)) return extent_of(*node);
  const bool same = ov::is_type<op::Convert>(node) || ov::is_type<op::Reshape>(node) ||
                    ov::is_type<op::Squeeze>(node) || ov::is_type<op::Unsqueeze>(node);
  const bool root = ov::is_type<op::Sqrt>(node), product = ov::is_type<op::Multiply>(node);
  if (!same && !root && !product && !ov::is_type<op::Divide>(node)) return std::nullopt;
  const auto first = number_of(node->input_value(0));
  if (!first || same) return first;
  if (root) return std::sqrt(*first);
  const auto second = number_of(node->input_value(1));
  if (!second) return std::nullopt;
  return product ? *first * *second : *first / *second;
}

std::shared_ptr<ov::op::v0::Constant> fold(const ov::Output<ov::Node>& output, const ov::ParameterVector& parameters) {
  using ov::op::v0::Constant;
  if (auto constant = ov::as_type_ptr<Constant>(output.get_node_shared_ptr())) return constant;
  const auto part = std::make_shared<ov::Model>(ov::OutputVector{output}, parameters)->clone();
  ov::pass::Manager passes;
  passes.register_pass<ov::pass::ConstantFolding>();
  passes.run_passes(part);
  return ov::as_type_ptr<Constant>(part->get_results().at(0)->get_input_node_shared_ptr(0));
}

}  // namespace hoirt::openvino

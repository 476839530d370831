// What rewrites of a graph ask of it: users of a value, constants beside it, and what our nodes read and make of it.
#pragma once

#include <memory>
#include <openvino/core/node.hpp>
#include <openvino/opsets/opset13.hpp>
#include <optional>
#include <vector>

namespace hoirt::openvino {

// The only user of an output besides those that ask for its shape; null if there is none or more.
std::shared_ptr<ov::Node> only_user(const ov::Output<ov::Node>& output);

// The sum that is all that is made of an output, and what is added to it there.
struct Sum {
  std::shared_ptr<ov::Node> node;
  ov::Output<ov::Node> other;
};
std::optional<Sum> only_sum(const ov::Output<ov::Node>& output);

struct WithConstant {
  ov::Output<ov::Node> other;
  std::vector<float> values;
};

// The operands of an Operation of which one is a constant, maybe behind a change of shape.
template <typename Operation>
std::optional<WithConstant> with_constant(const ov::Output<ov::Node>& output) {
  const auto node = output.get_node_shared_ptr();
  if (!ov::is_type<Operation>(node)) return std::nullopt;
  for (const std::size_t side : {1U, 0U}) {
    auto input = node->input_value(side);
    if (ov::is_type<ov::opset13::Reshape>(input.get_node())) input = input.get_node()->input_value(0);
    const auto constant = ov::as_type_ptr<ov::opset13::Constant>(input.get_node_shared_ptr());
    if (constant) return WithConstant{node->input_value(1 - side), constant->cast_vector<float>()};
  }
  return std::nullopt;
}

// The axes by which a node turns a value; none if it does not.
std::vector<std::int64_t> turned_by(const ov::Output<ov::Node>& output);

// Our nodes read and make bf16, the graph float32. What one of our nodes made need not be widened and rounded again, not
// even if its shape is changed between.
ov::Output<ov::Node> halves(const ov::Output<ov::Node>& value);
// Lets the users of `old` read what one of our nodes makes instead.
void replace_by_halves(const ov::Output<ov::Node>& old, const ov::Output<ov::Node>& made);

// The same for pictures: (N, C, H, W) float32 in the graph, (N, H, W, C) bf16 in our nodes, also where some are joined.
ov::Output<ov::Node> channels_last(const ov::Output<ov::Node>& picture);
// Whether that takes no turn of the values.
bool lies_channels_last(const ov::Output<ov::Node>& picture);
void replace_by_channels_last(const ov::Output<ov::Node>& old, const ov::Output<ov::Node>& made);

}  // namespace hoirt::openvino

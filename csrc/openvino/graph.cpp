// Walks along the edges of a graph.
#include "csrc/openvino/graph.h"

#include <openvino/opsets/opset13.hpp>
#include <vector>

namespace hoirt::openvino {
namespace {

using ov::opset13::Constant;
using ov::opset13::Convert;
using ov::opset13::Transpose;

using Axes = std::vector<std::int64_t>;
const Axes first = {0, 3, 1, 2}, last = {0, 2, 3, 1};

std::shared_ptr<Constant> order(const Axes& axes) { return Constant::create(ov::element::i64, {axes.size()}, axes); }

bool turns(const ov::Output<ov::Node>& output, const Axes& axes) {
  const auto turned = ov::as_type_ptr<Transpose>(output.get_node_shared_ptr());
  const auto by = turned ? ov::as_type_ptr<Constant>(turned->get_input_node_shared_ptr(1)) : nullptr;
  return by && turned->get_element_type() == ov::element::bf16 && by->cast_vector<std::int64_t>() == axes;
}

}  // namespace

std::shared_ptr<ov::Node> only_user(const ov::Output<ov::Node>& output) {
  std::shared_ptr<ov::Node> found;
  for (const auto& user : output.get_target_inputs()) {
    if (ov::is_type<ov::opset13::ShapeOf>(user.get_node())) continue;
    if (found) return nullptr;
    found = user.get_node()->shared_from_this();
  }
  return found;
}

ov::Output<ov::Node> channels_last(const ov::Output<ov::Node>& picture) {
  // What one of our nodes made need not be turned there and back, and what was turned before not again.
  const auto wide = ov::as_type_ptr<Convert>(picture.get_node_shared_ptr());
  if (wide && turns(wide->input_value(0), first)) return wide->get_input_node_ptr(0)->input_value(0);
  for (const auto& low : picture.get_target_inputs()) {
    if (!ov::is_type<Convert>(low.get_node())) continue;
    for (const auto& turned : low.get_node()->output(0).get_target_inputs()) {
      if (turns(turned.get_node()->output(0), last)) return turned.get_node()->output(0);
    }
  }
  return std::make_shared<Transpose>(std::make_shared<Convert>(picture, ov::element::bf16), order(last));
}

std::shared_ptr<ov::Node> channels_first(const ov::Output<ov::Node>& picture) {
  return std::make_shared<Convert>(std::make_shared<Transpose>(picture, order(first)), ov::element::f32);
}

}  // namespace hoirt::openvino

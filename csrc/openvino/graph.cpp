// Walks along the edges of a graph.
#include "csrc/openvino/graph.h"

#include <algorithm>

namespace hoirt::openvino {
namespace {

using ov::opset13::Concat;
using ov::opset13::Constant;
using ov::opset13::Convert;
using ov::opset13::Reshape;
using ov::opset13::Transpose;

using Axes = std::vector<std::int64_t>;
const Axes first = {0, 3, 1, 2}, last = {0, 2, 3, 1};

std::shared_ptr<Constant> order(const Axes& axes) { return Constant::create(ov::element::i64, {axes.size()}, axes); }

bool converts(const ov::Node& node, const ov::element::Type& type) {
  return ov::is_type<Convert>(&node) && node.get_output_element_type(0) == type;
}

bool is_widened(const ov::Output<ov::Node>& output) {
  return converts(*output.get_node(), ov::element::f32) && output.get_node()->get_input_element_type(0) == ov::element::bf16;
}

std::vector<std::shared_ptr<ov::Node>> users(const ov::Output<ov::Node>& output) {
  std::vector<std::shared_ptr<ov::Node>> found;
  for (const auto& user : output.get_target_inputs()) found.push_back(user.get_node()->shared_from_this());
  return found;
}

void replace_wide(const ov::Output<ov::Node>& old, const std::shared_ptr<ov::Node>& wide) {
  wide->set_friendly_name(old.get_node()->get_friendly_name());
  for (auto& user : old.get_target_inputs()) user.replace_source_output(wide);
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

std::optional<Sum> only_sum(const ov::Output<ov::Node>& output) {
  const auto user = only_user(output);
  if (!user || !ov::is_type<ov::opset13::Add>(user)) return std::nullopt;
  const std::size_t side = user->input_value(0) == output ? 1 : 0;
  return Sum{user, user->input_value(side)};
}

Axes turned_by(const ov::Output<ov::Node>& output) {
  const auto turned = ov::as_type_ptr<Transpose>(output.get_node_shared_ptr());
  const auto by = turned ? ov::as_type_ptr<Constant>(turned->get_input_node_shared_ptr(1)) : nullptr;
  return by ? by->cast_vector<std::int64_t>() : Axes{};
}

ov::Output<ov::Node> halves(const ov::Output<ov::Node>& value) {
  if (value.get_element_type() == ov::element::bf16) return value;
  if (is_widened(value)) return value.get_node()->input_value(0);
  if (const auto shaped = ov::as_type_ptr<Reshape>(value.get_node_shared_ptr()); shaped && is_widened(shaped->input_value(0))) {
    const auto low = shaped->get_input_node_ptr(0)->input_value(0);
    const auto again = std::make_shared<Reshape>(low, shaped->input_value(1), shaped->get_special_zero());
    replace_by_halves(value, again);
    return again;
  }
  for (const auto& user : users(value)) {
    if (converts(*user, ov::element::bf16)) return user->output(0);
  }
  return std::make_shared<Convert>(value, ov::element::bf16);
}

void replace_by_halves(const ov::Output<ov::Node>& old, const ov::Output<ov::Node>& made) {
  for (const auto& user : users(old)) {
    if (converts(*user, ov::element::bf16)) user->output(0).replace(made);
  }
  replace_wide(old, std::make_shared<Convert>(made, ov::element::f32));
}

bool lies_channels_last(const ov::Output<ov::Node>& picture) {
  if (const auto joined = ov::as_type_ptr<Concat>(picture.get_node_shared_ptr()); joined && joined->get_axis() == 1) {
    const auto parts = joined->input_values();
    return std::all_of(parts.begin(), parts.end(), lies_channels_last);
  }
  return turned_by(picture) == first || (is_widened(picture) && turned_by(picture.get_node()->input_value(0)) == first);
}

ov::Output<ov::Node> channels_last(const ov::Output<ov::Node>& picture) {
  if (turned_by(picture) == first) return halves(picture.get_node()->input_value(0));
  if (const auto joined = ov::as_type_ptr<Concat>(picture.get_node_shared_ptr()); joined && lies_channels_last(picture)) {
    ov::OutputVector parts;
    for (const auto& part : joined->input_values()) parts.push_back(channels_last(part));
    const auto again = std::make_shared<Concat>(parts, 3);
    replace_by_channels_last(picture, again);
    return again;
  }
  const auto low = halves(picture);
  if (turned_by(low) == first) return low.get_node()->input_value(0);
  for (const auto& user : users(low)) {
    if (turned_by(user->output(0)) == last) return user->output(0);
  }
  return std::make_shared<Transpose>(low, order(last));
}

void replace_by_channels_last(const ov::Output<ov::Node>& old, const ov::Output<ov::Node>& made) {
  for (const auto& user : users(old)) {
    if (turned_by(user->output(0)) == last) replace_by_halves(user->output(0), made);
    if (!converts(*user, ov::element::bf16)) continue;
    for (const auto& turned : users(user->output(0))) {
      if (turned_by(turned->output(0)) == last) turned->output(0).replace(made);
    }
  }
  replace_wide(old, std::make_shared<Convert>(std::make_shared<Transpose>(made, order(first)), ov::element::f32));
}

}  // namespace hoirt::openvino

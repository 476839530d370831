// Makes normalisation layers give the same bits for every number of threads.
#include "csrc/openvino/stable_norm.h"

#include <algorithm>
#include <memory>
#include <openvino/core/graph_util.hpp>
#include <openvino/core/rt_info.hpp>
#include <openvino/opsets/opset13.hpp>
#include <vector>

#include "csrc/openvino/fold.h"

namespace hoirt::openvino {
namespace {

using ov::opset13::Constant;
using ov::opset13::GroupNormalization;
using ov::opset13::MVN;
using ov::opset13::Reshape;

std::shared_ptr<ov::Node> integers(const std::vector<std::int64_t>& values) {
  return Constant::create(ov::element::i64, {values.size()}, values);
}

// Normalises each of `groups` equal parts of every item's flattened channels and space.
ov::Output<ov::Node> normalize_groups(const ov::Output<ov::Node>& x, std::int64_t groups, bool variance, float epsilon,
                                      ov::op::MVNEpsMode mode) {
  // "special zero": extent 0 in the pattern means "as in the input", which keeps the batch dynamic.
  const auto rows = std::make_shared<Reshape>(x, integers({0, groups, -1}), true);
  const auto normal = std::make_shared<MVN>(rows, integers({2}), variance, epsilon, mode);
  return std::make_shared<Reshape>(normal, std::make_shared<ov::opset13::ShapeOf>(x), false);
}

// A (C,) vector as (C, 1, 1 ...), so that it broadcasts along the channel axis of a tensor of this rank.
ov::Output<ov::Node> per_channel(const ov::Output<ov::Node>& vector, std::size_t rank) {
  std::vector<std::int64_t> extents(rank - 1, 1);
  extents[0] = -1;
  return std::make_shared<Reshape>(vector, integers(extents), false);
}

ov::Output<ov::Node> stable_form(const GroupNormalization& node, std::size_t rank) {
  const auto normal = normalize_groups(node.input_value(0), node.get_num_groups(), true,
                                       static_cast<float>(node.get_epsilon()), ov::op::MVNEpsMode::INSIDE_SQRT);
  const auto scaled = std::make_shared<ov::opset13::Multiply>(normal, per_channel(node.input_value(1), rank));
  return std::make_shared<ov::opset13::Add>(scaled, per_channel(node.input_value(2), rank));
}

// True for a normalisation over every axis but the first.
bool spans_item(const MVN& node, std::size_t rank, const ov::ParameterVector& parameters) {
  const auto axes = rank < 3 ? nullptr : fold(node.input_value(1), parameters);
  if (!axes) return false;
  std::vector<bool> covered(rank, false);
  for (const auto axis : axes->cast_vector<std::int64_t>()) {
    const auto signed_rank = static_cast<std::int64_t>(rank);
    covered.at(static_cast<std::size_t>(axis < 0 ? axis + signed_rank : axis)) = true;
  }
  return !covered[0] && std::all_of(covered.begin() + 1, covered.end(), [](bool is) { return is; });
}

}  // namespace

void make_norms_stable(ov::Model& model) {
  for (const auto& node : model.get_ordered_ops()) {
    const bool norm = ov::is_type<GroupNormalization>(node) || ov::is_type<MVN>(node);
    if (!norm || node->get_input_partial_shape(0).rank().is_dynamic()) continue;
    const auto rank = static_cast<std::size_t>(node->get_input_partial_shape(0).rank().get_length());
    ov::Output<ov::Node> stable;
    if (const auto group = ov::as_type_ptr<GroupNormalization>(node)) {
      stable = stable_form(*group, rank);
    } else if (const auto mvn = ov::as_type_ptr<MVN>(node); spans_item(*mvn, rank, model.get_parameters())) {
      stable = normalize_groups(mvn->input_value(0), 1, mvn->get_normalize_variance(), mvn->get_eps(),
                                mvn->get_eps_mode());
    } else {
      continue;
    }
    stable.get_node()->set_friendly_name(node->get_friendly_name());
    node->output(0).replace(stable);
  }
  model.validate_nodes_and_infer_types();
}

}  // namespace hoirt::openvino

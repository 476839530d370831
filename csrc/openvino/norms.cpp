// Walks back from the sum that ends a norm.
#include "csrc/openvino/norms.h"

#include <algorithm>
#include <memory>
#include <openvino/opsets/opset13.hpp>
#include <utility>

#include "csrc/openvino/fold.h"
#include "csrc/openvino/graph.h"

namespace hoirt::openvino {
namespace {

using ov::opset13::Add;
using ov::opset13::Multiply;
using ov::opset13::MVN;
using ov::opset13::Reshape;

bool all_are(const std::vector<float>& values, float wanted) {
  return std::all_of(values.begin(), values.end(), [wanted](float value) { return value == wanted; });
}

// Whether that axis alone is normalised, as layers do it.
bool normalises(const MVN& node, std::int64_t axis, const ov::ParameterVector& parameters) {
  const auto rank = node.get_input_partial_shape(0).rank();
  const auto axes = rank.is_static() ? fold(node.input_value(1), parameters) : nullptr;
  if (!axes || ov::shape_size(axes->get_shape()) != 1) return false;
  const std::int64_t given = axes->cast_vector<std::int64_t>()[0];
  return (given < 0 ? given + rank.get_length() : given) == axis && node.get_normalize_variance() &&
         node.get_eps_mode() == ov::op::MVNEpsMode::INSIDE_SQRT;
}

}  // namespace

// The reader of ONNX files makes an instance norm over (N, groups, -1) of a group norm, with a scale of one and a shift
// of zero, and the norm's own per channel after it.
std::optional<GroupNormOf> group_norm(const ov::Output<ov::Node>& output, const ov::ParameterVector& parameters) {
  auto shift = with_constant<Add>(output);
  auto scale = shift ? with_constant<Multiply>(shift->other) : std::nullopt;
  const auto picture_again = scale ? ov::as_type_ptr<Reshape>(scale->other.get_node_shared_ptr()) : nullptr;
  if (!picture_again) return std::nullopt;
  auto normal = picture_again->input_value(0);
  if (const auto zero = with_constant<Add>(normal); zero && all_are(zero->values, 0)) normal = zero->other;
  if (const auto one = with_constant<Multiply>(normal); one && all_are(one->values, 1)) normal = one->other;
  const auto mvn = ov::as_type_ptr<MVN>(normal.get_node_shared_ptr());
  const auto grouped = mvn ? ov::as_type_ptr<Reshape>(mvn->get_input_node_shared_ptr(0)) : nullptr;
  if (!grouped) return std::nullopt;
  const auto& shape = grouped->get_output_partial_shape(0);
  const auto& picture = grouped->get_input_partial_shape(0);
  const bool fits = shape.rank() == 3 && shape[1].is_static() && picture.rank() == 4 && picture[1].is_static() &&
                    output.get_partial_shape().rank() == 4 && output.get_partial_shape()[1] == picture[1];
  if (!fits || !normalises(*mvn, 2, parameters)) return std::nullopt;
  const auto channels = static_cast<std::size_t>(picture[1].get_length());
  const bool per_channel = scale->values.size() == channels && shift->values.size() == channels;
  if (!per_channel || picture[1].get_length() % shape[1].get_length() != 0) return std::nullopt;
  return GroupNormOf{grouped->input_value(0), std::move(scale->values), std::move(shift->values), shape[1].get_length(),
                     mvn->get_eps()};
}

std::optional<LayerNormOf> layer_norm(const ov::Output<ov::Node>& output, const ov::ParameterVector& parameters) {
  auto shift = with_constant<Add>(output);
  auto scale = shift ? with_constant<Multiply>(shift->other) : std::nullopt;
  const auto mvn = scale ? ov::as_type_ptr<MVN>(scale->other.get_node_shared_ptr()) : nullptr;
  const auto rank = mvn ? mvn->get_input_partial_shape(0).rank() : ov::Rank::dynamic();
  if (rank.is_dynamic() || rank.get_length() < 1 || !normalises(*mvn, rank.get_length() - 1, parameters)) return std::nullopt;
  const auto& width = mvn->get_input_partial_shape(0)[static_cast<std::size_t>(rank.get_length() - 1)];
  const bool per_channel = width.is_static() && scale->values.size() == static_cast<std::size_t>(width.get_length()) &&
                           shift->values.size() == scale->values.size() && output.get_partial_shape().rank() == rank;
  if (!per_channel) return std::nullopt;
  return LayerNormOf{mvn->input_value(0), std::move(scale->values), std::move(shift->values), mvn->get_eps()};
}

}  // namespace hoirt::openvino

// Splits a projection's weights instead of its output.
#include "csrc/openvino/split_projection.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <openvino/core/rt_info.hpp>
#include <openvino/op/util/binary_elementwise_arithmetic.hpp>
#include <openvino/opsets/opset13.hpp>
#include <optional>
#include <vector>

#include "csrc/openvino/fold.h"
#include "csrc/openvino/slices.h"

namespace hoirt::openvino {
namespace {

using ov::opset13::Add;
using ov::opset13::Constant;
using ov::opset13::MatMul;
using ov::opset13::Reshape;
using ov::opset13::Slice;

std::shared_ptr<Constant> cut(const Constant& whole, std::size_t axis, Columns range) {
  ov::Shape shape = whole.get_shape();
  const std::size_t element = whole.get_element_type().size();
  std::size_t rows = 1, inner = element;
  for (std::size_t i = 0; i < axis; ++i) rows *= shape[i];
  for (std::size_t i = axis + 1; i < shape.size(); ++i) inner *= shape[i];
  const std::size_t stride = shape[axis] * inner;
  shape[axis] = static_cast<std::size_t>(range.stop - range.start);
  const std::size_t bytes = shape[axis] * inner;
  ov::Tensor part(whole.get_element_type(), shape);
  const auto* from = static_cast<const char*>(whole.get_data_ptr()) + static_cast<std::size_t>(range.start) * inner;
  auto* to = static_cast<char*>(part.data());
  for (std::size_t row = 0; row < rows; ++row) std::memcpy(to + row * bytes, from + row * stride, bytes);
  return std::make_shared<Constant>(part);
}

// The range of a constant expression of weights along an axis counted from the end (1: the last), through casts and
// dequantisation; an operand that is broadcast along that axis stays whole. Null for any other expression.
std::shared_ptr<ov::Node> cut_weights(const ov::Output<ov::Node>& output, std::size_t from_end, Columns range) {
  auto node = output.get_node_shared_ptr();
  const auto& shape = output.get_partial_shape();
  if (shape.is_dynamic()) return nullptr;
  if (ov::is_type<Reshape>(node)) node = fold(output, {});  // scales of int8 weights: few
  if (!node) return nullptr;
  if (const auto constant = ov::as_type_ptr<Constant>(node)) {
    const bool broadcast = shape.size() < from_end || shape[shape.size() - from_end].get_length() == 1;
    const bool whole_bytes = constant->get_element_type().bitwidth() % 8 == 0;
    if (broadcast) return constant;
    return whole_bytes ? cut(*constant, shape.size() - from_end, range) : nullptr;
  }
  const bool elementwise = ov::is_type<ov::opset13::Convert>(node) ||
                           ov::is_type<ov::op::util::BinaryElementwiseArithmetic>(node);
  if (!elementwise) return nullptr;
  ov::OutputVector inputs;
  for (const auto& input : node->input_values()) {
    auto part = cut_weights(input, from_end, range);
    if (!part) return nullptr;
    inputs.emplace_back(part);
  }
  auto copy = node->clone_with_new_inputs(inputs);
  ov::copy_runtime_info(node, copy);
  return copy;
}

// A product with constant weights and, if there is one, the bias added to it.
struct Projection {
  std::shared_ptr<MatMul> product;
  ov::Output<ov::Node> bias;
};

std::optional<Projection> projection_of(const ov::Output<ov::Node>& output) {
  const auto node = output.get_node_shared_ptr();
  if (auto product = ov::as_type_ptr<MatMul>(node)) return Projection{std::move(product), {}};
  if (!ov::is_type<Add>(node)) return std::nullopt;
  for (const std::size_t side : {0U, 1U}) {
    auto product = ov::as_type_ptr<MatMul>(node->get_input_node_shared_ptr(side));
    if (product && product->get_output_target_inputs(0).size() == 1) {
      return Projection{std::move(product), node->input_value(1 - side)};
    }
  }
  return std::nullopt;
}

std::shared_ptr<ov::Node> narrow(const Projection& whole, Columns range) {
  const MatMul& product = *whole.product;
  auto weights = cut_weights(product.input_value(1), product.get_transpose_b() ? 2 : 1, range);
  if (!weights) return nullptr;
  auto part = std::make_shared<MatMul>(product.input_value(0), weights, product.get_transpose_a(),
                                       product.get_transpose_b());
  if (!whole.bias.get_node()) return part;
  auto bias = cut_weights(whole.bias, 1, range);
  return bias ? std::make_shared<Add>(part, bias) : nullptr;
}

// Replaces the slices of one projection, or none of them.
void split(const ov::Output<ov::Node>& output, const Projection& projection, const ov::ParameterVector& parameters) {
  const auto& width = output.get_partial_shape()[output.get_partial_shape().size() - 1];
  if (width.is_dynamic()) return;
  std::int64_t used = 0;
  std::vector<std::pair<std::shared_ptr<ov::Node>, std::shared_ptr<ov::Node>>> parts;
  for (const auto& user : output.get_target_inputs()) {
    const auto slice = ov::as_type_ptr<Slice>(user.get_node()->shared_from_this());
    const auto range = slice && user.get_index() == 0 ? columns_of(*slice, width.get_length(), parameters)
                                                      : std::nullopt;
    auto part = range ? narrow(projection, *range) : nullptr;
    if (!part) return;
    used += range->stop - range->start;
    part->set_friendly_name(slice->get_friendly_name());
    parts.emplace_back(slice, std::move(part));
  }
  if (used > width.get_length()) return;  // overlapping slices would project some columns twice
  for (const auto& [slice, part] : parts) slice->output(0).replace(part->output(0));
}

}  // namespace

void split_projections(ov::Model& model) {
  for (const auto& node : model.get_ordered_ops()) {
    if (node->get_output_size() != 1 || node->get_output_partial_shape(0).rank().is_dynamic()) continue;
    const auto users = node->get_output_target_inputs(0);
    const bool sliced = users.size() > 1 && std::all_of(users.begin(), users.end(), [](const auto& user) {
                          return ov::is_type<Slice>(user.get_node());
                        });
    const auto projection = sliced ? projection_of(node->output(0)) : std::nullopt;
    if (projection) split(node->output(0), *projection, model.get_parameters());
  }
}

}  // namespace hoirt::openvino

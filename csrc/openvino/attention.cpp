// Finds softmax(q k^T) v between its heads' reshapes, and runs it without the table of scores.
#include "csrc/openvino/attention.h"

#include <memory>
#include <openvino/opsets/opset13.hpp>
#include <optional>
#include <vector>

#include "csrc/cpu/attention.h"
#include "csrc/cpu/attention_int8.h"
#include "csrc/cpu/bytes.h"
#include "csrc/openvino/fold.h"
#include "csrc/openvino/graph.h"
#include "csrc/openvino/norm_projection.h"
#include "csrc/openvino/quantised.h"
#include "csrc/openvino/threads.h"

namespace hoirt::openvino {
namespace {

using ov::opset13::MatMul;
using ov::opset13::Multiply;
using ov::opset13::Reshape;
using ov::opset13::Softmax;
using ov::opset13::Transpose;

constexpr std::int64_t few_channels = 256;  // a network this narrow sees small pictures
using Axes = std::vector<std::int64_t>;

struct Scaled {
  ov::Output<ov::Node> value;
  float factor = 1;
};

// A product with one number that does not depend on the inputs; else the output itself.
Scaled without_factor(const ov::Output<ov::Node>& output) {
  const auto node = output.get_node_shared_ptr();
  if (!ov::is_type<Multiply>(node)) return {output};
  for (const std::size_t side : {1U, 0U}) {
    const auto& shape = node->get_input_partial_shape(side);
    if (shape.is_dynamic() || ov::shape_size(shape.to_shape()) != 1) continue;
    const auto factor = number_of(node->input_value(side));
    if (factor) return {node->input_value(1 - side), static_cast<float>(*factor)};
  }
  return {output};
}

struct Heads {
  ov::Output<ov::Node> tokens;  // (N, T, heads * size)
  std::int64_t heads, size;
};

// What was cut into heads, (N, T, heads, size), and turned by `axes`.
std::optional<Heads> heads_of(const ov::Output<ov::Node>& output, const Axes& axes) {
  const bool turned = turned_by(output) == axes;
  const auto cut = turned ? ov::as_type_ptr<Reshape>(output.get_node()->get_input_node_shared_ptr(0)) : nullptr;
  if (!cut) return std::nullopt;
  const auto& from = cut->get_input_partial_shape(0);
  const auto& to = cut->get_output_partial_shape(0);
  if (from.rank() != 3 || to.rank() != 4 || from[2].is_dynamic() || to[2].is_dynamic() || to[3].is_dynamic()) {
    return std::nullopt;
  }
  const std::int64_t heads = to[2].get_length(), size = to[3].get_length();
  if (heads * size != from[2].get_length() || size % 8 != 0) return std::nullopt;
  return Heads{cut->input_value(0), heads, size};
}

// The only user of an output, if it is of that kind.
template <typename Kind>
std::shared_ptr<Kind> only(const ov::Output<ov::Node>& output) {
  return ov::as_type_ptr<Kind>(only_user(output));
}

// Whether the graph multiplies in int8 to make it.
bool is_quantised(const ov::Output<ov::Node>& output) {
  if (const auto joined = ov::as_type_ptr<NormProjection>(halves(output).get_node_shared_ptr())) return joined->int8();
  const auto projection = ov::as_type_ptr<MatMul>(output.get_node_shared_ptr());
  return projection && before_quantising(projection->input_value(0)).get_node() && dequantises(projection->input_value(1));
}

bool is_plain(const MatMul& product) { return !product.get_transpose_a() && !product.get_transpose_b(); }

}  // namespace

void join_attention(const std::shared_ptr<Softmax>& softmax) {
  const auto scores = ov::as_type_ptr<MatMul>(softmax->get_input_node_shared_ptr(0));
  const auto product = only<MatMul>(softmax->output(0));
  const bool last_axis = softmax->get_axis() == -1 || softmax->get_axis() == 3;
  if (!scores || !product || !last_axis || !is_plain(*scores) || !is_plain(*product)) return;
  if (!only_user(scores->output(0)) || product->get_input_node_shared_ptr(0) != softmax) return;
  const auto left = without_factor(scores->input_value(0));
  const auto right = without_factor(scores->input_value(1));
  const auto q = heads_of(left.value, {0, 2, 1, 3});
  const auto k = heads_of(right.value, {0, 2, 3, 1});
  const auto v = heads_of(product->input_value(1), {0, 2, 1, 3});
  if (q && q->heads * q->size < few_channels) return;
  if (!q || !k || !v || q->heads != k->heads || q->heads != v->heads || q->size != k->size || q->size != v->size) return;
  const auto turn = only<Transpose>(product->output(0));
  if (!turn || turned_by(turn) != Axes{0, 2, 1, 3}) return;
  const auto tokens = only<Reshape>(turn->output(0));
  const bool flat = tokens && tokens->get_output_partial_shape(0).rank() == 3 &&
                    tokens->get_output_partial_shape(0)[2] == q->tokens.get_partial_shape()[2];
  if (!flat) return;

  ov::OutputVector inputs;
  for (const auto& one : {*q, *k, *v}) inputs.push_back(halves(one.tokens));
  const bool int8 = cpu::multiplies_int8() && is_quantised(q->tokens) && is_quantised(k->tokens) && is_quantised(v->tokens);
  const auto whole = std::make_shared<BlockAttention>(inputs, q->heads, left.factor * right.factor, int8);
  replace_by_halves(tokens, whole);
}

BlockAttention::BlockAttention(const ov::OutputVector& inputs, std::int64_t heads, float scale, bool int8)
    : Op(inputs), heads_(heads), scale_(scale), int8_(int8) {
  constructor_validate_and_infer_types();
}

void BlockAttention::validate_and_infer_types() {
  set_output_type(0, ov::element::bf16, get_input_partial_shape(0));
}

std::shared_ptr<ov::Node> BlockAttention::clone_with_new_inputs(const ov::OutputVector& inputs) const {
  check_new_args_count(this, inputs);
  return std::make_shared<BlockAttention>(inputs, heads_, scale_, int8_);
}

bool BlockAttention::visit_attributes(ov::AttributeVisitor& visitor) {
  visitor.on_attribute("heads", heads_);
  visitor.on_attribute("scale", scale_);
  visitor.on_attribute("int8", int8_);
  return true;
}

bool BlockAttention::evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const {
  const auto extent = [&inputs](std::size_t input, std::size_t axis) {
    return static_cast<std::int64_t>(inputs[input].get_shape()[axis]);
  };
  const auto values = [&inputs](std::size_t input) { return static_cast<const cpu::Bf16*>(inputs[input].data()); };
  const cpu::Attention job{extent(0, 0), extent(0, 1), extent(1, 1), heads_,    extent(0, 2) / heads_,
                           scale_,       values(0),    values(1),    values(2), static_cast<cpu::Bf16*>(outputs[0].data())};
  (int8_ ? cpu::attention_int8 : cpu::attention)(job, on_threads);
  return true;
}

}  // namespace hoirt::openvino

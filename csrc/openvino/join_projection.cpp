// Walks from a product back to its norm, and on to its gate or its sum.
#include "csrc/openvino/join_projection.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "csrc/cpu/projection_int8.h"
#include "csrc/openvino/convolution.h"
#include "csrc/openvino/graph.h"
#include "csrc/openvino/norm_projection.h"
#include "csrc/openvino/norms.h"
#include "csrc/openvino/quantised.h"
#include "csrc/openvino/slices.h"
#include "csrc/openvino/threads.h"
#include "csrc/openvino/winograd_weights.h"

namespace hoirt::openvino {
namespace {

using ov::opset13::Constant;
using ov::opset13::Convolution;
using ov::opset13::Gelu;
using ov::opset13::MatMul;
using ov::opset13::Multiply;
using ov::opset13::Slice;
using Norm = cpu::Projection::Norm;

constexpr std::size_t few_channels = 256;  // a network this narrow sees few tokens
constexpr auto block = static_cast<std::size_t>(cpu::projection_channels);
constexpr std::size_t most_parts = std::tuple_size_v<decltype(cpu::Projection::outputs)>;

bool fit(std::size_t channels_in, std::size_t columns) {
  return channels_in % block == 0 && columns % block == 0 && std::min(channels_in, columns) >= few_channels;
}

struct Layer {
  ov::Output<ov::Node> input;  // before it is rounded to bytes, if the graph does that
  bool int8;                   // it does, on both sides
  std::vector<float> weights;  // (C, D), or (D, C)
  bool transposed;
  std::size_t channels_in, columns;
  std::vector<float> bias;
  ov::Output<ov::Node> result;  // with the bias
};

// Both inputs of a product, before they are rounded to bytes if the graph does that.
struct Operands {
  ov::Output<ov::Node> value;
  bool int8;
  std::shared_ptr<Constant> weights;  // null if they are not stored
};

Operands operands_of(const ov::Node& node) {
  const auto unrounded = before_quantising(node.input_value(0));
  const bool int8 = unrounded.get_node() && cpu::multiplies_int8();
  return {int8 ? unrounded : node.input_value(0), int8,
          int8 ? dequantised(node.input_value(1)) : stored_floats(node.input_value(1))};
}

std::optional<Layer> layer_of(MatMul& node) {
  if (node.get_transpose_a() || node.get_output_target_inputs(0).empty()) return std::nullopt;
  const auto [input, int8, weights] = operands_of(node);
  if (!weights || weights->get_shape().size() != 2) return std::nullopt;
  const bool transposed = node.get_transpose_b();
  const std::size_t in = weights->get_shape()[transposed ? 1 : 0], columns = weights->get_shape()[transposed ? 0 : 1];
  const auto rank = node.get_input_partial_shape(0).rank();
  if (!fit(in, columns) || rank.is_dynamic() || rank.get_length() < 2) return std::nullopt;
  Layer layer{input, int8, weights->cast_vector<float>(), transposed, in, columns, std::vector<float>(columns, 0.0F),
              node.output(0)};
  const auto sum = only_sum(layer.result);
  const auto bias = sum ? stored_floats(sum->other) : nullptr;
  const bool per_column = bias && !bias->get_shape().empty() && bias->get_shape().back() == columns &&
                          ov::shape_size(bias->get_shape()) == columns &&
                          bias->get_shape().size() <= static_cast<std::size_t>(rank.get_length());
  if (per_column) layer.bias = bias->cast_vector<float>(), layer.result = sum->node;
  return layer;
}

std::optional<Layer> layer_of(Convolution& node) {
  const auto [input, int8, weights] = operands_of(node);
  if (!weights) return std::nullopt;
  const std::size_t columns = weights->get_shape()[0], in = weights->get_shape()[1];
  if (!fit(in, columns)) return std::nullopt;
  Layer layer{input, int8, weights->cast_vector<float>(), true, in, columns, std::vector<float>(columns, 0.0F), node.output(0)};
  if (const auto with_bias = biased(node, columns)) {
    layer.bias = with_bias->bias->cast_vector<float>(), layer.result = with_bias->sum;
  }
  return layer;
}

// The product of the first half of the columns with gelu of the second; null for anything else.
std::shared_ptr<ov::Node> gate_of(const Layer& layer, const ov::ParameterVector& parameters) {
  const auto half = static_cast<std::int64_t>(layer.columns / 2);
  std::shared_ptr<ov::Node> values, gates;
  for (const auto& user : layer.result.get_target_inputs()) {
    const auto* slice = ov::as_type<Slice>(user.get_node());
    const auto taken = slice && user.get_index() == 0 ? columns_of(*slice, 2 * half, parameters) : std::nullopt;
    if (!taken || taken->stop - taken->start != half) return nullptr;
    auto& one = taken->start == 0 ? values : gates;
    if (one) return nullptr;
    one = user.get_node()->shared_from_this();
  }
  const auto gelu = gates ? ov::as_type_ptr<Gelu>(only_user(gates->output(0))) : nullptr;
  if (!values || !gelu || gelu->get_approximation_mode() != ov::op::GeluApproximationMode::ERF) return nullptr;
  const auto product = only_user(gelu->output(0));
  const bool gated = product && ov::is_type<Multiply>(product) && only_user(values->output(0)) == product;
  return gated ? product : nullptr;
}

// Of all layers, side by side, as bfloat16 or as bytes with scales and offsets.
ov::OutputVector packed_halves(const std::vector<Layer>& layers, std::size_t in, std::size_t columns) {
  ov::Tensor packed(ov::element::bf16, {layers.size() * columns / block, in / 2, 2 * block});
  auto* to = static_cast<cpu::Bf16*>(packed.data());
  for (const Layer& layer : layers) {
    cpu::pack_projection(layer.weights.data(), static_cast<std::int64_t>(in), static_cast<std::int64_t>(columns),
                         layer.transposed, to, on_threads);
    to += in * columns;
  }
  return {std::make_shared<Constant>(packed)};
}

ov::OutputVector packed_bytes(const std::vector<Layer>& layers, std::size_t in, std::size_t columns) {
  const std::size_t all = layers.size() * columns;
  ov::Tensor values(ov::element::i8, {all / block, in / 4, 4 * block});
  ov::Tensor scales(ov::element::f32, {all}), offsets(ov::element::i32, {all});
  for (std::size_t i = 0; i < layers.size(); ++i) {
    cpu::pack_projection_int8(layers[i].weights.data(), static_cast<std::int64_t>(in), static_cast<std::int64_t>(columns),
                              layers[i].transposed, values.data<std::int8_t>() + i * in * columns,
                              scales.data<float>() + i * columns, offsets.data<std::int32_t>() + i * columns, on_threads);
  }
  return {std::make_shared<Constant>(values), std::make_shared<Constant>(scales), std::make_shared<Constant>(offsets)};
}

ov::OutputVector bias_and_weights(const std::vector<Layer>& layers) {
  std::vector<float> bias;
  for (const Layer& layer : layers) bias.insert(bias.end(), layer.bias.begin(), layer.bias.end());
  ov::OutputVector inputs{floats(bias)};
  const auto pack = layers[0].int8 ? packed_bytes : packed_halves;
  for (const auto& one : pack(layers, layers[0].channels_in, layers[0].columns)) inputs.push_back(one);
  return inputs;
}

// This product and up to two more of the same tokens that have as many columns.
std::vector<Layer> side_by_side(MatMul& node, Layer first) {
  std::vector<Layer> layers{std::move(first)};
  for (const auto& user : node.input_value(0).get_target_inputs()) {
    auto* other = ov::as_type<MatMul>(user.get_node());
    if (!other || other == &node || user.get_index() != 0 || layers.size() == most_parts) continue;
    auto layer = layer_of(*other);
    if (layer && layer->columns == layers[0].columns) layers.push_back(std::move(*layer));
  }
  return layers;
}

// The sum that all that is made of `output` goes into, with something of as many axes and channels. What is sure to be
// broadcast is left to OpenVINO, which is faster at that.
std::optional<Sum> residual_of(const ov::Output<ov::Node>& output, std::size_t channels) {
  auto sum = only_sum(output);
  if (!sum || sum->other.get_element_type() != ov::element::f32) return std::nullopt;
  const auto& shape = output.get_partial_shape();
  const auto& other = sum->other.get_partial_shape();
  if (other.rank() != shape.rank() || other[channels].is_dynamic() || other[channels] != shape[channels]) return std::nullopt;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] != other[axis] && (shape[axis] == 1 || other[axis] == 1)) return std::nullopt;
  }
  return sum;
}

// A multiplication of a picture by one number for each item.
struct Scaling {
  std::shared_ptr<ov::Node> node;
  ov::Output<ov::Node> factors;
};

// The one that all that is made of `picture` goes into.
std::optional<Scaling> scaling_of(const ov::Output<ov::Node>& picture) {
  const auto user = only_user(picture);
  if (!user || !ov::is_type<Multiply>(user)) return std::nullopt;
  const auto factors = user->input_value(user->input_value(0) == picture ? 1 : 0);
  const auto& shape = factors.get_partial_shape();
  const bool per_item = shape.rank() == 4 && shape[1] == 1 && shape[2] == 1 && shape[3] == 1 &&
                        factors.get_element_type() == ov::element::f32;
  return per_item ? std::optional(Scaling{user, factors}) : std::nullopt;
}

// `norm` is one of norms.h, if there is one; `after` are the inputs of what follows the product.
template <class FoundNorm>
std::shared_ptr<NormProjection> norm_projection(const ov::Output<ov::Node>& value, const std::vector<Layer>& layers,
                                                const std::optional<FoundNorm>& norm, const ov::OutputVector& after,
                                                NormProjection::Options options) {
  options.int8 = layers[0].int8;
  options.parts = static_cast<std::int64_t>(layers.size());
  ov::OutputVector inputs{value};
  const auto add = [&inputs](const ov::OutputVector& more) { inputs.insert(inputs.end(), more.begin(), more.end()); };
  add(bias_and_weights(layers));
  if (norm) {
    options.epsilon = norm->epsilon;
    add({floats(norm->scale), floats(norm->shift)});
  }
  add(after);
  return std::make_shared<NormProjection>(inputs, options);
}

}  // namespace

void join_projection(const std::shared_ptr<MatMul>& node, const ov::ParameterVector& parameters) {
  auto layer = layer_of(*node);
  if (!layer) return;
  const auto norm = layer_norm(layer->input, parameters);
  const auto tokens = halves(norm ? norm->tokens : layer->input);
  NormProjection::Options options;
  if (norm) options.norm = Norm::layer;
  ov::Output<ov::Node> old = layer->result;
  ov::OutputVector residual;
  std::vector<Layer> layers;
  if (const auto gate = layer->columns % (2 * block) == 0 ? gate_of(*layer, parameters) : nullptr) {
    options.gated = true, old = gate;
    layers.push_back(std::move(*layer));
  } else if (const auto sum = residual_of(old, old.get_partial_shape().size() - 1)) {
    options.residual = true, old = sum->node;
    residual.push_back(halves(sum->other));
    layers.push_back(std::move(*layer));
  } else {
    layers = side_by_side(*node, std::move(*layer));
  }
  const auto whole = norm_projection(tokens, layers, norm, residual, options);
  for (std::size_t part = 0; part < layers.size(); ++part) {
    replace_by_halves(part == 0 ? old : layers[part].result, whole->output(part));
  }
}

void join_projection(const std::shared_ptr<Convolution>& node, const ov::ParameterVector& parameters) {
  auto layer = is_plain_1x1(*node) ? layer_of(*node) : std::nullopt;
  if (!layer) return;
  ov::Output<ov::Node> old = layer->result;
  const auto norm = group_norm(layer->input, parameters);
  const auto scaling = scaling_of(old);
  const auto sum = residual_of(scaling ? scaling->node->output(0) : old, 1);
  if (!norm && !(scaling && sum) && !lies_channels_last(layer->input)) return;
  const auto picture = channels_last(norm ? norm->picture : layer->input);
  NormProjection::Options options;
  if (norm) options.norm = Norm::group, options.groups = norm->groups;
  ov::OutputVector after;
  if (sum) {
    options.scaled = scaling.has_value(), options.residual = true, old = sum->node;
    if (scaling) after.push_back(scaling->factors);
    after.push_back(channels_last(sum->other));
  }
  replace_by_channels_last(old, norm_projection(picture, {std::move(*layer)}, norm, after, options));
}

}  // namespace hoirt::openvino

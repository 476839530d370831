// Finds group norm, SiLU and convolution in a row, and runs them as one.
#include "csrc/openvino/norm_convolution.h"

#include <algorithm>
#include <memory>
#include <openvino/opsets/opset13.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "csrc/cpu/norm_silu.h"
#include "csrc/cpu/winograd_conv.h"
#include "csrc/openvino/convolution.h"
#include "csrc/openvino/fold.h"
#include "csrc/openvino/threads.h"

namespace hoirt::openvino {
namespace {

using ov::opset13::Add;
using ov::opset13::Constant;
using ov::opset13::Convert;
using ov::opset13::Convolution;
using ov::opset13::Multiply;
using ov::opset13::MVN;
using ov::opset13::Reshape;
using ov::opset13::Sigmoid;
using ov::opset13::Swish;
using ov::opset13::Transpose;

constexpr std::size_t few_channels = 128;  // below, the products are too few to pay for the transforms

// x * sigmoid(x), written as either of the two; null for anything else.
ov::Output<ov::Node> activated(const ov::Output<ov::Node>& output) {
  const auto node = output.get_node_shared_ptr();
  if (ov::is_type<Swish>(node) && node->get_input_size() == 1) return node->input_value(0);
  if (!ov::is_type<Multiply>(node)) return {};
  for (const std::size_t side : {0U, 1U}) {
    const auto gate = ov::as_type_ptr<Sigmoid>(node->get_input_node_shared_ptr(side));
    if (gate && gate->input_value(0) == node->input_value(1 - side)) return gate->input_value(0);
  }
  return {};
}

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
    if (ov::is_type<Reshape>(input.get_node())) input = input.get_node()->input_value(0);
    const auto constant = ov::as_type_ptr<Constant>(input.get_node_shared_ptr());
    if (constant) return WithConstant{node->input_value(1 - side), constant->cast_vector<float>()};
  }
  return std::nullopt;
}

bool all_are(const std::vector<float>& values, float wanted) {
  return std::all_of(values.begin(), values.end(), [wanted](float value) { return value == wanted; });
}

struct Norm {
  ov::Output<ov::Node> picture;
  std::vector<float> scale, shift;  // per channel
  std::int64_t groups;
  float epsilon;
};

// The reader of ONNX files makes an instance norm over (N, groups, -1) of a group norm, with a scale of one and a shift
// of zero, and the norm's own per channel after it.
std::optional<Norm> group_norm(const ov::Output<ov::Node>& output, const ov::ParameterVector& parameters) {
  auto shift = with_constant<Add>(output);
  auto scale = shift ? with_constant<Multiply>(shift->other) : std::nullopt;
  const auto picture_again = scale ? ov::as_type_ptr<Reshape>(scale->other.get_node_shared_ptr()) : nullptr;
  if (!picture_again) return std::nullopt;
  auto normal = picture_again->input_value(0);
  if (const auto zero = with_constant<Add>(normal); zero && all_are(zero->values, 0)) normal = zero->other;
  if (const auto one = with_constant<Multiply>(normal); one && all_are(one->values, 1)) normal = one->other;
  const auto mvn = ov::as_type_ptr<MVN>(normal.get_node_shared_ptr());
  const auto grouped = mvn ? ov::as_type_ptr<Reshape>(mvn->get_input_node_shared_ptr(0)) : nullptr;
  if (!grouped || !mvn->get_normalize_variance() || mvn->get_eps_mode() != ov::op::MVNEpsMode::INSIDE_SQRT) {
    return std::nullopt;
  }
  const auto axes = fold(mvn->input_value(1), parameters);
  const auto& shape = grouped->get_output_partial_shape(0);
  const auto& picture = grouped->get_input_partial_shape(0);
  const bool fits = axes && shape.rank() == 3 && shape[1].is_static() && picture.rank() == 4 && picture[1].is_static() &&
                    output.get_partial_shape().rank() == 4 && output.get_partial_shape()[1] == picture[1];
  if (!fits || axes->cast_vector<std::int64_t>() != std::vector<std::int64_t>{2}) return std::nullopt;
  const auto channels = static_cast<std::size_t>(picture[1].get_length());
  const bool per_channel = scale->values.size() == channels && shift->values.size() == channels;
  if (!per_channel || picture[1].get_length() % shape[1].get_length() != 0) return std::nullopt;
  return Norm{grouped->input_value(0), std::move(scale->values), std::move(shift->values), shape[1].get_length(),
              mvn->get_eps()};
}

std::shared_ptr<Constant> packed(const Constant& weights) {
  const auto& shape = weights.get_shape();
  const auto values = weights.cast_vector<float>();
  const auto out = static_cast<std::int64_t>(shape[0]), in = static_cast<std::int64_t>(shape[1]);
  constexpr auto together = static_cast<std::size_t>(cpu::winograd_channels);
  ov::Tensor tensor(ov::element::bf16, {16, shape[0] / together, shape[1] / 2, 2 * together});
  auto* to = static_cast<cpu::Bf16*>(tensor.data());
  cpu::pack_winograd_weights(values.data(), out, in, to, on_threads);
  return std::make_shared<Constant>(tensor);
}

std::shared_ptr<Constant> floats(const std::vector<float>& values) {
  return Constant::create(ov::element::f32, {values.size()}, values);
}

std::shared_ptr<Constant> order(const std::vector<std::int64_t>& axes) {
  return Constant::create(ov::element::i64, {axes.size()}, axes);
}

void join(const std::shared_ptr<Convolution>& node, const ov::ParameterVector& parameters) {
  const auto weights = stored_floats(node->input_value(1));
  if (!weights || !is_plain_3x3(*node, *weights)) return;
  const auto& shape = weights->get_shape();
  constexpr auto multiple = static_cast<std::size_t>(cpu::winograd_channels);
  if (shape[0] % multiple != 0 || shape[1] % multiple != 0 || std::min(shape[0], shape[1]) < few_channels) return;
  const auto before = activated(node->input_value(0));
  const auto norm = before.get_node() ? group_norm(before, parameters) : std::nullopt;
  if (!norm) return;
  const auto with_bias = biased(*node, shape[0]);
  const std::vector<float> bias =
      with_bias ? with_bias->bias->cast_vector<float>() : std::vector<float>(shape[0], 0.0F);

  const auto low = std::make_shared<Convert>(norm->picture, ov::element::bf16);
  const auto last = std::make_shared<Transpose>(low, order({0, 2, 3, 1}));
  const auto whole = std::make_shared<NormConvolution>(
      ov::OutputVector{last, floats(norm->scale), floats(norm->shift), packed(*weights), floats(bias)}, norm->groups,
      norm->epsilon);
  const auto first = std::make_shared<Transpose>(whole, order({0, 3, 1, 2}));
  const auto wide = std::make_shared<Convert>(first, ov::element::f32);
  const std::shared_ptr<ov::Node> old = with_bias ? with_bias->sum : node;
  wide->set_friendly_name(old->get_friendly_name());
  old->output(0).replace(wide);
}

}  // namespace

NormConvolution::NormConvolution(const ov::OutputVector& inputs, std::int64_t groups, float epsilon)
    : Op(inputs), groups_(groups), epsilon_(epsilon) {
  constructor_validate_and_infer_types();
}

void NormConvolution::validate_and_infer_types() {
  ov::PartialShape shape = get_input_partial_shape(0);
  const auto& weights = get_input_partial_shape(3);
  if (shape.rank() == 4 && weights.rank() == 4) shape[3] = weights[1] * cpu::winograd_channels;
  set_output_type(0, ov::element::bf16, shape);
}

std::shared_ptr<ov::Node> NormConvolution::clone_with_new_inputs(const ov::OutputVector& inputs) const {
  check_new_args_count(this, inputs);
  return std::make_shared<NormConvolution>(inputs, groups_, epsilon_);
}

bool NormConvolution::visit_attributes(ov::AttributeVisitor& visitor) {
  visitor.on_attribute("groups", groups_);
  visitor.on_attribute("epsilon", epsilon_);
  return true;
}

bool NormConvolution::evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const {
  const ov::Shape from = inputs[0].get_shape();
  const auto extent = [&from](std::size_t axis) { return static_cast<std::int64_t>(from[axis]); };
  const auto* picture = static_cast<const cpu::Bf16*>(inputs[0].data());
  const auto active = std::make_unique_for_overwrite<cpu::Bf16[]>(inputs[0].get_size());
  const cpu::NormSilu norm{extent(0), extent(1) * extent(2),         extent(3),                    groups_, epsilon_,
                           picture,   inputs[1].data<const float>(), inputs[2].data<const float>(), active.get()};
  cpu::norm_silu(norm, on_threads);
  const cpu::WinogradConv conv{extent(0),
                               extent(1),
                               extent(2),
                               extent(3),
                               static_cast<std::int64_t>(inputs[4].get_size()),
                               active.get(),
                               static_cast<const cpu::Bf16*>(inputs[3].data()),
                               inputs[4].data<const float>(),
                               static_cast<cpu::Bf16*>(outputs[0].data())};
  cpu::winograd_conv(conv, on_threads);
  return true;
}

void join_norm_convolutions(ov::Model& model) {
  for (const auto& op : model.get_ordered_ops()) {
    if (const auto node = ov::as_type_ptr<Convolution>(op)) join(node, model.get_parameters());
  }
}

}  // namespace hoirt::openvino

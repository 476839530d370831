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
#include "csrc/openvino/graph.h"
#include "csrc/openvino/norm_projection.h"
#include "csrc/openvino/norms.h"
#include "csrc/openvino/threads.h"
#include "csrc/openvino/winograd_weights.h"

namespace hoirt::openvino {
namespace {

using ov::opset13::Add;
using ov::opset13::Constant;
using ov::opset13::Convolution;
using ov::opset13::Multiply;
using ov::opset13::Reshape;
using ov::opset13::Sigmoid;
using ov::opset13::Swish;

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

struct Bias {
  ov::Output<ov::Node> values;    // (D,), or (N, D) where the items of a batch have their own
  std::shared_ptr<ov::Node> sum;  // what the convolution with it replaces
};

// Whether the values are one number per channel of each item: (N, D, 1, 1).
bool is_per_item(const ov::PartialShape& shape, std::size_t channels) {
  return shape.rank() == 4 && shape[1] == static_cast<std::int64_t>(channels) && shape[2] == 1 && shape[3] == 1;
}

// The bias that is added to the convolution, and what is added after it per item, as the embedding of the timestep is.
Bias added(const std::shared_ptr<Convolution>& node, std::size_t channels) {
  const auto with_bias = biased(*node, channels);
  const std::vector<float> constant =
      with_bias ? with_bias->bias->cast_vector<float>() : std::vector<float>(channels, 0.0F);
  Bias bias{floats(constant), with_bias ? with_bias->sum : node};
  const auto sum = only_sum(bias.sum->output(0));
  if (!sum || sum->other.get_element_type() != ov::element::f32) return bias;
  if (!is_per_item(sum->other.get_partial_shape(), channels)) return bias;
  const auto rows = Constant::create(ov::element::i64, {2}, {std::int64_t{-1}, static_cast<std::int64_t>(channels)});
  return {std::make_shared<Add>(std::make_shared<Reshape>(sum->other, rows, false), bias.values), sum->node};
}

// Whether `other` has the extents of the picture that goes into a chain of our nodes: it is that picture, or made of it
// by a 1x1 convolution.
bool has_extents(ov::Output<ov::Node> other, ov::Output<ov::Node> picture) {
  if (ov::is_type<Add>(other.get_node())) {
    for (const std::size_t side : {0U, 1U}) {
      const auto shortcut = ov::as_type_ptr<Convolution>(other.get_node()->get_input_node_shared_ptr(side));
      if (shortcut && biased(*shortcut, shortcut->get_input_partial_shape(1)[0].get_max_length())) {
        other = shortcut->output(0);
        break;
      }
    }
  }
  if (const auto shortcut = ov::as_type_ptr<Convolution>(other.get_node_shared_ptr())) {
    if (!is_plain_1x1(*shortcut)) return false;
    other = shortcut->input_value(0);
  }
  other = channels_last(other);
  const auto* projected = ov::as_type<NormProjection>(other.get_node());
  const auto before = projected && projected->keeps_extents() ? projected->input_value(0) : other;
  while (ov::is_type<NormConvolution>(picture.get_node()) && picture != other && picture != before) {
    picture = picture.get_node()->input_value(0);
  }
  return picture == other || picture == before;
}

}  // namespace

void join_norm_convolution(const std::shared_ptr<Convolution>& node, const ov::ParameterVector& parameters) {
  const auto convolution = winograd_convolution(*node);
  const auto before = convolution ? activated(convolution->picture) : ov::Output<ov::Node>{};
  const auto norm = before.get_node() ? group_norm(before, parameters) : std::nullopt;
  const auto weights = norm ? packed_weights(*node, convolution->int8, false) : ov::OutputVector{};
  if (weights.empty()) return;
  const Bias bias = added(node, convolution->weights[0]);
  const auto picture = channels_last(norm->picture);
  ov::OutputVector inputs{picture, floats(norm->scale), floats(norm->shift), bias.values};
  inputs.insert(inputs.end(), weights.begin(), weights.end());
  const auto sum = only_sum(bias.sum->output(0));
  const bool residual = sum && ov::is_type<NormConvolution>(picture.get_node()) &&
                        sum->other.get_partial_shape().rank() == 4 &&
                        sum->other.get_partial_shape()[1] == bias.sum->get_output_partial_shape(0)[1] &&
                        has_extents(sum->other, picture);
  if (residual) inputs.push_back(channels_last(sum->other));
  const auto whole = std::make_shared<NormConvolution>(inputs, norm->groups, norm->epsilon, residual);
  replace_by_channels_last(residual ? sum->node : bias.sum, whole);
}

NormConvolution::NormConvolution(const ov::OutputVector& inputs, std::int64_t groups, float epsilon, bool residual)
    : Op(inputs), groups_(groups), epsilon_(epsilon), residual_(residual) {
  constructor_validate_and_infer_types();
}

void NormConvolution::validate_and_infer_types() {
  ov::PartialShape shape = get_input_partial_shape(0);
  const auto& bias = get_input_partial_shape(3);
  if (shape.rank() == 4 && bias.rank().is_static()) shape[3] = bias[bias.size() - 1];
  set_output_type(0, ov::element::bf16, shape);
}

std::shared_ptr<ov::Node> NormConvolution::clone_with_new_inputs(const ov::OutputVector& inputs) const {
  check_new_args_count(this, inputs);
  return std::make_shared<NormConvolution>(inputs, groups_, epsilon_, residual_);
}

bool NormConvolution::visit_attributes(ov::AttributeVisitor& visitor) {
  visitor.on_attribute("groups", groups_);
  visitor.on_attribute("epsilon", epsilon_);
  visitor.on_attribute("residual", residual_);
  return true;
}

bool NormConvolution::evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const {
  const ov::Shape from = inputs[0].get_shape();
  const auto extent = [&from](std::size_t axis) { return static_cast<std::int64_t>(from[axis]); };
  const auto* picture = static_cast<const cpu::Bf16*>(inputs[0].data());
  std::vector<float> factors(from[0] * from[3]), offsets(factors.size());
  const cpu::GroupNorm norm{extent(0), extent(1) * extent(2), extent(3),
                            groups_,   epsilon_,              picture,
                            inputs[1].data<const float>(),    inputs[2].data<const float>()};
  cpu::norm_coefficients(norm, factors.data(), offsets.data(), on_threads);
  cpu::WinogradJob job;
  job.batch = extent(0), job.height = extent(1), job.width = extent(2);
  job.channels_in = extent(3), job.channels_out = static_cast<std::int64_t>(outputs[0].get_shape()[3]);
  job.input = picture, job.factors = factors.data(), job.offsets = offsets.data();
  job.bias = inputs[3].data<const float>(), job.bias_per_item = inputs[3].get_shape().size() == 2;
  job.residual = residual_ ? static_cast<const cpu::Bf16*>(inputs.back().data()) : nullptr;
  job.output = static_cast<cpu::Bf16*>(outputs[0].data());
  convolve(job, inputs, 4);
  return true;
}

}  // namespace hoirt::openvino

// Finds nearest-neighbour doubling before a convolution, and runs both as one.
#include "csrc/openvino/doubled_convolution.h"

#include <openvino/opsets/opset13.hpp>
#include <vector>

#include "csrc/openvino/convolution.h"
#include "csrc/openvino/doubled_pixels.h"
#include "csrc/openvino/graph.h"
#include "csrc/openvino/winograd_weights.h"

namespace hoirt::openvino {

using ov::opset13::Convolution;

void join_doubled_convolution(const std::shared_ptr<Convolution>& node) {
  const auto convolution = winograd_convolution(*node);
  const auto small = convolution ? before_doubling(convolution->picture) : ov::Output<ov::Node>{};
  const auto weights = small.get_node() ? packed_weights(*node, convolution->int8, true) : ov::OutputVector{};
  if (weights.empty()) return;
  const std::size_t channels = convolution->weights[0];
  const auto with_bias = biased(*node, channels);
  const auto bias = with_bias ? with_bias->bias->cast_vector<float>() : std::vector<float>(channels, 0.0F);
  ov::OutputVector inputs{channels_last(small), floats(bias)};
  inputs.insert(inputs.end(), weights.begin(), weights.end());
  replace_by_channels_last(with_bias ? with_bias->sum : node, std::make_shared<DoubledConvolution>(inputs));
}

DoubledConvolution::DoubledConvolution(const ov::OutputVector& inputs) : Op(inputs) { constructor_validate_and_infer_types(); }

void DoubledConvolution::validate_and_infer_types() {
  ov::PartialShape shape = get_input_partial_shape(0);
  const auto& bias = get_input_partial_shape(1);
  if (shape.rank() == 4 && bias.rank() == 1) {
    shape[1] *= 2, shape[2] *= 2;
    shape[3] = bias[0];
  }
  set_output_type(0, ov::element::bf16, shape);
}

std::shared_ptr<ov::Node> DoubledConvolution::clone_with_new_inputs(const ov::OutputVector& inputs) const {
  check_new_args_count(this, inputs);
  return std::make_shared<DoubledConvolution>(inputs);
}

bool DoubledConvolution::evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const {
  const ov::Shape to = outputs[0].get_shape();
  cpu::WinogradJob job;
  job.batch = static_cast<std::int64_t>(to[0]);
  job.height = static_cast<std::int64_t>(to[1]), job.width = static_cast<std::int64_t>(to[2]);
  job.channels_in = static_cast<std::int64_t>(inputs[0].get_shape()[3]);
  job.channels_out = static_cast<std::int64_t>(to[3]);
  job.doubled = true;
  job.input = static_cast<const cpu::Bf16*>(inputs[0].data());
  job.bias = inputs[1].data<const float>();
  job.output = static_cast<cpu::Bf16*>(outputs[0].data());
  convolve(job, inputs, 2);
  return true;
}

}  // namespace hoirt::openvino

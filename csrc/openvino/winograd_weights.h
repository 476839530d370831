// Weights of our convolutions as inputs of a node: bfloat16, or int8 with scales and offsets.
#pragma once

#include <cstddef>
#include <openvino/core/node_vector.hpp>
#include <openvino/opsets/opset13.hpp>
#include <openvino/runtime/tensor.hpp>
#include <optional>

#include "csrc/cpu/winograd_conv.h"

namespace hoirt::openvino {

// A plain 3x3 convolution that our kernels can run, with enough channels to pay for the transforms.
struct WinogradConvolution {
  ov::Output<ov::Node> picture;  // before it is rounded to bytes, if the graph does that
  ov::Shape weights;             // (out, in, 3, 3)
  bool int8 = false;             // the graph quantises both sides, and cpu::multiplies_int8()
};

std::optional<WinogradConvolution> winograd_convolution(const ov::opset13::Convolution& node);

// The weights of `node`, packed: (taps, D / 32, C / 2, 64) bf16 as cpu::pack_winograd_weights, or (16, D / 32, C / 4, 128) i8,
// scales (16, D) and offsets (16, D) i32 as cpu::pack_winograd_int8. Empty if they are not stored in the graph.
ov::OutputVector packed_weights(const ov::opset13::Convolution& node, bool int8, bool doubled);

// Runs the job, its tile aside, with the weights in inputs[first], or in the three from there on.
void convolve(cpu::WinogradJob job, const ov::TensorVector& inputs, std::size_t first);

std::shared_ptr<ov::opset13::Constant> floats(const std::vector<float>& values);

}  // namespace hoirt::openvino

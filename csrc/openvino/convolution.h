// What rewrites of convolutions ask of them: plain 3x3 kernels, their float weights, the bias that is added.
#pragma once

#include <memory>
#include <openvino/opsets/opset13.hpp>
#include <optional>

namespace hoirt::openvino {

// The values of float weights, stored as they are or as halves that are cast; null for others.
std::shared_ptr<ov::opset13::Constant> stored_floats(const ov::Output<ov::Node>& output);

// Stride 1, padding 1, no dilation, and weights of the shape (out, in, 3, 3).
bool is_plain_3x3(const ov::opset13::Convolution& node, const ov::Shape& weights);

// Kernels of one pixel, stride 1, no padding: the output has the picture's extents.
bool is_plain_1x1(const ov::opset13::Convolution& node);

// The sum of the convolution and a bias per channel, and that bias as (1, C, 1, 1).
struct Biased {
  std::shared_ptr<ov::Node> sum;
  std::shared_ptr<ov::opset13::Constant> bias;
};

// Nothing if the convolution is used in any other way. Only a shape may be taken of it besides: the reader of ONNX
// files finds the bias's rank that way.
std::optional<Biased> biased(const ov::opset13::Convolution& node, std::size_t channels);

}  // namespace hoirt::openvino

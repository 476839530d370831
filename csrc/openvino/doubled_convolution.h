// Doubling of pixels and a 3x3 convolution as one operation in bfloat16 or int8, with a quarter of the products.
#pragma once

#include <memory>
#include <openvino/core/model.hpp>
#include <openvino/op/op.hpp>
#include <openvino/opsets/opset13.hpp>

namespace hoirt::openvino {

// Pictures have their channels last. Inputs: picture (N, H, W, C) bf16, bias (D,) float32, and weights as `packed_weights`
// gives them. Output: (N, 2 H, 2 W, D) bf16.
class DoubledConvolution final : public ov::op::Op {
 public:
  OPENVINO_OP("DoubledConvolution", "hoirt")
  DoubledConvolution() = default;
  explicit DoubledConvolution(const ov::OutputVector& inputs);

  void validate_and_infer_types() override;
  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override;
  bool visit_attributes(ov::AttributeVisitor&) override { return true; }
  bool has_evaluate() const override { return true; }
  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override;
};

// Replaces the pair that ends in a convolution, if it is one and its numbers of channels allow it. Order and processor as
// for join_norm_convolution.
void join_doubled_convolution(const std::shared_ptr<ov::opset13::Convolution>& node);

}  // namespace hoirt::openvino

// Group norm, SiLU and a 3x3 convolution as one operation in bfloat16, with half of the products.
#pragma once

#include <memory>
#include <openvino/core/model.hpp>
#include <openvino/op/op.hpp>
#include <openvino/opsets/opset13.hpp>

namespace hoirt::openvino {

// Pictures have their channels last. Inputs: picture (N, H, W, C) bf16, scale (C,), shift (C,), bias (D,) or (N, D) float32,
// weights as `packed_weights` gives them, and maybe a picture (N, H, W, D) bf16 that is added. Output: (N, H, W, D) bf16.
class NormConvolution final : public ov::op::Op {
 public:
  OPENVINO_OP("NormConvolution", "hoirt")
  NormConvolution() = default;
  NormConvolution(const ov::OutputVector& inputs, std::int64_t groups, float epsilon, bool residual);

  void validate_and_infer_types() override;
  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override;
  bool visit_attributes(ov::AttributeVisitor& visitor) override;
  bool has_evaluate() const override { return true; }
  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override;

 private:
  std::int64_t groups_ = 1;
  float epsilon_ = 0;
  bool residual_ = false;
};

// Replaces the chain that ends in a convolution, if it is one and its numbers of channels allow it; what the graph
// quantises multiplies in int8, with scales of our own instead of the graph's. Nodes must come in the order of the graph,
// so that what two of them pass on stays as it is. Needs cpu::multiplies_bf16().
void join_norm_convolution(const std::shared_ptr<ov::opset13::Convolution>& node, const ov::ParameterVector& parameters);

}  // namespace hoirt::openvino

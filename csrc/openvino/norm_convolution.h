// Group norm, SiLU and a 3x3 convolution as one operation in bfloat16, with half of the products.
#pragma once

#include <memory>
#include <openvino/core/model.hpp>
#include <openvino/op/op.hpp>

namespace hoirt::openvino {

// Pictures have their channels last. Inputs: picture (N, H, W, C) bf16, scale (C,), shift (C,), packed weights as
// cpu::pack_winograd_weights (16, D / 32, C / 2, 64) bf16, bias (D,); the rest is float32. Output: (N, H, W, D) bf16.
class NormConvolution final : public ov::op::Op {
 public:
  OPENVINO_OP("NormConvolution", "hoirt")
  NormConvolution() = default;
  NormConvolution(const ov::OutputVector& inputs, std::int64_t groups, float epsilon);

  void validate_and_infer_types() override;
  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override;
  bool visit_attributes(ov::AttributeVisitor& visitor) override;
  bool has_evaluate() const override { return true; }
  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override;

 private:
  std::int64_t groups_ = 1;
  float epsilon_ = 0;
};

// Replaces every such chain whose numbers of channels allow it. Needs cpu::multiplies_bf16().
void join_norm_convolutions(ov::Model& model);

}  // namespace hoirt::openvino

// Attention as one operation in bfloat16.
#pragma once

#include <memory>
#include <openvino/op/op.hpp>
#include <openvino/opsets/opset13.hpp>

namespace hoirt::openvino {

// Inputs q (N, T, heads * D), k and v (N, S, heads * D), bf16; output like q.
class BlockAttention final : public ov::op::Op {
 public:
  OPENVINO_OP("BlockAttention", "hoirt")
  BlockAttention() = default;
  BlockAttention(const ov::OutputVector& inputs, std::int64_t heads, float scale, bool int8);

  void validate_and_infer_types() override;
  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override;
  bool visit_attributes(ov::AttributeVisitor& visitor) override;
  bool has_evaluate() const override { return true; }
  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override;

 private:
  std::int64_t heads_ = 1;
  float scale_ = 1;
  bool int8_ = false;
};

// Replaces the attention that this is the softmax of, if the network is wide enough. Needs cpu::multiplies_bf16().
void join_attention(const std::shared_ptr<ov::opset13::Softmax>& softmax);

}  // namespace hoirt::openvino

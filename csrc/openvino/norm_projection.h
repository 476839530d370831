// A norm, a projection of tokens, and the gate or the sum after it as one operation in bfloat16.
#pragma once

#include <memory>
#include <openvino/core/model.hpp>
#include <openvino/op/op.hpp>

#include "csrc/cpu/projection.h"

namespace hoirt::openvino {

// Inputs: tokens (..., C) bf16, or a picture (N, H, W, C) for a group norm; bias (columns,) float32; weights
// (columns / 32, C / 2, 64) bf16 as cpu::pack_projection writes them, or (columns / 32, C / 4, 128) i8, scales (columns,) and
// offsets (columns,) i32 as cpu::pack_projection_int8; the norm's scale and shift (C,), if there is one; a factor
// (N, 1, 1, 1) float32 of pictures, if they are scaled before the residual; the residual (..., D) bf16, if there is one, which
// may be broadcast, as in every sum. Outputs: `parts` times (..., D / parts) bf16, with D columns, or 2 D if it is gated.
class NormProjection final : public ov::op::Op {
 public:
  OPENVINO_OP("NormProjection", "hoirt")
  struct Options {
    cpu::Projection::Norm norm = cpu::Projection::Norm::none;
    std::int64_t groups = 1;  // of a group norm
    float epsilon = 0;
    bool int8 = false, gated = false, scaled = false, residual = false;
    std::int64_t parts = 1;
  };

  NormProjection() = default;
  NormProjection(const ov::OutputVector& inputs, const Options& options);

  void validate_and_infer_types() override;
  std::shared_ptr<ov::Node> clone_with_new_inputs(const ov::OutputVector& inputs) const override;
  bool visit_attributes(ov::AttributeVisitor& visitor) override;
  bool has_evaluate() const override { return true; }
  bool evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const override;

  bool int8() const { return options_.int8; }
  // Whether the output has the extents of the input: a residual may have others.
  bool keeps_extents() const { return !options_.residual; }

 private:
  void run(const cpu::Projection& job, const ov::TensorVector& inputs) const;
  void add_broadcast(const ov::TensorVector& inputs, const ov::Tensor& projected, ov::Tensor& output) const;

  Options options_;
};

}  // namespace hoirt::openvino

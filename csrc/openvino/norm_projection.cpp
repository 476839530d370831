// Runs a projection with the norm before and the gate or the sum after it.
#include "csrc/openvino/norm_projection.h"

#include <vector>

#include "csrc/cpu/norm_silu.h"
#include "csrc/cpu/projection_int8.h"
#include "csrc/openvino/threads.h"

namespace hoirt::openvino {

using Norm = cpu::Projection::Norm;

namespace {
const cpu::Bf16* halves(const ov::Tensor& tensor) { return static_cast<const cpu::Bf16*>(tensor.data()); }
}  // namespace

NormProjection::NormProjection(const ov::OutputVector& inputs, const Options& options) : Op(inputs), options_(options) {
  constructor_validate_and_infer_types();
}

void NormProjection::validate_and_infer_types() {
  ov::PartialShape shape = get_input_partial_shape(0);
  const auto& bias = get_input_partial_shape(1);
  if (shape.rank().is_static() && bias.rank() == 1 && bias[0].is_static()) {
    shape[shape.size() - 1] = bias[0].get_length() / (options_.gated ? 2 : 1) / options_.parts;
  }
  const std::size_t others = get_input_size() - (options_.residual ? 1 : 0) - (options_.scaled ? 1 : 0);
  for (std::size_t other = others; other < get_input_size(); ++other) {
    const auto& added = get_input_partial_shape(other);
    const bool fits = ov::PartialShape::broadcast_merge_into(shape, added, ov::op::AutoBroadcastType::NUMPY);
    NODE_VALIDATION_CHECK(this, fits, "shapes that do not go together: ", shape, " and ", added);
  }
  set_output_size(static_cast<std::size_t>(options_.parts));
  for (std::size_t part = 0; part < get_output_size(); ++part) set_output_type(part, ov::element::bf16, shape);
}

std::shared_ptr<ov::Node> NormProjection::clone_with_new_inputs(const ov::OutputVector& inputs) const {
  check_new_args_count(this, inputs);
  return std::make_shared<NormProjection>(inputs, options_);
}

bool NormProjection::visit_attributes(ov::AttributeVisitor& visitor) {
  auto norm = static_cast<std::int64_t>(options_.norm);
  visitor.on_attribute("norm", norm);
  options_.norm = static_cast<Norm>(norm);
  visitor.on_attribute("groups", options_.groups);
  visitor.on_attribute("epsilon", options_.epsilon);
  visitor.on_attribute("int8", options_.int8);
  visitor.on_attribute("gated", options_.gated);
  visitor.on_attribute("scaled", options_.scaled);
  visitor.on_attribute("residual", options_.residual);
  visitor.on_attribute("parts", options_.parts);
  return true;
}

void NormProjection::run(const cpu::Projection& job, const ov::TensorVector& inputs) const {
  if (!options_.int8) return cpu::project(job, halves(inputs[2]), on_threads);
  const cpu::ProjectionInt8 weights{inputs[2].data<const std::int8_t>(), inputs[3].data<const float>(),
                                    inputs[4].data<const std::int32_t>()};
  cpu::project_int8(job, weights, on_threads);
}

// The rare case: rows of one operand are used for several of the other's.
void NormProjection::add_broadcast(const ov::TensorVector& inputs, const ov::Tensor& projected, ov::Tensor& output) const {
  const ov::Shape to = output.get_shape();
  // Where the element of `output` at `index` comes from.
  const auto place = [&to](const ov::Shape& from, std::size_t index) {
    std::size_t at = 0;
    for (std::size_t axis = to.size(), step = 1; axis-- > 0; index /= to[axis]) {
      at += from[axis] == 1 ? 0 : index % to[axis] * step;
      step *= from[axis];
    }
    return at;
  };
  const auto value = [&place](const ov::Tensor& tensor, std::size_t index) {
    return cpu::float_of(halves(tensor)[place(tensor.get_shape(), index)]);
  };
  for (std::size_t i = 0; i < output.get_size(); ++i) {
    const ov::Tensor& factors = inputs[inputs.size() - 2];
    const float factor = options_.scaled ? factors.data<const float>()[place(factors.get_shape(), i)] : 1.0F;
    static_cast<cpu::Bf16*>(output.data())[i] = cpu::bf16_of(value(projected, i) * factor + value(inputs.back(), i));
  }
}

bool NormProjection::evaluate(ov::TensorVector& outputs, const ov::TensorVector& inputs) const {
  if (outputs[0].get_size() == 0 || inputs[0].get_size() == 0) return true;
  const ov::Shape from = inputs[0].get_shape();
  const std::int64_t items = options_.norm == Norm::group || options_.scaled ? static_cast<std::int64_t>(from[0]) : 1;
  cpu::Projection job;
  job.channels_in = static_cast<std::int64_t>(from.back());
  job.rows = static_cast<std::int64_t>(inputs[0].get_size() / from.back());
  job.channels_out = static_cast<std::int64_t>(inputs[1].get_size()) / (options_.gated ? 2 : 1);
  job.item_rows = job.rows / items;
  job.gated = options_.gated, job.parts = options_.parts;
  job.input = halves(inputs[0]), job.bias = inputs[1].data<const float>();
  for (std::size_t part = 0; part < outputs.size(); ++part) job.outputs[part] = static_cast<cpu::Bf16*>(outputs[part].data());
  job.norm = options_.norm, job.epsilon = options_.epsilon;
  const std::size_t scale = options_.int8 ? 5 : 3;
  if (job.norm != Norm::none) job.scale = inputs[scale].data<const float>(), job.shift = inputs[scale + 1].data<const float>();
  std::vector<float> factors, offsets;
  if (job.norm == Norm::group) {
    factors.resize(from[0] * from.back()), offsets.resize(factors.size());
    const cpu::GroupNorm norm{items,       job.item_rows, job.channels_in, options_.groups,
                              job.epsilon, job.input,     job.scale,       job.shift};
    cpu::norm_coefficients(norm, factors.data(), offsets.data(), on_threads);
    job.scale = factors.data(), job.shift = offsets.data();
  }
  if (!options_.residual) return run(job, inputs), true;
  const ov::Tensor& factor = inputs[inputs.size() - 2];
  ov::Shape made = from;
  made.back() = static_cast<std::size_t>(job.channels_out);
  const bool alike = made == outputs[0].get_shape() && made == inputs.back().get_shape();
  if (alike && (!options_.scaled || factor.get_size() == from[0])) {
    job.residual = halves(inputs.back());
    job.factors = options_.scaled ? factor.data<const float>() : nullptr;
    run(job, inputs);
  } else {
    ov::Tensor projected(ov::element::bf16, made);
    job.outputs[0] = static_cast<cpu::Bf16*>(projected.data());
    run(job, inputs);
    add_broadcast(inputs, projected, outputs[0]);
  }
  return true;
}

}  // namespace hoirt::openvino

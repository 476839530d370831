// Program: one compiled form of a network with its pool of infer requests.
#include "csrc/openvino/program.h"

#include <cstring>
#include <utility>

#include "csrc/openvino/convert.h"

namespace hoirt::openvino {
namespace {

// The tensor, or its first half. OpenVINO only reads inputs, but its tensors have no const form.
ov::Tensor wrap(const Tensor& tensor, bool half = false) {
  ov::Shape shape = static_shape_of(tensor.shape());
  if (half) shape[0] /= 2;
  return {element_of(tensor.dtype()), shape, const_cast<void*>(tensor.raw())};
}

// Checks the memory that the caller gave, or allocates it.
void fit_output(Tensor& tensor, const Shape& shape, DType dtype, std::size_t index) {
  if (!tensor.raw()) {
    tensor = Tensor(shape, dtype);
  } else if (tensor.shape() != shape) {
    throw InputError("output " + std::to_string(index) + " has shape " + to_string(shape) + " for these inputs; got " +
                     to_string(tensor.shape()));
  }
}

}  // namespace

Program::Program(ov::CompiledModel compiled, std::vector<bool> halved, ov::Tensor blob)
    : halved_(std::move(halved)), blob_(std::move(blob)), compiled_(std::move(compiled)) {
  std::vector<Shape> shapes;
  for (const auto& output : compiled_.outputs()) {
    if (output.get_partial_shape().is_dynamic()) return;
    shapes.push_back(shape_of(output.get_partial_shape()));
  }
  output_shapes_ = std::move(shapes);
}

ov::InferRequest Program::take_request() {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      ov::InferRequest request = std::move(idle_.back());
      idle_.pop_back();
      return request;
    }
  }
  return compiled_.create_infer_request();
}

void Program::run(const std::vector<const Tensor*>& inputs, const std::vector<Tensor*>& outputs) {
  ov::InferRequest request = take_request();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    request.set_input_tensor(i, wrap(*inputs[i], !halved_.empty() && halved_[i]));
  }
  if (output_shapes_) {
    run_in_place(request, outputs);
  } else {
    run_and_copy(request, outputs);
  }
  // A request that threw is not used again: it was destroyed on the way out.
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(request));
}

void Program::run_in_place(ov::InferRequest& request, const std::vector<Tensor*>& outputs) {
  std::vector<Tensor> unwanted;  // the request still needs memory for them
  unwanted.reserve(outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    Tensor& output = outputs[i] ? *outputs[i] : unwanted.emplace_back();
    fit_output(output, (*output_shapes_)[i], dtype_of(compiled_.output(i).get_element_type()), i);
    request.set_output_tensor(i, wrap(output));
  }
  request.infer();
}

void Program::run_and_copy(ov::InferRequest& request, const std::vector<Tensor*>& outputs) {
  request.infer();
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i]) continue;
    const ov::Tensor result = request.get_output_tensor(i);
    const ov::Shape shape = result.get_shape();
    fit_output(*outputs[i], Shape(shape.begin(), shape.end()), dtype_of(result.get_element_type()), i);
    std::memcpy(outputs[i]->raw(), result.data(), result.get_byte_size());
  }
}

}  // namespace hoirt::openvino

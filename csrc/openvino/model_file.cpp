// Reading an ONNX file into an OpenVINO model, and telling a damaged file from an unsupported one.
#include "csrc/openvino/model_file.h"

#include <filesystem>
#include <openvino/frontend/manager.hpp>
#include <openvino/op/constant.hpp>

#include "csrc/openvino/attention.h"
#include "csrc/openvino/convert.h"
#include "csrc/openvino/doubled_convolution.h"
#include "csrc/openvino/join_projection.h"
#include "csrc/openvino/norm_convolution.h"
#include "csrc/openvino/split_projection.h"
#include "csrc/openvino/stable_norm.h"
#include "csrc/openvino/upsample_conv.h"

namespace hoirt::openvino {
namespace {

// The friendly name of an input is its name in the file, but another name may come first in its tensor's set.
void set_shapes(ov::Model& model, const std::string& path, const std::map<std::string, Shape>& shapes) {
  const std::vector<Port> ports = input_ports(model);
  std::map<std::size_t, ov::PartialShape> by_index;
  for (const auto& [name, shape] : shapes) {
    const Port* port = find_port(ports, name);
    if (!port) throw InputError("shapes: " + path + " has no input '" + name + "'; it has " + port_names(ports));
    const bool fits = partial_shape_of(port->shape).compatible(partial_shape_of(shape));
    bool positive = true;
    for (const auto extent : shape) positive = positive && (extent > 0 || extent == -1);
    if (!fits || !positive) {
      throw InputError("shapes: the input '" + name + "' of " + path + " cannot be " + to_string(shape) +
                       "; the file says " + to_string(port->shape) + " (-1: any extent above 0)");
    }
    by_index.emplace(static_cast<std::size_t>(port - ports.data()), partial_shape_of(shape));
  }
  try {
    model.reshape(by_index);
  } catch (const ov::Exception& error) {
    throw InputError(path + " cannot run with these shapes: " + reason(error));
  }
}

// Makes our operations of what ends in this node. A node that was replaced before is left alone.
void join(const std::shared_ptr<ov::Node>& node, const ov::ParameterVector& parameters) {
  if (const auto convolution = ov::as_type_ptr<ov::opset13::Convolution>(node)) {
    join_norm_convolution(convolution, parameters);
    join_doubled_convolution(convolution);
    join_projection(convolution, parameters);
  } else if (const auto softmax = ov::as_type_ptr<ov::opset13::Softmax>(node)) {
    join_attention(softmax);
  } else if (const auto product = ov::as_type_ptr<ov::opset13::MatMul>(node)) {
    join_projection(product, parameters);
  }
}

}  // namespace

void check_model_path(const std::string& path) {
  std::error_code failure;
  if (!std::filesystem::is_regular_file(path, failure)) {
    throw PackError("no model file at " + path + (failure ? ": " + failure.message() : ""));
  }
  if (std::filesystem::path(path).extension() != ".onnx") {
    throw PackError("the model file " + path + " is not called *.onnx");
  }
}

std::shared_ptr<ov::Model> read_model(const std::string& path, const std::map<std::string, Shape>& shapes,
                                      bool own_kernels) {
  std::shared_ptr<ov::Model> model;
  try {
    // Not ov::Core::read_model: that offers a damaged file to the parsers of every other format too.
    const auto frontend = ov::frontend::FrontEndManager().load_by_framework("onnx");
    constexpr bool map_weights = true;
    model = frontend->convert(frontend->load(path, map_weights));
  } catch (const std::exception& error) {
    const std::string text = reason(error);
    if (text.find("No conversion rule found") != std::string::npos) {
      throw BackendError("OpenVINO cannot run " + path + ": " + text);
    }
    throw PackError("cannot read the model " + path + ": " + text);
  }
  // An empty file is a valid, empty message in ONNX's encoding.
  if (model->get_results().empty()) throw PackError("the model " + path + " has no outputs, it is not a network");
  if (!shapes.empty()) set_shapes(*model, path, shapes);
  if (own_kernels) {
    for (const auto& node : model->get_ordered_ops()) join(node, model->get_parameters());
  }
  make_norms_stable(*model);
  split_projections(*model);
  shrink_upsampled_convolutions(*model);
  return model;
}

std::size_t weight_bytes(const ov::Model& model) {
  std::size_t bytes = 0;
  for (const auto& node : model.get_ops()) {
    if (const auto constant = ov::as_type_ptr<ov::op::v0::Constant>(node)) bytes += constant->get_byte_size();
  }
  return bytes;
}

}  // namespace hoirt::openvino

// Reading an ONNX file into an OpenVINO model, and telling a damaged file from an unsupported one.
#include "csrc/openvino/model_file.h"

#include <filesystem>
#include <openvino/op/constant.hpp>

#include "csrc/openvino/convert.h"
#include "csrc/openvino/stable_norm.h"

namespace hoirt::openvino {
namespace {

std::string list_names(const std::vector<Port>& ports) {
  std::string text;
  for (const auto& port : ports) text += (text.empty() ? "" : ", ") + port.name;
  return text;
}

const Port& find_port(const std::vector<Port>& ports, const std::string& name, const std::string& path) {
  for (const auto& port : ports) {
    if (port.name == name) return port;
  }
  throw InputError("shapes name the input \"" + name + "\", which " + path + " does not have; it has: " +
                   list_names(ports));
}

// The friendly name of an input is its name in the file, but another name may come first in its tensor's set.
void set_shapes(ov::Model& model, const std::string& path, const std::map<std::string, Shape>& shapes) {
  const std::vector<Port> ports = input_ports(model);
  std::map<std::size_t, ov::PartialShape> by_index;
  for (const auto& [name, shape] : shapes) {
    const Port& port = find_port(ports, name, path);
    const bool fits = ov::PartialShape(partial_shape_of(port.shape)).compatible(partial_shape_of(shape));
    bool positive = true;
    for (const auto extent : shape) positive = positive && (extent > 0 || extent == -1);
    if (!fits || !positive) {
      throw InputError("input \"" + name + "\" of " + path + " cannot have shape " + to_string(shape) +
                       "; the file says " + to_string(port.shape) + " (-1: any extent above 0)");
    }
    by_index.emplace(static_cast<std::size_t>(&port - ports.data()), partial_shape_of(shape));
  }
  try {
    model.reshape(by_index);
  } catch (const ov::Exception& error) {
    throw InputError(path + " cannot run with these shapes: " + reason(error));
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

std::shared_ptr<ov::Model> read_model(ov::Core& core, const std::string& path,
                                      const std::map<std::string, Shape>& shapes) {
  std::shared_ptr<ov::Model> model;
  try {
    model = core.read_model(path);
  } catch (const std::exception& error) {
    const std::string text = reason(error);
    if (text.find("No conversion rule found") != std::string::npos) {
      throw BackendError("OpenVINO cannot run " + path + ": " + text);
    }
    throw PackError("cannot read the model " + path + ": " + text);
  }
  if (!shapes.empty()) set_shapes(*model, path, shapes);
  make_norms_stable(*model);
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

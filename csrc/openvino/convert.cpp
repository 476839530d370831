// Between hoirt's types and OpenVINO's: dtypes, shapes, names, error texts.
#include "csrc/openvino/convert.h"

#include <sstream>
#include <utility>

namespace hoirt::openvino {
namespace {

constexpr std::size_t longest_reason = 600;

// The reader of ONNX files names the node behind an output "<output name>/sink_port_0". A value may carry further
// names, so the first of its set is not always the one in the file.
std::string output_name(const ov::Output<const ov::Node>& output) {
  const std::string friendly = output.get_node()->get_friendly_name();
  const std::string name = friendly.substr(0, friendly.rfind("/sink_port_"));
  const auto& names = output.get_names();
  return names.empty() || names.count(name) ? name : output.get_any_name();
}

}  // namespace

DType dtype_of(const ov::element::Type& type) {
  switch (ov::element::Type_t(type)) {
    case ov::element::Type_t::f32:
      return DType::f32;
    case ov::element::Type_t::f64:
      return DType::f64;
    case ov::element::Type_t::f16:
      return DType::f16;
    case ov::element::Type_t::bf16:
      return DType::bf16;
    case ov::element::Type_t::i32:
      return DType::i32;
    case ov::element::Type_t::i64:
      return DType::i64;
    case ov::element::Type_t::u8:
      return DType::u8;
    case ov::element::Type_t::boolean:
      return DType::boolean;
    default:
      throw BackendError("inputs and outputs of type " + type.get_type_name() + " are not supported");
  }
}

ov::element::Type element_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ov::element::f32;
    case DType::f64:
      return ov::element::f64;
    case DType::f16:
      return ov::element::f16;
    case DType::bf16:
      return ov::element::bf16;
    case DType::i32:
      return ov::element::i32;
    case DType::i64:
      return ov::element::i64;
    case DType::u8:
      return ov::element::u8;
    case DType::boolean:
      return ov::element::boolean;
  }
  throw InputError("unknown dtype");
}

Shape shape_of(const ov::PartialShape& shape) {
  if (shape.rank().is_dynamic()) {
    throw BackendError("inputs and outputs of unknown rank are not supported");
  }
  Shape extents;
  for (const auto& extent : shape) {
    extents.push_back(extent.is_static() ? extent.get_length() : -1);
  }
  return extents;
}

ov::PartialShape partial_shape_of(const Shape& shape) {
  ov::PartialShape partial = ov::PartialShape::dynamic(static_cast<std::int64_t>(shape.size()));
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    partial[axis] = shape[axis] < 0 ? ov::Dimension::dynamic() : ov::Dimension(shape[axis]);
  }
  return partial;
}

ov::Shape static_shape_of(const Shape& shape) { return {shape.begin(), shape.end()}; }

std::vector<Port> input_ports(const ov::Model& model) {
  std::vector<Port> ports;
  for (const auto& input : model.inputs()) {
    ports.push_back({input.get_node()->get_friendly_name(), shape_of(input.get_partial_shape()),
                     dtype_of(input.get_element_type())});
  }
  return ports;
}

std::vector<Port> output_ports(const ov::Model& model) {
  std::vector<Port> ports;
  for (const auto& output : model.outputs()) {
    ports.push_back({output_name(output), shape_of(output.get_partial_shape()), dtype_of(output.get_element_type())});
  }
  return ports;
}

std::string reason(const std::exception& error) {
  std::istringstream lines(error.what());
  std::string text;
  for (std::string line; std::getline(lines, line);) {
    const bool location = line.starts_with("Exception from ");
    if (!line.empty() && !location) text += (text.empty() ? "" : " ") + line;
  }
  // A damaged file may be quoted in there, so the text is cut and made printable.
  if (text.size() > longest_reason) text.resize(longest_reason);
  for (char& letter : text) {
    if (letter < ' ' || letter > '~') letter = '?';
  }
  return text.empty() ? "no reason given" : text;
}

}  // namespace hoirt::openvino

// Between hoirt's types and OpenVINO's: dtypes, shapes, names, error texts.
#pragma once

#include <openvino/openvino.hpp>
#include <string>

#include "engine/network.h"

namespace hoirt::openvino {

// Throws BackendError for an element type that hoirt has no dtype for.
DType dtype_of(const ov::element::Type& type);
ov::element::Type element_of(DType dtype);

// -1 for every extent that is not fixed.
Shape shape_of(const ov::PartialShape& shape);
ov::PartialShape partial_shape_of(const Shape& shape);
ov::Shape static_shape_of(const Shape& shape);

// The names, shapes and dtypes of a model; names are those of the ONNX graph.
std::vector<Port> input_ports(const ov::Model& model);
std::vector<Port> output_ports(const ov::Model& model);

// What an OpenVINO exception says, on one line and without its source locations.
std::string reason(const std::exception& error);

}  // namespace hoirt::openvino

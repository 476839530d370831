// Splits a projection's weights instead of its output.
#pragma once

#include <openvino/core/model.hpp>

namespace hoirt::openvino {

// A gated unit projects to twice its width and multiplies one half by an activation of the other. Cutting the output
// copies it; two projections write the halves where they are needed, and OpenVINO can fuse the activation into one
// of them. Every column is the same sum as before. Quantised weights are split with their scales.
void split_projections(ov::Model& model);

}  // namespace hoirt::openvino

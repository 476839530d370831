// Finds group norms and layer norms in a graph, as the reader of ONNX files writes them.
#pragma once

#include <cstdint>
#include <openvino/core/model.hpp>
#include <optional>
#include <vector>

namespace hoirt::openvino {

struct GroupNormOf {
  ov::Output<ov::Node> picture;     // (N, C, H, W)
  std::vector<float> scale, shift;  // per channel
  std::int64_t groups;
  float epsilon;
};

std::optional<GroupNormOf> group_norm(const ov::Output<ov::Node>& output, const ov::ParameterVector& parameters);

struct LayerNormOf {
  ov::Output<ov::Node> tokens;      // (..., C)
  std::vector<float> scale, shift;  // per channel
  float epsilon;
};

// Over the last axis.
std::optional<LayerNormOf> layer_norm(const ov::Output<ov::Node>& output, const ov::ParameterVector& parameters);

}  // namespace hoirt::openvino

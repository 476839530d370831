// Reads the attributes and scales of a resize node.
#include "csrc/openvino/doubled_pixels.h"

#include <algorithm>
#include <array>
#include <openvino/op/util/interpolate_base.hpp>
#include <openvino/opsets/opset13.hpp>
#include <vector>

namespace hoirt::openvino {
namespace {

using ov::op::util::InterpolateBase;
using ov::opset13::Constant;

bool all(const std::vector<std::size_t>& values, std::size_t wanted) {
  return std::all_of(values.begin(), values.end(), [wanted](auto value) { return value == wanted; });
}

bool doubles_pixels(const InterpolateBase& node) {
  const auto& how = node.get_attrs();
  using Coordinates = InterpolateBase::CoordinateTransformMode;
  using Nearest = InterpolateBase::NearestMode;
  const bool plain =
      how.mode == InterpolateBase::InterpolateMode::NEAREST &&
      how.shape_calculation_mode == InterpolateBase::ShapeCalcMode::SCALES &&
      how.coordinate_transformation_mode == Coordinates::ASYMMETRIC && how.nearest_mode == Nearest::FLOOR &&
      all(how.pads_begin, 0) && all(how.pads_end, 0) && node.get_input_partial_shape(0).rank().compatible(4);
  // Version 4 has the sizes before the scales, version 11 has one of them.
  const auto scales_at = ov::is_type<ov::opset13::Interpolate>(&node) ? 1U : 2U;
  if (!plain) return false;
  const auto scales = ov::as_type_ptr<Constant>(node.get_input_node_shared_ptr(scales_at));
  const bool some_axes = node.get_input_size() > scales_at + 1;
  const auto axes =
      some_axes ? ov::as_type_ptr<Constant>(node.get_input_node_shared_ptr(scales_at + 1)) : nullptr;
  if (!scales || (some_axes && !axes)) return false;
  const auto factors = scales->cast_vector<float>();
  const auto along = axes ? axes->cast_vector<std::int64_t>() : std::vector<std::int64_t>{0, 1, 2, 3};
  std::array<float, 4> factor = {1, 1, 1, 1};
  if (factors.size() != along.size()) return false;
  for (std::size_t i = 0; i < along.size(); ++i) {
    factor.at(static_cast<std::size_t>(along[i] < 0 ? along[i] + 4 : along[i])) = factors[i];
  }
  return factor == std::array<float, 4>{1, 1, 2, 2};
}

}  // namespace

ov::Output<ov::Node> before_doubling(const ov::Output<ov::Node>& output) {
  const auto resize = ov::as_type_ptr<InterpolateBase>(output.get_node_shared_ptr());
  const bool alone = resize && resize->get_output_target_inputs(0).size() == 1;
  return alone && doubles_pixels(*resize) ? resize->input_value(0) : ov::Output<ov::Node>{};
}

}  // namespace hoirt::openvino

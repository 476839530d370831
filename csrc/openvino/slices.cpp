// Folds the ends, the step and the axis of a slice.
#include "csrc/openvino/slices.h"

#include <algorithm>

#include "csrc/openvino/fold.h"

namespace hoirt::openvino {
namespace {

std::optional<std::int64_t> single_value(const ov::Output<ov::Node>& output, const ov::ParameterVector& parameters) {
  const auto constant = fold(output, parameters);
  if (!constant || ov::shape_size(constant->get_shape()) != 1) return std::nullopt;
  return constant->cast_vector<std::int64_t>()[0];
}

}  // namespace

std::optional<Columns> columns_of(const ov::opset13::Slice& node, std::int64_t width, const ov::ParameterVector& parameters) {
  if (node.get_input_size() != 5) return std::nullopt;
  const auto value = [&](std::size_t input) { return single_value(node.input_value(input), parameters); };
  const auto start = value(1), stop = value(2), step = value(3), axis = value(4);
  const auto rank = node.get_input_partial_shape(0).rank();
  if (!start || !stop || step != 1 || !axis || rank.is_dynamic()) return std::nullopt;
  if (*axis != -1 && *axis != rank.get_length() - 1) return std::nullopt;
  const Columns range{*start, std::min(*stop, width)};  // slices may name an end beyond the last column
  return range.start >= 0 && range.start < range.stop ? std::optional(range) : std::nullopt;
}

}  // namespace hoirt::openvino

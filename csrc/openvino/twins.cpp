// Two copies of a network, one for half of the batch, joined where the halves come to differ.
#include "csrc/openvino/twins.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <openvino/op/util/shape_of_base.hpp>
#include <openvino/opsets/opset13.hpp>
#include <set>
#include <utility>

#include "csrc/openvino/attention.h"
#include "csrc/openvino/doubled_convolution.h"
#include "csrc/openvino/norm_convolution.h"
#include "csrc/openvino/norm_projection.h"

namespace hoirt::openvino {
namespace {

using ov::opset13::Parameter;

constexpr std::size_t few_layers = 8;  // less than that is not worth a program of its own

bool is_layer(const ov::Node& node) {
  return ov::is_type<ov::opset13::Convolution>(&node) || ov::is_type<ov::opset13::MatMul>(&node) ||
         ov::is_type<NormConvolution>(&node) || ov::is_type<DoubledConvolution>(&node) || ov::is_type<NormProjection>(&node) ||
         ov::is_type<BlockAttention>(&node);
}

// For every node, in order: the inputs that it depends on.
std::vector<Twins> dependencies(const ov::Model& model, const ov::NodeVector& nodes) {
  std::map<const ov::Node*, std::size_t> index;
  std::vector<Twins> found;
  for (const auto& node : nodes) {
    Twins all(model.get_parameters().size());
    if (const auto parameter = ov::as_type_ptr<Parameter>(node)) {
      all[static_cast<std::size_t>(model.get_parameter_index(parameter))] = true;
    }
    for (const auto& input : node->input_values()) {
      const Twins& before = found[index.at(input.get_node())];
      for (std::size_t i = 0; i < all.size(); ++i) all[i] = all[i] || before[i];
    }
    index.emplace(node.get(), found.size());
    found.push_back(std::move(all));
  }
  return found;
}

bool contains(const Twins& all, const Twins& some) {
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (some[i] && !all[i]) return false;
  }
  return true;
}

bool is_none(const Twins& marks) { return std::find(marks.begin(), marks.end(), true) == marks.end(); }

bool has_equal_halves(const Tensor& tensor) {
  const auto* bytes = static_cast<const char*>(tensor.raw());
  return std::memcmp(bytes, bytes + tensor.bytes() / 2, tensor.bytes() / 2) == 0;
}

std::shared_ptr<ov::Model> shaped(const ov::Model& model, const std::vector<ov::PartialShape>& shapes, bool halved) {
  std::map<std::size_t, ov::PartialShape> by_index;
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    ov::PartialShape shape = shapes[i];
    if (halved) shape[0] = shape[0].get_length() / 2;
    by_index.emplace(i, std::move(shape));
  }
  auto copy = model.clone();
  copy->reshape(by_index);
  return copy;
}

// Only the shapes, which are known: what is computed of int8 weights stays as it is, so that it runs in int8.
void fold_shapes(const ov::Model& model) {
  for (const auto& node : model.get_ordered_ops()) {
    if (!ov::is_type<ov::op::util::ShapeOfBase>(node) || node->get_input_partial_shape(0).is_dynamic()) continue;
    const ov::Shape shape = node->get_input_shape(0);
    node->output(0).replace(ov::opset13::Constant::create(node->get_element_type(), {shape.size()}, shape));
  }
}

bool is_twice(const ov::PartialShape& whole, const ov::PartialShape& half) {
  if (whole.is_dynamic() || half.is_dynamic() || whole.size() == 0 || whole.size() != half.size()) return false;
  ov::Shape twice = half.to_shape();
  twice[0] *= 2;
  return whole.to_shape() == twice;
}

// Whether two copies' nodes are copies of one. Constants that reshaping made have a new name in each.
bool is_same(const ov::Node& one, const ov::Node& other) {
  if (one.get_type_info() != other.get_type_info()) return false;
  return ov::is_type<ov::opset13::Constant>(&one) || one.get_friendly_name() == other.get_friendly_name();
}

// Whether the items of what a node makes may no longer lie one after the other, even if they do in its inputs.
bool mixes_items(const ov::Node& node) {
  if (const auto* concat = ov::as_type<const ov::opset13::Concat>(&node)) return concat->get_axis() == 0;
  if (ov::is_type<ov::opset13::Einsum>(&node)) return true;
  if (!ov::is_type<ov::opset13::Transpose>(&node)) return false;
  const auto order = ov::as_type_ptr<ov::opset13::Constant>(node.get_input_node_shared_ptr(1));
  return !order || ov::shape_size(order->get_shape()) == 0 || order->cast_vector<std::int64_t>()[0] != 0;
}

// Lets the nodes of a model that see other inputs read what the half computes. False if some value cannot be joined.
bool connect(const ov::Model& model, const ov::Model& half_model, const Twins& twins) {
  const ov::NodeVector whole = model.get_ordered_ops(), half = half_model.get_ordered_ops();
  const auto depend = dependencies(model, whole);
  std::map<const ov::Node*, std::size_t> index;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    if (i >= half.size() || !is_same(*whole[i], *half[i])) return false;
    index.emplace(whole[i].get(), i);
  }
  std::map<std::pair<std::size_t, std::size_t>, ov::Output<ov::Node>> joined;
  const auto early = [&](std::size_t i) { return contains(twins, depend[i]) && !ov::is_type<ov::opset13::Result>(whole[i]); };
  for (std::size_t i = 0; i < whole.size(); ++i) {
    if (early(i)) {
      if (!is_none(depend[i]) && mixes_items(*whole[i])) return false;
      continue;
    }
    for (auto& input : whole[i]->inputs()) {
      const auto from = input.get_source_output();
      const std::size_t source = index.at(from.get_node());
      if (!early(source) || is_none(depend[source])) continue;
      const auto single = half[source]->output(from.get_index());
      if (from.get_partial_shape() == single.get_partial_shape()) continue;  // a number made of shapes
      if (!is_twice(from.get_partial_shape(), single.get_partial_shape())) return false;
      auto& both = joined[{source, from.get_index()}];
      if (!both.get_node()) both = std::make_shared<ov::opset13::Concat>(ov::OutputVector{single, single}, 0);
      input.replace_source_output(both);
    }
  }
  return true;
}

}  // namespace

std::vector<Twins> possible_twins(const ov::Model& model) {
  const ov::NodeVector nodes = model.get_ordered_ops();
  const auto depend = dependencies(model, nodes);
  std::map<std::size_t, std::set<Twins>> by_work;
  // Each input in turn is the one that differs.
  for (std::size_t other = 0; other < model.get_parameters().size(); ++other) {
    Twins needed(model.get_parameters().size());
    std::size_t layers = 0;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      if (!is_layer(*nodes[i]) || depend[i][other] || is_none(depend[i])) continue;
      ++layers;
      for (std::size_t k = 0; k < needed.size(); ++k) needed[k] = needed[k] || depend[i][k];
    }
    if (layers >= few_layers) by_work[layers].insert(needed);
  }
  std::vector<Twins> found;
  for (auto group = by_work.rbegin(); group != by_work.rend(); ++group) found.insert(found.end(), group->second.begin(), group->second.end());
  return found;
}

std::optional<Twins> find_twins(const std::vector<Twins>& possible, const std::vector<const Tensor*>& inputs) {
  if (possible.empty() || inputs.front()->rank() == 0) return std::nullopt;
  const std::int64_t items = inputs.front()->dim(0);
  for (const auto* tensor : inputs) {
    if (tensor->rank() == 0 || tensor->dim(0) != items || items % 2 != 0) return std::nullopt;
  }
  std::vector<std::optional<bool>> equal(inputs.size());
  for (const Twins& twins : possible) {
    bool all = true;
    for (std::size_t i = 0; i < inputs.size() && all; ++i) {
      if (!twins[i]) continue;
      if (!equal[i]) equal[i] = has_equal_halves(*inputs[i]);
      all = *equal[i];
    }
    if (all) return twins;
  }
  return std::nullopt;
}

std::shared_ptr<ov::Model> share_halves(const ov::Model& model, const std::vector<ov::PartialShape>& shapes,
                                        const Twins& twins) {
  const auto whole = shaped(model, shapes, false);
  std::shared_ptr<ov::Model> half;
  try {
    half = shaped(model, shapes, true);
  } catch (const ov::Exception&) {
    return nullptr;  // it names the number of items somewhere
  }
  for (const auto& model_shaped : {whole, half}) fold_shapes(*model_shaped);
  if (!connect(*whole, *half, twins)) return nullptr;
  ov::ParameterVector inputs;
  for (std::size_t i = 0; i < twins.size(); ++i) {
    inputs.push_back((twins[i] ? half : whole)->get_parameters()[i]);
    if (twins[i] && !whole->get_parameters()[i]->output(0).get_target_inputs().empty()) return nullptr;
  }
  return std::make_shared<ov::Model>(whole->get_results(), inputs, model.get_friendly_name());
}

}  // namespace hoirt::openvino

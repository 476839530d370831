// Both halves of a guided batch begin alike: what depends on their equal inputs alone is computed once.
#pragma once

#include <memory>
#include <openvino/core/model.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/network.h"

namespace hoirt::openvino {

// A mark for every input of a network: whether its halves must be equal.
using Twins = std::vector<bool>;

// The sets of inputs that are worth it, the most work first: a good part of the network's layers depends on these only.
// Stable Diffusion's step has its first block of each network before the prompt comes in.
std::vector<Twins> possible_twins(const ov::Model& model);

// The first of them whose inputs have equal halves; all inputs must have one even number of items.
std::optional<Twins> find_twins(const std::vector<Twins>& possible, const std::vector<const Tensor*>& inputs);

// The network for inputs of these shapes, in which the marked ones have half of the items. Null if it cannot be run with
// half of them, or where some value's items may not lie one after the other.
std::shared_ptr<ov::Model> share_halves(const ov::Model& model, const std::vector<ov::PartialShape>& shapes,
                                        const Twins& twins);

}  // namespace hoirt::openvino

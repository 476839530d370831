// Skinning on the CPU, with its checks.
#pragma once

#include <cstdint>

#include "engine/tensor.h"

namespace hoirt::cpu {

struct Skinned {
  Tensor vertices;  // float32 (B, V, 3)
  Tensor joints;    // float32 (B, J, 3), posed
};

// rest: float32 (B, V, 3) shaped vertices; joints: float32 (B, J, 3) shaped joints; rotations: float32 (B, J, 3, 3)
// relative to each joint's parent; weights: float32 (V, J); parents: int32 (J,), a parent before its children, -1 for
// the root. Metres. threads: 0 takes all cores; the bits do not depend on it. Throws InputError on wrong shapes or a
// parent that does not come first.
Skinned skin(const Tensor& rest, const Tensor& joints, const Tensor& rotations, const Tensor& weights,
             const Tensor& parents, std::int64_t threads);

// The constants of a body of blend shapes; S shape parameters, P = 0 or 9 (J - 1) pose features: the rotations of all
// joints but the first less the identity, row by row.
struct BlendBody {
  Tensor rest;              // float32 (V, 3)
  Tensor shape_directions;  // float32 (S, V, 3)
  Tensor pose_directions;   // float32 (P, V, 3)
  Tensor joints;            // float32 (J, 3) of the mean shape
  Tensor joint_directions;  // float32 (S, J, 3)
  Tensor weights;           // float32 (V, J)
  Tensor parents;           // int32 (J,)
};

// Shapes, corrects and skins B items in one go. rotations: float32 (B, J, 3, 3); shape: float32 (B, S) or (1, S).
Skinned pose_body(const BlendBody& body, const Tensor& rotations, const Tensor& shape, std::int64_t threads);

}  // namespace hoirt::cpu

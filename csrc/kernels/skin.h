// Linear blend skinning of batches of posed meshes (the MANO/SMPL formulation).
#pragma once

#include "engine/tensor.h"

namespace hoirt {

struct Skinned {
  Tensor vertices;  // float32 (B, V, 3)
  Tensor joints;    // float32 (B, J, 3), posed
};

// rest: float32 (B, V, 3) shaped vertices; joints: float32 (B, J, 3) shaped joints; rotations: float32 (B, J, 3, 3)
// relative to each joint's parent; weights: float32 (V, J); parents: int32 (J,), a parent before its children, -1 for
// the root. Metres. Throws InputError on wrong shapes or a parent that does not come first.
Skinned skin(const Tensor& rest, const Tensor& joints, const Tensor& rotations, const Tensor& weights,
             const Tensor& parents);

}  // namespace hoirt

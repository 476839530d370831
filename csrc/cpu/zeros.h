// Large zero-filled tensors whose memory the system provides when it is first touched.
#pragma once

#include "engine/tensor.h"

namespace hoirt::cpu {

// In large pages where the system has them: the page faults of a clip else take longer than drawing it. Throws
// OutOfMemory.
Tensor zeros(const Shape& shape, DType dtype);

}  // namespace hoirt::cpu

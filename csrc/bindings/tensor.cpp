// Tensor for Python: filled by the core bindings work (DLPack in and out).
#include "csrc/bindings/module.h"

namespace hoirt::bindings {

void register_tensor(pybind11::module_&) {}

}  // namespace hoirt::bindings

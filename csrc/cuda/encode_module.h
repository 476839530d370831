// Registration of the encoders in _core_cuda.
#pragma once

#include <pybind11/pybind11.h>

namespace hoirt::bindings {

void register_cuda_encode(pybind11::module_& module);

}  // namespace hoirt::bindings

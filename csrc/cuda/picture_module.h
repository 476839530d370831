// Registration of the kernels on pictures in _core_cuda.
#pragma once

#include <pybind11/pybind11.h>

namespace hoirt::bindings {

void register_cuda_pictures(pybind11::module_& module);

}  // namespace hoirt::bindings

// Registration of the rasteriser in _core_cuda.
#pragma once

#include <pybind11/pybind11.h>

namespace hoirt::bindings {

void register_cuda_raster(pybind11::module_& module);

}  // namespace hoirt::bindings

// The registration functions of the bindings, one per class.
#pragma once

#include <pybind11/pybind11.h>

namespace hoirt::bindings {

void register_errors(pybind11::module_& module);
void register_tensor(pybind11::module_& module);
void register_step_table(pybind11::module_& module);
void register_cancel(pybind11::module_& module);
void register_device_tensor(pybind11::module_& module);
void register_device(pybind11::module_& module);
void register_network(pybind11::module_& module);
void register_denoise_loop(pybind11::module_& module);
void register_random(pybind11::module_& module);
void register_pictures(pybind11::module_& module);
void register_maps(pybind11::module_& module);
void register_image(pybind11::module_& module);
void register_raster(pybind11::module_& module);
void register_skin(pybind11::module_& module);
void register_encode(pybind11::module_& module);

}  // namespace hoirt::bindings

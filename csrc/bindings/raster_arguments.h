// The arguments of rasterize() from Python values, for the CPU and the CUDA module.
#pragma once

#include <string>
#include <vector>

#include "csrc/bindings/arguments.h"
#include "csrc/raster/rasterize.h"

namespace hoirt::bindings {

// Each throws InputError that names the argument.

// int32 arrays as they are; int64 where every value fits.
Tensor indices_from(const pybind11::object& object, const std::string& name);
// Arrays or nested sequences of fx fy cx cy and of world-to-camera matrices, or None; one camera or one per frame.
std::vector<raster::Camera> cameras_from(const pybind11::object& intrinsics, const pybind11::object& extrinsics);
raster::View view_from(const IntegerSequence& size, double near, bool cull_back_faces);
raster::Wanted wanted_from(const std::vector<std::string>& outputs);

}  // namespace hoirt::bindings

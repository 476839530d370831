// Arrays on a CUDA device from and to Python by DLPack, without the host waiting for the device.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>

#include "csrc/cuda/raster.h"
#include "engine/tensor.h"

namespace hoirt::bindings {

// `data` lies on the device. It may be used on the stream it was made or asked for on.
struct DeviceArray {
  void* data = nullptr;
  Shape shape;
  DType dtype = DType::f32;
  int device = 0;
  std::shared_ptr<const void> owner;
  std::shared_ptr<const cuda::Event> ready;
};

// The CUDA device of a DLPack array, or -1.
int cuda_device_of(const pybind11::object& object);

// Contiguous arrays only; their producer makes `stream` wait until they are written. Throws InputError.
DeviceArray device_array_from(const pybind11::object& object, const std::string& name, void* stream);

void register_device_array(pybind11::module_& module);

}  // namespace hoirt::bindings

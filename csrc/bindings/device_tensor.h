// DeviceTensor for Python: memory of a device that other libraries share by DLPack; and arguments that lie on a device.
#pragma once

#include <pybind11/numpy.h>

#include <memory>
#include <string>

#include "csrc/bindings/arguments.h"
#include "engine/device.h"
#include "engine/network.h"

namespace hoirt::bindings {

struct DeviceTensor {
  Tensor tensor;
  std::shared_ptr<const Event> ready;  // when it is written; null: at once, or on a stream that its users know
};

// The device of that place, opened once per process by hoirt.backends.devices. Needs the GIL.
std::shared_ptr<Device> device_of(Place place);

// A NumPy view of host memory; bfloat16 is shown as uint16.
pybind11::array view_of(const Tensor& tensor);
// A DeviceTensor, or a NumPy view where the tensor is on the host.
pybind11::object shared_from(const Tensor& tensor);

// NumPy arrays, and DLPack arrays on the CPU or on `place`, as they are. Those on a device are ready once the device's
// own stream gets there. Throws InputError that begins with `name`.
Tensor argument_from(const pybind11::object& object, const std::string& name, Place place);
// A mapping of names to such arrays.
TensorMap arguments_from(const pybind11::object& mapping, const std::string& name, Place place);

}  // namespace hoirt::bindings

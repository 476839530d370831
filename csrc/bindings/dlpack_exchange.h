// DLPack capsules of tensors, on the CPU or a CUDA device, in and out.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/tensor.h"

namespace hoirt::bindings {

// Where a DLPack array lies; none for what is no DLPack array, or lies elsewhere. Throws InputError that begins with
// `name` if the array cannot say.
std::optional<Place> dlpack_place(const pybind11::object& object, const std::string& name);

// The array itself, without a copy; C-contiguous arrays only. `stream` is None, or what the producer makes wait until
// the array is written (-1: nothing). Throws InputError that begins with `name`.
Tensor tensor_from_dlpack(const pybind11::object& object, const std::string& name, const pybind11::object& stream);

// Keeps the memory of `tensor`, and `kept`, until the consumer is done. `flags` are written to versioned capsules only.
pybind11::capsule to_dlpack_capsule(const Tensor& tensor, std::shared_ptr<const void> kept, bool versioned,
                                    std::uint64_t flags);

// (1, 0) on the CPU, (2, index) on a CUDA device.
std::pair<int, int> dlpack_device(Place place);

}  // namespace hoirt::bindings

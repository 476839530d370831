// Python values in and out of the engine's types: arrays without copies where the layout allows, checked integers.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/typing.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/network.h"
#include "engine/tensor.h"

namespace hoirt::bindings {

// A shared owner of a Python object that may be released on a thread without the GIL.
std::shared_ptr<const void> owner_of(pybind11::object object);

// The NumPy view of a NumPy array, a DLPack array on the CPU, or a buffer; C-contiguous and aligned, copied if it was
// not. Throws InputError that begins with `name` for other devices, dtypes and types.
pybind11::array array_of(const pybind11::object& object, const std::string& name);

// The same as a Tensor, without another copy; the array lives as long as the tensor.
Tensor tensor_from(const pybind11::object& object, const std::string& name);
// Also throws InputError unless the array holds `dtype`.
Tensor tensor_from(const pybind11::object& object, const std::string& name, DType dtype);
// A mapping of names to arrays.
TensorMap tensors_from(const pybind11::object& mapping, const std::string& name);

// A NumPy array over the tensor's memory; the tensor lives as long as the array. Throws InputError for bfloat16.
pybind11::array array_from(const Tensor& tensor);
template <typename T>
pybind11::array_t<T> array_from(const Tensor& tensor) {
  return pybind11::array_t<T>(array_from(tensor));
}

DType dtype_from(const std::string& name);
pybind11::typing::Tuple<pybind11::int_, pybind11::ellipsis> tuple_from(const Shape& shape);
// An iterable of integers; throws InputError for anything else.
Shape shape_from(const pybind11::object& object, const std::string& name);
// Any integer in 0..most; throws InputError for anything else.
std::uint64_t unsigned_from(const pybind11::handle& object, const std::string& name, std::uint64_t most = UINT64_MAX);
std::vector<std::uint64_t> seeds_from(const pybind11::object& object);

// A view of a contiguous array of exactly T; anything else is converted by pybind11 (C order, cast).
template <typename T>
Tensor tensor_from(const pybind11::array_t<T, pybind11::array::c_style | pybind11::array::forcecast>& array) {
  return Tensor::borrow(const_cast<T*>(array.data()), Shape(array.shape(), array.shape() + array.ndim()),
                        dtype_of<T>::value, owner_of(array));
}

}  // namespace hoirt::bindings

// NumPy arrays in and out of Tensor without copies where the layout allows.
#pragma once

#include <pybind11/numpy.h>

#include <memory>
#include <string>
#include <utility>

#include "engine/tensor.h"

namespace hoirt::bindings {

// A view of a contiguous array of exactly T; anything else is converted by pybind11 (C order, cast).
template <typename T>
Tensor tensor_from(const pybind11::array_t<T, pybind11::array::c_style | pybind11::array::forcecast>& array) {
  Shape shape(array.shape(), array.shape() + array.ndim());
  // The array may be released on a thread without the GIL, so its owner takes it first.
  auto owner = std::shared_ptr<const void>(new pybind11::object(array), [](const void* object) {
    const pybind11::gil_scoped_acquire gil;
    delete static_cast<const pybind11::object*>(object);
  });
  return Tensor::borrow(const_cast<T*>(array.data()), std::move(shape), dtype_of<T>::value, std::move(owner));
}

// A NumPy array over the tensor's memory; the tensor lives as long as the array.
template <typename T>
pybind11::array_t<T> array_from(Tensor tensor) {
  auto held = std::make_unique<Tensor>(std::move(tensor));
  T* data = held->template data<T>();
  const Shape shape = held->shape();
  const pybind11::capsule owner(held.release(), [](void* pointer) { delete static_cast<Tensor*>(pointer); });
  return pybind11::array_t<T>(shape, data, owner);
}

}  // namespace hoirt::bindings

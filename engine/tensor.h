// Tensor: a contiguous, row-major, typed block of memory of the host or of a device, owned or borrowed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/error.h"
#include "engine/place.h"

namespace hoirt {

enum class DType : std::uint8_t { f32, f64, f16, bf16, i32, i64, u8, boolean };

using Shape = std::vector<std::int64_t>;

std::size_t item_size(DType dtype);
std::string to_string(DType dtype);
std::string to_string(const Shape& shape);
// Number of elements; throws InputError on a negative extent or on overflow.
std::size_t element_count(const Shape& shape);

class Tensor {
 public:
  Tensor() = default;
  // Allocates 64-byte aligned, zero-filled host memory; throws OutOfMemory.
  Tensor(Shape shape, DType dtype);
  // Refers to memory that `owner` keeps alive.
  static Tensor borrow(void* data, Shape shape, DType dtype, std::shared_ptr<const void> owner, Place place = {});

  const Shape& shape() const { return shape_; }
  std::int64_t dim(std::size_t axis) const { return shape_.at(axis); }
  std::size_t rank() const { return shape_.size(); }
  DType dtype() const { return dtype_; }
  std::size_t size() const { return size_; }
  std::size_t bytes() const { return size_ * item_size(dtype_); }
  bool empty() const { return size_ == 0; }
  // Where the memory lies: what raw() and data() give may be read and written there only.
  Place place() const { return place_; }

  void* raw() { return data_; }
  const void* raw() const { return data_; }
  // Typed access; throws InputError when T is not this tensor's dtype.
  template <typename T>
  T* data();
  template <typename T>
  const T* data() const;

  // Rows [begin, end) of the first axis, sharing this tensor's memory.
  Tensor rows(std::int64_t begin, std::int64_t end) const;
  // The same memory in a shape of as many elements.
  Tensor reshaped(Shape shape) const;
  // Row `index` without the first axis, sharing this tensor's memory.
  Tensor row(std::int64_t index) const;

 private:
  void check_dtype(DType wanted) const;

  Shape shape_;
  DType dtype_ = DType::f32;
  Place place_;
  std::size_t size_ = 0;
  void* data_ = nullptr;
  std::shared_ptr<const void> owner_;
};

template <typename T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct dtype_of<std::int64_t> {
  static constexpr DType value = DType::i64;
};
template <>
struct dtype_of<std::uint8_t> {
  static constexpr DType value = DType::u8;
};

template <typename T>
T* Tensor::data() {
  check_dtype(dtype_of<T>::value);
  return static_cast<T*>(data_);
}
template <typename T>
const T* Tensor::data() const {
  check_dtype(dtype_of<T>::value);
  return static_cast<const T*>(data_);
}

}  // namespace hoirt

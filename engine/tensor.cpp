// Tensor: allocation, borrowing, slicing and its error messages.
#include "engine/tensor.h"

#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>

namespace hoirt {

std::size_t item_size(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::f16:
    case DType::bf16:
      return 2;
    case DType::u8:
    case DType::boolean:
      return 1;
  }
  throw InputError("unknown dtype");
}

std::string to_string(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::f64:
      return "float64";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    case DType::i32:
      return "int32";
    case DType::i64:
      return "int64";
    case DType::u8:
      return "uint8";
    case DType::boolean:
      return "bool";
  }
  return "unknown";
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i ? ", " : "") + std::to_string(shape[i]);
  }
  return text + (shape.size() == 1 ? ",)" : ")");
}

std::size_t element_count(const Shape& shape) {
  std::size_t count = 1;
  for (const auto extent : shape) {
    if (extent < 0) {
      throw InputError("negative extent in shape " + to_string(shape));
    }
    const auto wide = static_cast<std::size_t>(extent);
    // 16 covers the largest item, so bytes() cannot overflow either.
    if (wide != 0 && count > std::numeric_limits<std::size_t>::max() / wide / 16) {
      throw InputError("shape " + to_string(shape) + " has too many elements");
    }
    count *= wide;
  }
  return count;
}

Tensor::Tensor(Shape shape, DType dtype) : shape_(std::move(shape)), dtype_(dtype), size_(element_count(shape_)) {
  constexpr std::size_t alignment = 64;
  const std::size_t wanted = size_ * item_size(dtype_);
  const std::size_t padded = (wanted + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, padded ? padded : alignment);
  if (!memory) {
    throw OutOfMemory("cannot allocate " + std::to_string(wanted) + " bytes for a tensor of shape " +
                      to_string(shape_));
  }
  std::memset(memory, 0, padded ? padded : alignment);
  owner_ = std::shared_ptr<const void>(memory, [](const void* p) { std::free(const_cast<void*>(p)); });
  data_ = memory;
}

Tensor Tensor::borrow(void* data, Shape shape, DType dtype, std::shared_ptr<const void> owner) {
  Tensor tensor;
  tensor.size_ = element_count(shape);
  tensor.shape_ = std::move(shape);
  tensor.dtype_ = dtype;
  tensor.data_ = data;
  tensor.owner_ = std::move(owner);
  return tensor;
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  if (shape_.empty() || begin < 0 || end < begin || end > shape_[0]) {
    throw InputError("rows [" + std::to_string(begin) + ", " + std::to_string(end) + ") of a tensor of shape " +
                     to_string(shape_));
  }
  Shape part = shape_;
  part[0] = end - begin;
  const std::size_t stride = shape_[0] ? bytes() / static_cast<std::size_t>(shape_[0]) : 0;
  auto* start = static_cast<std::byte*>(data_) + stride * static_cast<std::size_t>(begin);
  return borrow(start, std::move(part), dtype_, owner_);
}

void Tensor::check_dtype(DType wanted) const {
  if (wanted != dtype_) {
    throw InputError("tensor holds " + to_string(dtype_) + ", not " + to_string(wanted));
  }
}

}  // namespace hoirt

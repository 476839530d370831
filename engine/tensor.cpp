// Tensor: allocation, borrowing, slicing and its error messages.
#include "engine/tensor.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <limits>
#include <memory>
#include <utility>

namespace hoirt {
namespace {

// The system fills calloc's large blocks with zeros when they are first touched, by the thread that touches them. In
// pages of 4 KiB that can take longer than what is done with the memory.
void prefer_large_pages([[maybe_unused]] void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef __linux__
  constexpr std::size_t page = std::size_t{1} << 21;
  const std::size_t skipped = page - reinterpret_cast<std::uintptr_t>(memory) % page;
  if (bytes >= skipped + page) {
    // Advice: where it is not taken, nothing changes but the time.
    static_cast<void>(madvise(static_cast<std::byte*>(memory) + skipped, (bytes - skipped) / page * page, MADV_HUGEPAGE));
  }
#endif
}

}  // namespace

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
  std::size_t space = wanted + alignment;
  const std::shared_ptr<void> memory(std::calloc(space, 1), std::free);
  if (!memory) {
    throw OutOfMemory("cannot allocate " + std::to_string(wanted) + " bytes for a tensor of shape " +
                      to_string(shape_));
  }
  prefer_large_pages(memory.get(), space);
  void* start = memory.get();
  data_ = std::align(alignment, wanted, start, space);
  owner_ = memory;
}

Tensor Tensor::borrow(void* data, Shape shape, DType dtype, std::shared_ptr<const void> owner, Place place) {
  Tensor tensor;
  tensor.place_ = place;
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
  return borrow(start, std::move(part), dtype_, owner_, place_);
}

Tensor Tensor::reshaped(Shape shape) const {
  if (element_count(shape) != size_) {
    throw InputError("a tensor of shape " + to_string(shape_) + " cannot have the shape " + to_string(shape));
  }
  return borrow(data_, std::move(shape), dtype_, owner_, place_);
}

Tensor Tensor::row(std::int64_t index) const {
  Tensor part = rows(index, index + 1);
  part.shape_.erase(part.shape_.begin());
  return part;
}

void Tensor::check_dtype(DType wanted) const {
  if (wanted != dtype_) {
    throw InputError("tensor holds " + to_string(dtype_) + ", not " + to_string(wanted));
  }
}

}  // namespace hoirt

// Tensor: shapes, slices, ownership and refusals.
#include <cstdint>
#include <memory>

#include "engine/tensor.h"
#include "tests/cpp/check.h"

using namespace hoirt;

TEST(tensor_is_zeroed_and_aligned) {
  Tensor tensor({3, 5}, DType::f32);
  CHECK(reinterpret_cast<std::uintptr_t>(tensor.raw()) % 64 == 0);
  for (std::size_t i = 0; i < tensor.size(); ++i) CHECK(tensor.data<float>()[i] == 0.0f);
  CHECK(tensor.size() == 15 && tensor.bytes() == 60);
}

TEST(tensor_rows_share_memory) {
  Tensor tensor({4, 2}, DType::i32);
  Tensor part = tensor.rows(1, 3);
  part.data<std::int32_t>()[0] = 7;
  CHECK(tensor.data<std::int32_t>()[2] == 7);
  CHECK((part.shape() == Shape{2, 2}));
  CHECK_THROWS(InputError, "rows [3, 5)", tensor.rows(3, 5));
  CHECK_THROWS(InputError, "rows [-1, 2)", tensor.rows(-1, 2));
  CHECK_THROWS(InputError, "rows [0, 0)", Tensor(Shape{}, DType::f32).rows(0, 0));
}

TEST(tensor_row_shares_memory_and_drops_the_axis) {
  Tensor tensor({2, 3, 1}, DType::i32);
  Tensor part = tensor.row(1);
  CHECK((part.shape() == Shape{3, 1}) && part.size() == 3 && part.bytes() == 12);
  part.data<std::int32_t>()[2] = 7;
  CHECK(tensor.data<std::int32_t>()[5] == 7);
  CHECK(tensor.row(0).row(2).shape() == Shape{1});
  CHECK_THROWS(InputError, "rows [2, 3)", tensor.row(2));
  CHECK_THROWS(InputError, "rows [0, 1)", Tensor(Shape{}, DType::f32).row(0));
}

TEST(tensor_rows_keep_their_owner_alive) {
  Tensor part;
  {
    const Tensor whole({8, 8}, DType::f64);
    part = whole.rows(7, 8);
  }
  part.data<double>()[7] = 1.5;  // the sanitizer sees a use after free here
  CHECK(part.data<double>()[7] == 1.5);
}

TEST(tensor_refuses_wrong_access_and_shapes) {
  Tensor tensor({2}, DType::f32);
  CHECK_THROWS(InputError, "holds float32, not int64", tensor.data<std::int64_t>());
  CHECK_THROWS(InputError, "negative extent", Tensor({2, -1}, DType::f32));
  CHECK_THROWS(InputError, "too many elements", Tensor({INT64_MAX, 4}, DType::u8));
  CHECK_THROWS(InputError, "too many elements", Tensor({1 << 30, 1 << 30, 1 << 30}, DType::u8));
  CHECK_THROWS(OutOfMemory, "cannot allocate", Tensor({std::int64_t{1} << 56}, DType::u8));
  CHECK(Tensor({0, 3}, DType::f32).empty());
}

TEST(tensor_borrow_holds_its_owner) {
  auto memory = std::make_shared<std::vector<float>>(6, 2.0f);
  const std::weak_ptr<std::vector<float>> watch = memory;
  Tensor tensor = Tensor::borrow(memory->data(), {2, 3}, DType::f32, memory);
  memory.reset();
  CHECK(!watch.expired());
  CHECK(tensor.data<float>()[5] == 2.0f);
  tensor = Tensor();
  CHECK(watch.expired());
}

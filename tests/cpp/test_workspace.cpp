// Plans with their scratch memory in one block, of exactly as many bytes as they count.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "csrc/cpu/launchers.h"
#include "csrc/kernels/picture_plan.h"
#include "csrc/kernels/workspace.h"
#include "tests/cpp/check.h"

using namespace hoirt;
using kernels::Filter;

namespace {

// What a runner on a device does, thread after thread.
class InOneBlock : public kernels::HostLaunches {
 public:
  static constexpr bool wide = true;
  explicit InOneBlock(void* memory) : workspace_(memory) {}
  void* scratch(std::size_t bytes) { return workspace_.take(bytes); }
  void copy(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
  std::size_t used() const { return workspace_.used(); }

 private:
  kernels::Workspace workspace_;
};

// Memory at a multiple of 256 bytes, full of what nobody may take for zeros, and as much behind it that stays so.
class Block {
 public:
  explicit Block(std::size_t bytes) : bytes_(bytes), memory_(bytes + 2 * margin, filling) {
    const auto address = reinterpret_cast<std::uintptr_t>(memory_.data());
    offset_ = (margin - address % margin) % margin;
  }
  std::uint8_t* begin() { return memory_.data() + offset_; }
  bool untouched_behind() {
    const std::uint8_t* end = begin() + bytes_;
    return std::all_of(end, end + margin, [](std::uint8_t byte) { return byte == filling; });
  }

 private:
  static constexpr std::size_t margin = 256;
  static constexpr std::uint8_t filling = 0xA5;
  std::size_t bytes_, offset_ = 0;
  std::vector<std::uint8_t> memory_;
};

// Runs the plan in a block of what it counts; it must use that, all of it and no more.
template <typename Plan>
void run_in_one_block(const Plan& plan) {
  const std::size_t bytes = kernels::workspace_bytes(plan);
  Block block(bytes);
  InOneBlock run(block.begin());
  plan(run);
  CHECK(run.used() == bytes && block.untouched_behind());
}

std::vector<float> values(std::size_t count) {
  std::vector<float> made(count);
  for (std::size_t i = 0; i < count; ++i) made[i] = static_cast<float>(i * 7919 % 251);
  return made;
}
std::vector<std::uint8_t> bytes(std::size_t count, unsigned most) {
  std::vector<std::uint8_t> made(count);
  for (std::size_t i = 0; i < count; ++i) made[i] = static_cast<std::uint8_t>(i * 104729 % (most + 1));
  return made;
}

}  // namespace

TEST(pieces_of_a_workspace_are_aligned_and_apart) {
  Block block(1024);
  kernels::Workspace workspace(block.begin());
  auto* first = static_cast<std::uint8_t*>(workspace.take(1));
  auto* second = static_cast<std::uint8_t*>(workspace.take(256));
  auto* third = static_cast<std::uint8_t*>(workspace.take(0));
  CHECK(first == block.begin() && second == first + 256 && third == first + 512 && workspace.used() == 512);
}

TEST(a_resize_needs_what_it_counts) {
  for (const Filter filter : {Filter::nearest, Filter::bilinear, Filter::bicubic}) {
    for (const auto& [rows, columns] : {std::pair{9, 13}, {9, 31}, {4, 13}, {20, 5}}) {
      const auto from = values(9 * 13 * 3);
      std::vector<float> got(static_cast<std::size_t>(rows * columns * 3)), wanted = got;
      ResizeJob job{from.data(), wanted.data(), DType::f32, 3, {9, rows, 0, 9, filter}, {13, columns, 0, 13, filter}};
      cpu::resize(job);
      job.to = got.data();
      run_in_one_block([&](auto& run) { kernels::run_resize(run, job); });
      CHECK(got == wanted);
    }
  }
}

TEST(a_colour_match_needs_what_it_counts) {
  for (const auto& [height, width] : {std::pair{1, 1}, {4, 4}, {5, 4}, {13, 22}, {64, 70}, {3, 200}}) {
    const auto area = static_cast<std::size_t>(height * width);
    const auto colours = values(3 * area);
    const auto original = bytes(3 * area, 255), hole = bytes(area, 1);
    std::vector<float> got(3 * area), wanted = got;
    ColourJob job{colours.data(), original.data(), hole.data(), wanted.data(), height, width};
    cpu::match_colours(job);
    job.out = got.data();
    run_in_one_block([&](auto& run) { kernels::match_colours(run, job); });
    CHECK(got == wanted);
  }
}

// Maps of a region. Distances: the CPU's scans and blocks, and the plan that CUDA runs, against a search through all
// pixels. Hands: against what is known of triangles that face the camera.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "csrc/cpu/launchers.h"
#include "csrc/kernels/map_plan.h"
#include "tests/cpp/check.h"

using namespace hoirt;
using kernels::NearestPixel;
using kernels::out_of_reach;

namespace {

// What CUDA does with the plan, thread after thread.
class Threads : public kernels::HostLaunches {
 public:
  void* scratch(std::size_t bytes) { return memory_.emplace_back(new std::byte[bytes]).get(); }

 private:
  std::vector<std::unique_ptr<std::byte[]>> memory_;
};

// The smallest square among all pixels whose steps along both axes are within the radius, and those of the border.
std::int32_t search(const NearestPixel& nearest, std::int64_t row, std::int64_t column) {
  std::int64_t best = out_of_reach;
  const auto first = [&](std::int64_t at) { return std::max<std::int64_t>(at - nearest.radius, -1); };
  const auto last = [&](std::int64_t at, std::int64_t extent) { return std::min(at + nearest.radius, extent); };
  for (std::int64_t y = first(row); y <= last(row, nearest.height); ++y) {
    for (std::int64_t x = first(column); x <= last(column, nearest.width); ++x) {
      const bool inside = y >= 0 && y < nearest.height && x >= 0 && x < nearest.width;
      const bool near = inside ? (nearest.mask[y * nearest.width + x] != 0) == nearest.set : nearest.border;
      if (near) best = std::min(best, (y - row) * (y - row) + (x - column) * (x - column));
    }
  }
  return static_cast<std::int32_t>(best);
}

template <typename As>
void check(const NearestPixel& nearest, const As& as) {
  using T = typename As::T;
  const auto size = static_cast<std::size_t>(nearest.height * nearest.width);
  // Exactly as long as it may be read and written, so that the sanitizer sees the rest.
  const std::unique_ptr<T[]> got(new T[size]), planned(new T[size]), wanted(new T[size]);
  for (std::size_t i = 0; i < size; ++i) {
    wanted[i] = as(search(nearest, static_cast<std::int64_t>(i) / nearest.width, static_cast<std::int64_t>(i) % nearest.width));
  }
  cpu::map(DistanceJob{nearest, as, got.get()});
  CHECK(std::memcmp(got.get(), wanted.get(), size * sizeof(T)) == 0);
  Threads threads;
  kernels::run_map(threads, DistanceJob{nearest, as, planned.get()});
  CHECK(std::memcmp(planned.get(), wanted.get(), size * sizeof(T)) == 0);
}

}  // namespace

TEST(distances_are_those_of_a_search) {
  std::uint32_t state = 1;
  const auto random = [&state] { return (state = state * 1664525u + 1013904223u) >> 8; };
  for (const auto& [height, width] : {std::pair{1, 1}, {1, 70}, {70, 1}, {9, 64}, {13, 65}, {12, 130}, {3, 200}}) {
    for (const std::uint32_t one_in : {1u, 2u, 40u, 700u, 0u}) {  // from all to none
      const auto size = static_cast<std::size_t>(height * width);
      const std::unique_ptr<std::uint8_t[]> mask(new std::uint8_t[size]);
      for (std::size_t i = 0; i < size; ++i) mask[i] = one_in && random() % one_in == 0 ? static_cast<std::uint8_t>(1 + random() % 255) : 0;
      for (const std::int32_t radius : {0, 1, 2, 5, 17, 200}) {
        for (const bool set : {true, false}) {
          for (const bool border : {true, false}) {
            const NearestPixel nearest{mask.get(), height, width, radius, set, border};
            check(nearest, kernels::AsDistance{2.0f * static_cast<float>(radius + 1)});
            check(nearest, kernels::AsGrown{radius * radius});
            check(nearest, kernels::AsOpacity{static_cast<float>(radius) + 0.5f});
          }
        }
      }
    }
  }
}

TEST(distances_on_several_threads) {
  const std::int64_t side = 300;  // more than one thread's piece
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(side * side));
  for (std::size_t i = 0; i < mask.size(); i += 977) mask[i] = 1;
  check({mask.data(), side, side, 11, true, false}, kernels::AsDistance{24.0f});
}

TEST(what_is_made_of_a_distance) {
  CHECK(kernels::AsDistance{8.0f}(0) == 0.0f && kernels::AsDistance{8.0f}(9) == 3.0f && kernels::AsDistance{8.0f}(out_of_reach) == 8.0f);
  const kernels::AsGrown grown{25};
  CHECK(grown(25) == 1 && grown(26) == 0 && grown(out_of_reach) == 0);
  const kernels::AsOpacity opacity{4.0f}, wide{1e6f};
  CHECK(opacity(0) == 0.0f && opacity(4) == 0.5f && opacity(16) == 1.0f && opacity(400) == 1.0f);
  CHECK(wide(out_of_reach) == 1.0f);
}

TEST(cells_of_a_crop_under_samples_of_a_window) {
  const kernels::CellAxis axis{8, 4, 10, 16, 14, 8};  // 8 samples over 10..26, 4 cells over 14..22
  const std::int64_t wanted[8] = {-1, -1, 0, 1, 2, 3, -1, -1};
  for (std::int64_t i = 0; i < 8; ++i) CHECK(axis.cell(i) == wanted[i]);
  const float region[4] = {0.4f, 0.6f, 0.5f, NAN};
  std::uint8_t mask[8] = {7, 0, 0, 0, 0, 0, 0, 0};
  cpu::map(kernels::LookUp{region, mask, {1, 1, 0, 1, 0, 1}, axis});
  const std::uint8_t seen[8] = {7, 0, 0, 1, 0, 0, 0, 0};
  CHECK(std::memcmp(mask, seen, 8) == 0);
}

TEST(cells_that_a_mask_touches) {
  std::uint8_t masks[2 * 4 * 6] = {};
  masks[7] = 1, masks[24 + 23] = 200;  // row 1 column 1 of the first; the last corner of the second
  float cells[2 * 2 * 3];
  cpu::map(kernels::Touched{masks, cells, 2, 4, 6, 2});
  for (int i = 0; i < 12; ++i) CHECK(cells[i] == (i == 0 || i == 11 ? 1.0f : 0.0f));
}

TEST(parts_are_laid_over_maps_and_opacity_is_cut) {
  std::uint8_t map[3 * 5] = {9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9};
  const std::uint8_t part[4] = {0, 3, 4, 0};
  cpu::map(kernels::Lay{part, map, 2, 2, 5, 1, 3});
  for (int i = 0; i < 15; ++i) CHECK(map[i] == (i == 9 ? 3 : i == 13 ? 4 : 9));
  const float inside[4] = {0.5f, 0.6f, NAN, 1.0f}, opacity[4] = {0.1f, 0.2f, 0.3f, 0.4f};
  float alpha[4];
  cpu::map(kernels::Cut{inside, opacity, alpha, map, 2, 2, 5, 0, 1});
  CHECK(alpha[0] == 0.0f && alpha[1] == 0.2f && alpha[2] == 0.0f && alpha[3] == 0.4f);
  CHECK(map[1] == 9 && map[2] == 1 && map[6] == 9 && map[7] == 1);
}

TEST(hands_are_drawn_over_one_another) {
  const auto mesh = [](float left, float nearest, bool doubles) {
    // A square from `left`, half a metre wide, whose right edge is farther away; and a face that is seen from behind.
    const float corners[4][3] = {{left, -1, nearest}, {left, 1, nearest}, {left + 0.5f, -1, nearest + 1}, {left + 0.5f, 1, nearest + 1}};
    const std::int32_t faces[3][3] = {{0, 1, 2}, {2, 1, 3}, {0, 2, 1}};
    DrawJob::Mesh made{Tensor({4, 3}, doubles ? DType::f64 : DType::f32), Tensor({3, 3}, DType::i32),
                       {40, 40, 0, 8, {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}}};
    for (int i = 0; i < 12; ++i) {
      if (doubles) made.vertices.data<double>()[i] = static_cast<double>(corners[i / 3][i % 3]);
      else made.vertices.data<float>()[i] = corners[i / 3][i % 3];
    }
    std::memcpy(made.faces.raw(), faces, sizeof faces);
    return made;
  };
  std::vector<std::uint8_t> one(16 * 64), two(16 * 64), both(16 * 64);
  DrawJob job{{mesh(0.1f, 2, false)}, {16, 64, 1e-3, true}, one.data()};
  cpu::draw(job);
  job.meshes = {mesh(0.1f, 1, true)}, job.out = two.data(), cpu::draw(job);
  job.meshes = {mesh(0.1f, 2, false), mesh(0.1f, 1, true)}, job.out = both.data(), cpu::draw(job);
  int covered = 0;
  for (std::size_t i = 0; i < both.size(); ++i) {
    CHECK(both[i] == (two[i] ? two[i] : one[i]));
    covered += one[i] && two[i];
  }
  CHECK(covered > 0);
  for (const auto& drawn : {one, two}) {
    std::uint8_t before = 255, last = 0;
    bool seen = false;
    for (std::size_t x = 0; x < 64; ++x) {  // in a row: from the nearest to the farthest
      const std::uint8_t value = drawn[8 * 64 + x];
      if (!value) continue;
      if (!seen) CHECK(value > 250);
      CHECK(value <= before);
      before = last = value, seen = true;
    }
    CHECK(seen && last >= DrawJob::farthest && last < DrawJob::farthest + 10);
  }
  job.meshes[0].vertices.data<float>()[0] = NAN;
  CHECK_THROWS(InputError, "vertex 0", cpu::draw(job));
}

// The rasteriser under the sanitizers: small, large, clipped and huge faces, bands, refused scenes.
#include <cstring>
#include <vector>

#include "csrc/raster/rasterize.h"
#include "tests/cpp/check.h"

using namespace hoirt;
using namespace hoirt::raster;

namespace {

constexpr Wanted everything{true, true, true, true, true, true};

Scene scene_of(const std::vector<double>& coordinates, const std::vector<std::int32_t>& corners) {
  Scene scene;
  scene.vertices = Tensor({1, static_cast<std::int64_t>(coordinates.size() / 3), 3}, DType::f64);
  std::copy(coordinates.begin(), coordinates.end(), scene.vertices.data<double>());
  scene.faces = Tensor({static_cast<std::int64_t>(corners.size() / 3), 3}, DType::i32);
  std::copy(corners.begin(), corners.end(), scene.faces.data<std::int32_t>());
  scene.cameras = {Camera{50.0, 50.0, 32.0, 24.0, {1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}}};
  scene.view = {48, 64, 1e-2, false};
  return scene;
}

// A deterministic cloud of triangles of any size, on both sides of the near plane.
Scene cloud(int faces, double width, double nearest) {
  std::vector<double> coordinates;
  std::vector<std::int32_t> corners;
  std::uint32_t state = 1;
  const auto uniform = [&state] {
    state = state * 1664525U + 1013904223U;
    return static_cast<double>(state >> 8) / (1 << 24);
  };
  for (int corner = 0; corner < 3 * faces; ++corner) {
    for (const double low : {-width, -width, nearest}) coordinates.push_back(low + uniform() * 2 * width);
    corners.push_back(corner);
  }
  return scene_of(coordinates, corners);
}

bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

}  // namespace

TEST(raster_threads_do_not_change_the_bits) {
  for (const Scene& scene : {cloud(40, 0.5, 0.1), cloud(40, 1.0, -1.0), cloud(40, 1e20, -1e19), cloud(500, 0.02, 0.5)}) {
    const Raster one = rasterize(scene, everything, 1), many = rasterize(scene, everything, 5);
    CHECK(same(one.depth, many.depth) && same(one.instances, many.instances) && same(one.faces, many.faces));
    CHECK(same(one.barycentrics, many.barycentrics) && same(one.normals, many.normals));
    CHECK(same(one.silhouette, many.silhouette));
  }
}

TEST(raster_covers_a_quad_exactly_once) {
  const std::vector<double> square{-9, -9, 1, 9, -9, 1, 9, 9, 1, -9, 9, 1};
  const Tensor first = rasterize(scene_of(square, {0, 1, 2}), {.silhouette = true}, 1).silhouette;
  const Tensor second = rasterize(scene_of(square, {0, 2, 3}), {.silhouette = true}, 1).silhouette;
  const auto* a = static_cast<const std::uint8_t*>(first.raw());
  const auto* b = static_cast<const std::uint8_t*>(second.raw());
  for (std::size_t i = 0; i < first.size(); ++i) CHECK(a[i] + b[i] == 1);
}

TEST(raster_allocates_only_what_is_wanted) {
  const Raster out = rasterize(cloud(3, 0.5, 0.5), {.normals = true}, 1);
  CHECK(out.depth.empty() && out.faces.empty() && out.silhouette.empty());
  CHECK(out.normals.shape() == (Shape{1, 48, 64, 3}));
}

TEST(raster_refuses) {
  CHECK_THROWS(InputError, "names the vertex 3", rasterize(scene_of({0, 0, 1, 1, 0, 1, 0, 1, 1}, {0, 1, 3}), everything, 1));
  CHECK_THROWS(InputError, "vertex 1 of frame 0", rasterize(scene_of({0, 0, 1, 1, 0, 1e31, 0, 1, 1}, {0, 1, 2}), everything, 3));
  Scene scene = cloud(2, 0.5, 0.5);
  scene.instances = Tensor({3}, DType::i32);
  CHECK_THROWS(InputError, "instances", rasterize(scene, everything, 1));
  scene = cloud(2, 0.5, 0.5);
  scene.cameras.clear();
  CHECK_THROWS(InputError, "same number", rasterize(scene, everything, 1));
}

// Maps of a region on the CPU: the plans of csrc/kernels on the calling thread, distances and meshes on all cores.
#include <cstring>

#include "csrc/cpu/encode.h"
#include "csrc/cpu/launchers.h"
#include "csrc/kernels/map_plan.h"
#include "csrc/raster/rasterize.h"

namespace hoirt::cpu {

void map(const MapJob& job) {
  kernels::HostLaunches runner;
  std::visit(
      [&](const auto& each) {
        if constexpr (std::is_same_v<std::decay_t<decltype(each)>, DistanceJob>) distance(each);
        else kernels::run(runner, each);
      },
      job);
}

void draw(const DrawJob& job) {
  const auto hands = static_cast<std::int64_t>(job.meshes.size());
  const Shape shape{1, hands, job.view.height, job.view.width};
  Tensor depths;
  if (hands > 1) depths = Tensor(shape, DType::f32);
  for (std::int64_t i = 0; i < hands; ++i) {
    const DrawJob::Mesh& mesh = job.meshes[static_cast<std::size_t>(i)];
    const Tensor vertices = mesh.vertices.reshaped({1, mesh.vertices.dim(0), mesh.vertices.dim(1)});
    const raster::Raster drawn = raster::rasterize({vertices, mesh.faces, {}, {mesh.camera}, job.view}, {.depth = true}, 0);
    if (hands == 1) depths = drawn.depth.reshaped(shape);
    else std::memcpy(depths.row(0).row(i).raw(), drawn.depth.raw(), drawn.depth.bytes());
  }
  const Tensor bytes = encode_hand_depth(depths, nullptr, DrawJob::farthest, true, 0);
  std::memcpy(job.out, bytes.raw(), bytes.bytes());
}

}  // namespace hoirt::cpu

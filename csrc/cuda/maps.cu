// Maps of a region on a CUDA device: the plans of csrc/kernels and the rasteriser, enqueued on a stream.
#include <memory>
#include <vector>

#include "csrc/cuda/encode.h"
#include "csrc/cuda/launchers.h"
#include "csrc/cuda/raster.h"
#include "csrc/cuda/runner.cuh"
#include "csrc/kernels/map_plan.h"

namespace hoirt::cuda {

void map(const MapJob& job, const Queue& queue) {
  run_plan([&job](auto& runner) { kernels::run_map(runner, job); }, queue, "a map's kernel could not be launched");
}

void draw(const DrawJob& job, const Queue& queue) {
  const std::int64_t pixels = std::int64_t{job.view.height} * job.view.width;
  const auto hands = static_cast<std::int64_t>(job.meshes.size());
  const std::shared_ptr<void> depths = scratch(static_cast<std::size_t>(hands * pixels) * sizeof(float), queue);
  const std::shared_ptr<void> ranges = scratch(static_cast<std::size_t>(hands) * sizeof(raster::DepthRange), queue);
  auto* depth = static_cast<float*>(depths.get());
  raster::HandDepth encode;
  encode.depth = depth;
  encode.out = job.out;
  encode.hands = hands;
  encode.pixels = pixels;
  encode.span = (255 - DrawJob::farthest) / 255.0;
  encode.nearest_integer = true;
  for (const DrawJob::Mesh& mesh : job.meshes) {
    RasterJob draw;
    if (mesh.vertices.dtype() == DType::f32) draw.vertices_f32 = mesh.vertices.data<float>();
    else draw.vertices_f64 = mesh.vertices.data<double>();
    draw.faces_i32 = mesh.faces.data<std::int32_t>();
    draw.cameras = {mesh.camera};
    draw.frames = draw.meshes = 1;
    draw.vertex_count = mesh.vertices.dim(0);
    draw.face_count = mesh.faces.dim(0);
    draw.view = job.view;
    draw.outputs.depth = depth;
    rasterize(draw, queue);
    depth += pixels;
  }
  hand_depth(encode, static_cast<raster::DepthRange*>(ranges.get()), 1, queue.stream);
}

}  // namespace hoirt::cuda

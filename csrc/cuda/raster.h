// The rasteriser on a CUDA device: the functors of csrc/raster on device pointers, enqueued on a stream.
#pragma once

#include <cstdint>
#include <vector>

#include "csrc/cuda/memory.h"
#include "csrc/raster/camera.h"
#include "csrc/raster/resolve.h"

namespace hoirt::cuda {

// All pointers but `cameras` are the device's. One of each pair of vertices and faces is null.
struct RasterJob {
  const float* vertices_f32 = nullptr;  // (meshes, vertex_count, 3)
  const double* vertices_f64 = nullptr;
  const std::int32_t* faces_i32 = nullptr;  // (face_count, 3)
  const std::int64_t* faces_i64 = nullptr;
  const std::int32_t* instances = nullptr;  // (face_count,), or null
  std::vector<raster::Camera> cameras;      // frames or 1
  std::int64_t frames = 0, meshes = 0, vertex_count = 0, face_count = 0;
  raster::View view{};
  raster::Outputs outputs{};  // of the first frame
};

// Enqueues the job and returns; the host waits for nothing. As nothing can be reported from the device, a face with an
// index out of range or a vertex that is not finite is not drawn. Throws BackendError if a launch fails.
void rasterize(const RasterJob& job, const Queue& queue);

}  // namespace hoirt::cuda

// CUDA launches of the rasteriser: project, draw small faces per thread and large ones per block, resolve.
#include "csrc/cuda/raster.h"

#include <algorithm>
#include <string>

#include "csrc/cuda/launch.cuh"
#include "csrc/cuda/memory.h"
#include "csrc/raster/triangle.h"

namespace hoirt::cuda {
namespace {

using namespace raster;

constexpr int lanes = 32;

// What the kernels share.
struct Frames {
  const float* vertices_f32;
  const double* vertices_f64;
  const std::int32_t* faces_i32;
  const std::int64_t* faces_i64;
  const std::int32_t* instances;
  const Camera* cameras;
  std::int64_t camera_count, frames, meshes, vertex_count, face_count;
  View view;
  Vec3* positions;  // (frames, vertex_count)
  ScreenPoint* points;
  Key* keys;                       // (frames, height, width)
  unsigned long long* large;       // items frame * face_count + face
  unsigned long long* large_count;

  __device__ const Camera& camera(std::int64_t frame) const { return cameras[camera_count == 1 ? 0 : frame]; }
  __device__ std::int64_t index(std::int64_t corner) const {
    return faces_i32 ? std::int64_t{faces_i32[corner]} : faces_i64[corner];
  }
};

// y of an off-screen point whose vertex cannot be drawn at all.
constexpr std::int32_t unusable = 1;

__global__ void project(const Frames f) {
  const std::int64_t count = f.frames * f.vertex_count, stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const std::int64_t frame = i / f.vertex_count, vertex = i % f.vertex_count;
    const std::int64_t from = 3 * (f.meshes == 1 ? vertex : i);
    const Camera& camera = f.camera(frame);
    Vec3 position;
    const bool fine = f.vertices_f32 ? to_camera(camera, f.vertices_f32 + from, position)
                                     : to_camera(camera, f.vertices_f64 + from, position);
    f.positions[i] = position;
    f.points[i] = fine ? to_screen(camera, position, f.view.near) : ScreenPoint{off_screen, unusable};
  }
}

// False if the face covers nothing.
__device__ bool set_up(const Frames& f, std::int64_t frame, std::int64_t face, Triangle& triangle) {
  Corners corners;
  bool on_screen = true;
  for (int k = 0; k < 3; ++k) {
    const std::int64_t vertex = f.index(3 * face + k);
    if (vertex < 0 || vertex >= f.vertex_count) return false;
    const std::int64_t at = frame * f.vertex_count + vertex;
    corners.point[k] = f.points[at];
    corners.position[k] = f.positions[at];
    if (corners.point[k].x != off_screen) continue;
    if (corners.point[k].y == unusable) return false;
    on_screen = false;
  }
  if (on_screen && !set_up_on_screen(corners, f.view, 0, f.view.height, triangle)) return false;
  const Camera& camera = f.camera(frame);
  triangle.inverse_depth = inverse_depth_of(camera, corners.position, f.view.near);
  return on_screen || set_up_clipped(corners, camera, f.view, 0, f.view.height, triangle);
}

// The columns first, first + step ... of a row.
__device__ void draw_row(const Frames& f, const Triangle& triangle, std::int64_t frame, std::int64_t face,
                         std::int32_t row, std::int32_t offset, std::int32_t step) {
  std::int32_t first, last;
  if (!span_of_row(triangle, row, first, last)) return;
  const double base = triangle.inverse_depth.in_row(row);
  Key* keys = f.keys + (frame * f.view.height + row) * f.view.width;
  for (std::int32_t column = first + offset; column <= last; column += step) {
    const Key key = key_of(triangle.inverse_depth.at(column, base), static_cast<std::uint32_t>(face));
    auto* slot = reinterpret_cast<unsigned long long*>(keys + column);
    // A stale value is only ever too large, so that what is skipped would not have changed anything.
    if (key < *slot) atomicMin(slot, static_cast<unsigned long long>(key));
  }
}

__global__ void draw_small(const Frames f) {
  constexpr std::int32_t small = 16;  // pixels a side
  const std::int64_t count = f.frames * f.face_count, stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const std::int64_t frame = i / f.face_count, face = i % f.face_count;
    Triangle triangle;
    if (!set_up(f, frame, face, triangle)) continue;
    if (triangle.right - triangle.left >= small || triangle.bottom - triangle.top >= small) {
      f.large[atomicAdd(f.large_count, 1ULL)] = static_cast<unsigned long long>(i);
      continue;
    }
    for (std::int32_t row = triangle.top; row <= triangle.bottom; ++row) draw_row(f, triangle, frame, face, row, 0, 1);
  }
}

// A block takes a face, a warp a row of it.
__global__ void draw_large(const Frames f) {
  const auto warp = static_cast<std::int32_t>(threadIdx.x / lanes), lane = static_cast<std::int32_t>(threadIdx.x % lanes);
  for (unsigned long long item = blockIdx.x; item < *f.large_count; item += gridDim.x) {
    const auto i = static_cast<std::int64_t>(f.large[item]);
    const std::int64_t frame = i / f.face_count, face = i % f.face_count;
    Triangle triangle;
    if (!set_up(f, frame, face, triangle)) continue;
    for (std::int32_t row = triangle.top + warp; row <= triangle.bottom; row += threads / lanes) {
      draw_row(f, triangle, frame, face, row, lane, lanes);
    }
  }
}

__global__ void resolve_pixels(const Frames f, const Outputs outputs) {
  const std::int64_t size = std::int64_t{f.view.height} * f.view.width, count = f.frames * size;
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) {
    const std::int64_t frame = i / size, begin = frame * size;
    const auto at = [begin](auto* pointer, int channels) { return pointer ? pointer + begin * channels : nullptr; };
    const Outputs out{at(outputs.depth, 1),        at(outputs.instances, 1), at(outputs.faces, 1),
                      at(outputs.barycentrics, 3), at(outputs.normals, 3),   at(outputs.silhouette, 1)};
    const auto corners = [&](std::int32_t face, Vec3* position) {
      for (int k = 0; k < 3; ++k) position[k] = f.positions[frame * f.vertex_count + f.index(3 * std::int64_t{face} + k)];
    };
    resolve(f.keys[i], i - begin, f.view.width, f.camera(frame), f.instances, corners, out);
  }
}

unsigned grid(std::int64_t count) {
  return static_cast<unsigned>(std::clamp<std::int64_t>((count + threads - 1) / threads, 1, most_blocks));
}

template <typename T>
T* in(const std::shared_ptr<void>& memory) {
  return static_cast<T*>(memory.get());
}

}  // namespace

void rasterize(const RasterJob& job, const Queue& queue) {
  void* const stream = queue.stream;
  const std::int64_t vertices = job.frames * job.vertex_count, faces = job.frames * job.face_count;
  const std::int64_t pixels = job.frames * job.view.height * job.view.width;
  const auto memory = [&queue](std::int64_t count, std::size_t item) {
    return scratch(static_cast<std::size_t>(count) * item, queue);
  };
  const auto cameras = memory(static_cast<std::int64_t>(job.cameras.size()), sizeof(Camera));
  const auto positions = memory(vertices, sizeof(Vec3)), points = memory(vertices, sizeof(ScreenPoint));
  const auto keys = memory(pixels, sizeof(Key)), large = memory(faces + 1, sizeof(unsigned long long));
  upload(cameras.get(), job.cameras.data(), job.cameras.size() * sizeof(Camera), stream);
  check(cudaMemsetAsync(keys.get(), 0xFF, static_cast<std::size_t>(pixels) * sizeof(Key), stream_of(stream)),
        "the pictures could not be cleared");
  check(cudaMemsetAsync(large.get(), 0, sizeof(unsigned long long), stream_of(stream)), "the list could not be cleared");
  const Frames f{job.vertices_f32, job.vertices_f64, job.faces_i32, job.faces_i64, job.instances, in<Camera>(cameras),
                 static_cast<std::int64_t>(job.cameras.size()), job.frames, job.meshes, job.vertex_count,
                 job.face_count, job.view, in<Vec3>(positions), in<ScreenPoint>(points), in<Key>(keys),
                 in<unsigned long long>(large) + 1, in<unsigned long long>(large)};
  constexpr unsigned resident = 1024;  // blocks for the large faces, whose number only the device knows
  constexpr const char* failed = "the rasteriser could not be launched";
  if (vertices > 0 && faces > 0) {
    start(project, grid(vertices), threads, stream, failed, f);
    start(draw_small, grid(faces), threads, stream, failed, f);
    start(draw_large, resident, threads, stream, failed, f);
  }
  start(resolve_pixels, grid(pixels), threads, stream, failed, f, job.outputs);
}

}  // namespace hoirt::cuda

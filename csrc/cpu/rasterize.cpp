// CPU rasteriser: projects, draws and resolves a frame, or a band of one, at a time.
#include "csrc/raster/rasterize.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "csrc/cpu/vector_widths.h"
#include "csrc/raster/resolve.h"
#include "csrc/raster/triangle.h"
#include "csrc/raster/workers.h"

namespace hoirt::raster {
namespace {

// The vertices of one frame in camera space and on the screen.
struct Projected {
  std::vector<Vec3> positions;
  std::vector<Point> points;
};

void refuse_vertex(std::int64_t frame, std::int64_t vertex) {
  throw InputError("vertex " + std::to_string(vertex) + " of frame " + std::to_string(frame) +
                   " holds NaN or infinity, or lies beyond 1e30 metres");
}

template <typename T>
void project(const Tensor& vertices, const Camera& camera, double near, std::int64_t frame, Projected& out) {
  const std::int64_t count = vertices.dim(1);
  out.positions.resize(static_cast<std::size_t>(count));
  out.points.resize(static_cast<std::size_t>(count));
  const T* world = vertices.data<T>() + (vertices.dim(0) == 1 ? 0 : frame * count * 3);
  for (std::int64_t v = 0; v < count; ++v) {
    Vec3& position = out.positions[static_cast<std::size_t>(v)];
    if (!to_camera(camera, world + 3 * v, position)) refuse_vertex(frame, v);
    out.points[static_cast<std::size_t>(v)] = to_screen(camera, position, near);
  }
}

// One row of a triangle; without branches, so that it becomes vector code.
HOIRT_VECTOR_WIDTHS
void draw_span(Key* keys, std::int32_t first, std::int32_t last, const InverseDepth& inverse_depth, double base,
               std::uint32_t face) {
  const InverseDepth z = inverse_depth;
  for (std::int32_t column = first; column <= last; ++column) {
    keys[column] = std::min(keys[column], key_of(z.at(column, base), face));
  }
}

// The rows first..end - 1 of one frame.
struct Band {
  std::int32_t first, end, width;
  std::vector<Key> keys;

  Key* row(std::int32_t index) { return keys.data() + static_cast<std::int64_t>(index - first) * width; }
};

void draw(const Triangle& triangle, std::uint32_t face, Band& band) {
  constexpr std::int32_t narrow = 4;  // up to this width, testing pixels is quicker than solving for the span
  const InverseDepth& z = triangle.inverse_depth;
  const bool is_narrow = triangle.right - triangle.left < narrow && triangle.edge_count == 3;
  for (std::int32_t row = triangle.top; row <= triangle.bottom; ++row) {
    Key* keys = band.row(row);
    const double base = z.in_row(row);
    if (is_narrow) {
      const Edge* edge = triangle.edges;
      const double bases[3] = {edge[0].in_row(row), edge[1].in_row(row), edge[2].in_row(row)};
      for (std::int32_t column = triangle.left; column <= triangle.right; ++column) {
        if (!edge[0].inside(column, bases[0]) || !edge[1].inside(column, bases[1]) || !edge[2].inside(column, bases[2])) {
          continue;
        }
        keys[column] = std::min(keys[column], key_of(z.at(column, base), face));
      }
    } else if (std::int32_t first, last; span_of_row(triangle, row, first, last)) {
      draw_span(keys, first, last, z, base, face);
    }
  }
}

void draw(const Scene& scene, const Camera& camera, const Projected& projected, Band& band) {
  band.keys.assign(static_cast<std::size_t>(band.end - band.first) * static_cast<std::size_t>(band.width), nothing);
  const std::int32_t* index = scene.faces.data<std::int32_t>();
  const std::int64_t count = scene.faces.dim(0);
  for (std::int64_t face = 0; face < count; ++face, index += 3) {
    Corners corners;
    bool on_screen = true;
    for (int k = 0; k < 3; ++k) {
      corners.point[k] = projected.points[static_cast<std::size_t>(index[k])];
      on_screen &= corners.point[k].x != off_screen;
    }
    Triangle triangle;
    if (on_screen && !set_up_on_screen(corners, scene.view, band.first, band.end, triangle)) continue;
    for (int k = 0; k < 3; ++k) corners.position[k] = projected.positions[static_cast<std::size_t>(index[k])];
    triangle.inverse_depth = inverse_depth_of(camera, corners.position, scene.view.near);
    if (!on_screen && !set_up_clipped(corners, camera, scene.view, band.first, band.end, triangle)) continue;
    draw(triangle, static_cast<std::uint32_t>(face), band);
  }
}

template <typename T>
T* frame_of(Tensor& tensor, std::int64_t offset) {
  return tensor.shape().empty() ? nullptr : static_cast<T*>(tensor.raw()) + offset;
}

void resolve(const Scene& scene, const Camera& camera, const Projected& projected, std::int64_t frame, Band& band,
             Raster& out) {
  const std::int64_t offset = frame * scene.view.height * scene.view.width;
  const Outputs outputs{.depth = frame_of<float>(out.depth, offset),
                        .instances = frame_of<std::int32_t>(out.instances, offset),
                        .faces = frame_of<std::int32_t>(out.faces, offset),
                        .barycentrics = frame_of<float>(out.barycentrics, 3 * offset),
                        .normals = frame_of<float>(out.normals, 3 * offset),
                        .silhouette = frame_of<std::uint8_t>(out.silhouette, offset)};
  const std::int32_t* index = scene.faces.data<std::int32_t>();
  const std::int32_t* instances = scene.instances.shape().empty() ? nullptr : scene.instances.data<std::int32_t>();
  const auto corners_of = [&](std::int32_t face, Vec3* position) {
    for (std::int64_t k = 0; k < 3; ++k) {
      position[k] = projected.positions[static_cast<std::size_t>(index[3 * std::int64_t{face} + k])];
    }
  };
  const std::int64_t begin = static_cast<std::int64_t>(band.first) * band.width;
  for (std::size_t i = 0; i < band.keys.size(); ++i) {
    resolve(band.keys[i], begin + static_cast<std::int64_t>(i), band.width, camera, instances, corners_of, outputs);
  }
}

Raster allocate(const Wanted& wanted, std::int64_t frames, const View& view) {
  const Shape shape{frames, view.height, view.width};
  const Shape triples{frames, view.height, view.width, 3};
  Raster out;
  if (wanted.depth) out.depth = Tensor(shape, DType::f32);
  if (wanted.instances) out.instances = Tensor(shape, DType::i32);
  if (wanted.faces) out.faces = Tensor(shape, DType::i32);
  if (wanted.barycentrics) out.barycentrics = Tensor(triples, DType::f32);
  if (wanted.normals) out.normals = Tensor(triples, DType::f32);
  if (wanted.silhouette) out.silhouette = Tensor(shape, DType::boolean);
  return out;
}

}  // namespace

Raster rasterize(const Scene& scene, const Wanted& wanted, int threads) {
  const std::int64_t frames = check(scene);
  const View& view = scene.view;
  Raster out = allocate(wanted, frames, view);
  threads = thread_count(threads);
  // A frame is cut into bands only where there are fewer frames than threads.
  constexpr std::int64_t thinnest = 16;  // rows
  const std::int64_t bands = std::clamp<std::int64_t>(frames < threads ? (threads + frames - 1) / frames : 1, 1,
                                                      (view.height + thinnest - 1) / thinnest);
  for_each_item(frames * bands, threads, [&] {
    return [&, projected = Projected{}, band = Band{}](std::int64_t item) mutable {
      const std::int64_t frame = item / bands, part = item % bands;
      const Camera& camera = scene.cameras[scene.cameras.size() == 1 ? 0 : static_cast<std::size_t>(frame)];
      if (scene.vertices.dtype() == DType::f32) {
        project<float>(scene.vertices, camera, view.near, frame, projected);
      } else {
        project<double>(scene.vertices, camera, view.near, frame, projected);
      }
      band.first = static_cast<std::int32_t>(view.height * part / bands);
      band.end = static_cast<std::int32_t>(view.height * (part + 1) / bands);
      band.width = view.width;
      draw(scene, camera, projected, band);
      resolve(scene, camera, projected, frame, band, out);
    };
  });
  return out;
}

}  // namespace hoirt::raster

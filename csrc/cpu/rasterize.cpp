// CPU rasteriser: projects, draws and resolves a frame, or a band of one, at a time.
#include "csrc/raster/rasterize.h"

#include <algorithm>
#include <bit>
#include <span>
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
  std::vector<ScreenPoint> points;
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

// The rows first..end - 1 of one frame. Between two bands all keys are `nothing`, so that clearing and resolving cost
// what is drawn and not the size of the picture.
class Band {
 public:
  void open(std::int32_t first, std::int32_t end, std::int32_t width) {
    first_ = first, end_ = end, width_ = width;
    spans_.assign(static_cast<std::size_t>(end - first), Span{width, -1});
    const auto size = static_cast<std::size_t>(end - first) * static_cast<std::size_t>(width);
    if (keys_.size() < size) keys_.resize(size, nothing);
  }

  std::int32_t first() const { return first_; }
  std::int32_t end() const { return end_; }

  // The keys of a row of the picture; the columns from..to may be changed.
  Key* touch(std::int32_t row, std::int32_t from, std::int32_t to) {
    Span& span = spans_[static_cast<std::size_t>(row - first_)];
    span.first = std::min(span.first, from);
    span.last = std::max(span.last, to);
    return keys_.data() + static_cast<std::int64_t>(row - first_) * width_;
  }

  // Gives each row's touched keys to `use(row, first, keys)` and clears them.
  template <typename Use>
  void close(const Use& use) {
    for (std::int32_t row = first_; row < end_; ++row) {
      const Span& span = spans_[static_cast<std::size_t>(row - first_)];
      if (span.first > span.last) {
        use(row, 0, std::span<Key>());
        continue;
      }
      const std::span<Key> keys(keys_.data() + static_cast<std::int64_t>(row - first_) * width_ + span.first,
                                static_cast<std::size_t>(span.last - span.first + 1));
      use(row, span.first, keys);
      std::ranges::fill(keys, nothing);
    }
  }

 private:
  struct Span {
    std::int32_t first, last;
  };
  std::int32_t first_ = 0, end_ = 0, width_ = 0;
  std::vector<Key> keys_;
  std::vector<Span> spans_;
};

// Bit 4 row + column of the box's pixels that are covered.
std::uint32_t small_coverage(const Triangle& triangle) {
  std::uint32_t covered = 0, bit = 0;
  for (std::int32_t row = triangle.top; row <= triangle.bottom; ++row, bit += 4) {
    const Edge* edge = triangle.edges;
    const double bases[3] = {edge[0].in_row(row), edge[1].in_row(row), edge[2].in_row(row)};
    for (std::int32_t column = triangle.left; column <= triangle.right; ++column) {
      const bool inside = edge[0].inside(column, bases[0]) & edge[1].inside(column, bases[1]) &
                          edge[2].inside(column, bases[2]);
      covered |= static_cast<std::uint32_t>(inside) << (bit + static_cast<std::uint32_t>(column - triangle.left));
    }
  }
  return covered;
}

void draw_small(const Triangle& triangle, std::uint32_t covered, std::uint32_t face, Band& band) {
  const InverseDepth& z = triangle.inverse_depth;
  for (; covered != 0; covered &= covered - 1) {
    const int bit = std::countr_zero(covered);
    const std::int32_t row = triangle.top + bit / 4, column = triangle.left + bit % 4;
    Key& key = band.touch(row, column, column)[column];
    key = std::min(key, key_of(z.at(column, z.in_row(row)), face));
  }
}

void draw_large(const Triangle& triangle, std::uint32_t face, Band& band) {
  const InverseDepth& z = triangle.inverse_depth;
  for (std::int32_t row = triangle.top; row <= triangle.bottom; ++row) {
    std::int32_t first, last;
    if (!span_of_row(triangle, row, first, last)) continue;
    draw_span(band.touch(row, first, last), first, last, z, z.in_row(row), face);
  }
}

void draw(const Scene& scene, const Camera& camera, const Projected& projected, Band& band) {
  constexpr std::int32_t small = 4;  // pixels; up to this size, testing each is quicker than solving for spans
  const std::int32_t* index = scene.faces.data<std::int32_t>();
  const std::int64_t count = scene.faces.dim(0);
  for (std::int64_t face = 0; face < count; ++face, index += 3) {
    const auto id = static_cast<std::uint32_t>(face);
    Corners corners;
    bool on_screen = true;
    for (int k = 0; k < 3; ++k) {
      corners.point[k] = projected.points[static_cast<std::size_t>(index[k])];
      on_screen &= corners.point[k].x != off_screen;
    }
    Triangle triangle;
    std::uint32_t covered = 0;
    bool is_small = false;
    if (on_screen) {
      if (!set_up_on_screen(corners, scene.view, band.first(), band.end(), triangle)) continue;
      is_small = triangle.right - triangle.left < small && triangle.bottom - triangle.top < small;
      if (is_small && (covered = small_coverage(triangle)) == 0) continue;
    }
    for (int k = 0; k < 3; ++k) corners.position[k] = projected.positions[static_cast<std::size_t>(index[k])];
    triangle.inverse_depth = inverse_depth_of(camera, corners.position, scene.view.near);
    if (!on_screen && !set_up_clipped(corners, camera, scene.view, band.first(), band.end(), triangle)) continue;
    if (is_small) draw_small(triangle, covered, id, band);
    else draw_large(triangle, id, band);
  }
}

HOIRT_VECTOR_WIDTHS
void write_depths(const Key* keys, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = depth_of(keys[i]);
}

template <typename T>
T* frame_of(Tensor& tensor, std::int64_t offset) {
  return tensor.shape().empty() ? nullptr : static_cast<T*>(tensor.raw()) + offset;
}

void resolve(const Scene& scene, const Camera& camera, const Projected& projected, std::int64_t frame, Band& band,
             Raster& out) {
  const std::int64_t width = scene.view.width, offset = frame * scene.view.height * width;
  float* depth = frame_of<float>(out.depth, offset);
  // Depth has a loop of its own, which becomes vector code.
  const Outputs others{.depth = nullptr,
                       .instances = frame_of<std::int32_t>(out.instances, offset),
                       .faces = frame_of<std::int32_t>(out.faces, offset),
                       .barycentrics = frame_of<float>(out.barycentrics, 3 * offset),
                       .normals = frame_of<float>(out.normals, 3 * offset),
                       .silhouette = frame_of<std::uint8_t>(out.silhouette, offset)};
  const bool only_depth =
      !others.instances && !others.faces && !others.barycentrics && !others.normals && !others.silhouette;
  const std::int32_t* index = scene.faces.data<std::int32_t>();
  const std::int32_t* instances = scene.instances.shape().empty() ? nullptr : scene.instances.data<std::int32_t>();
  const auto corners_of = [&](std::int32_t face, Vec3* position) {
    for (std::int64_t k = 0; k < 3; ++k) {
      position[k] = projected.positions[static_cast<std::size_t>(index[3 * std::int64_t{face} + k])];
    }
  };
  band.close([&](std::int32_t row, std::int32_t first, std::span<const Key> keys) {
    // The memory came filled with zeros; only ids are something else where nothing is.
    for (std::int32_t* ids : {others.instances, others.faces}) {
      if (ids) std::fill_n(ids + row * width, width, -1);
    }
    const std::int64_t begin = row * width + first;
    if (depth) write_depths(keys.data(), static_cast<std::int64_t>(keys.size()), depth + begin);
    if (only_depth) return;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (keys[i] == nothing) continue;
      resolve(keys[i], begin + static_cast<std::int64_t>(i), scene.view.width, camera, instances, corners_of, others);
    }
  });
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
  check_vertices(scene.vertices.shape(), scene.vertices.dtype());
  check_faces(scene.faces, scene.vertices.dim(1));
  if (!scene.instances.shape().empty()) check_instances(scene.instances, scene.faces.dim(0));
  const std::int64_t frames = check_views(scene.vertices.dim(0), scene.cameras, scene.view);
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
      band.open(static_cast<std::int32_t>(view.height * part / bands),
                static_cast<std::int32_t>(view.height * (part + 1) / bands), view.width);
      draw(scene, camera, projected, band);
      resolve(scene, camera, projected, frame, band, out);
    };
  });
  return out;
}

}  // namespace hoirt::raster

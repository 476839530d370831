// CPU encoders: a pass that finds ranges and bad values, then the functors over pieces of the pictures.
#include "csrc/cpu/encode.h"

#include <algorithm>
#include <string>
#include <vector>

#include "csrc/cpu/vector_widths.h"
#include "csrc/raster/workers.h"

namespace hoirt::cpu {
namespace {

using raster::DepthRange;

constexpr std::int64_t most_hands = 65'536;
constexpr std::int64_t piece = 1 << 16;  // pixels that a thread takes at once

// body(i) for i in 0..count - 1 on threads.
template <typename Body>
void run_pieces(std::int64_t count, int threads, const Body& body) {
  raster::for_each_item(count, raster::thread_count(threads), [&] { return [&](std::int64_t i) { body(i); }; });
}

// body(begin, end) over pieces of 0..count.
template <typename Body>
void run_spans(std::int64_t count, int threads, const Body& body) {
  run_pieces((count + piece - 1) / piece, threads,
             [&](std::int64_t i) { body(i * piece, std::min(count, (i + 1) * piece)); });
}

void require(bool fine, const std::string& message) {
  if (!fine) throw InputError(message);
}

void check_shape(const Tensor& tensor, const char* name, std::size_t rank, const char* wanted) {
  require(tensor.rank() == rank, std::string(name) + " must have shape " + wanted + ", not " + to_string(tensor.shape()));
}

void check_threads(int threads) { require(threads >= 0, "threads must be 0 (all cores) or more"); }

const char* const bad_depth = "depth must be 0 (nothing) or positive metres; it holds a negative, infinite or NaN value";

// Branchless, so that it becomes vector code.
HOIRT_VECTOR_WIDTHS
bool find_range(const float* depth, std::int64_t count, DepthRange& range) {
  float nearest = INFINITY, farthest = 0.0f;
  int bad = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const float z = depth[i];
    const float seen = z > 0.0f ? z : INFINITY;
    nearest = seen < nearest ? seen : nearest;
    farthest = z > farthest ? z : farthest;
    bad |= static_cast<int>(!raster::valid_depth(z));
  }
  range.add(DepthRange{nearest, farthest});
  return bad == 0;
}

// The range of each of `images` pictures of `pixels`.
std::vector<DepthRange> find_ranges(const float* depth, std::int64_t images, std::int64_t pixels, int threads) {
  const std::int64_t pieces = (pixels + piece - 1) / piece;
  std::vector<DepthRange> parts(static_cast<std::size_t>(images * pieces));
  run_pieces(images * pieces, threads, [&](std::int64_t i) {
    const std::int64_t first = i % pieces * piece;
    const float* begin = depth + i / pieces * pixels + first;
    require(find_range(begin, std::min(piece, pixels - first), parts[static_cast<std::size_t>(i)]), bad_depth);
  });
  std::vector<DepthRange> ranges(static_cast<std::size_t>(images));
  for (std::size_t i = 0; i < parts.size(); ++i) ranges[i / static_cast<std::size_t>(pieces)].add(parts[i]);
  return ranges;
}

// Ranges by hand; the table grows with the largest id.
std::vector<DepthRange> find_hand_ranges(const float* depth, const std::int32_t* instances, std::int64_t pixels) {
  std::vector<DepthRange> ranges;
  for (std::int64_t i = 0; i < pixels; ++i) {
    const float z = depth[i];
    const std::int32_t hand = instances[i];
    if (!raster::valid_depth(z)) throw InputError(bad_depth);
    if (hand < -1 || hand >= most_hands) {
      throw InputError("instances must be -1 (background) or ids in 0..65535, not " + std::to_string(hand));
    }
    if (hand < 0 || z <= 0.0f) continue;
    const auto index = static_cast<std::size_t>(hand);
    if (index >= ranges.size()) ranges.resize(index + 1);
    ranges[index].add(z);
  }
  return ranges;
}

// Zeros (N, H, W, 3) for a raster buffer.
Tensor colours_like(const Tensor& buffer) {
  const Shape shape{buffer.dim(0), buffer.dim(1), buffer.dim(2), 3};
  return Tensor(shape, DType::u8);
}

HOIRT_VECTOR_WIDTHS
void hand_depth_span(const raster::HandDepth& kernel, std::int64_t frame, std::int64_t begin, std::int64_t end) {
  for (std::int64_t pixel = begin; pixel < end; ++pixel) kernel(frame, pixel);
}

HOIRT_VECTOR_WIDTHS
void normals_span(const raster::ColouredNormals& kernel, std::int64_t begin, std::int64_t end) {
  for (std::int64_t pixel = begin; pixel < end; ++pixel) kernel(pixel);
}

}  // namespace

Tensor encode_hand_depth(const Tensor& depth, const Tensor* instances, int farthest, bool nearest_integer,
                         int threads) {
  check_threads(threads);
  require(farthest >= 0 && farthest <= 255, "farthest must lie in 0..255, not " + std::to_string(farthest));
  raster::HandDepth kernel;
  std::vector<DepthRange> ranges;
  Shape shape;
  if (instances) {
    check_shape(depth, "depth", 3, "(N, H, W)");
    require(instances->shape() == depth.shape(), "instances must have depth's shape " + to_string(depth.shape()) +
                                                     ", not " + to_string(instances->shape()));
    shape = depth.shape();
    kernel.pixels = shape[1] * shape[2];
    kernel.instances = instances->data<std::int32_t>();
    std::vector<std::vector<DepthRange>> by_frame(static_cast<std::size_t>(shape[0]));
    run_pieces(shape[0], threads, [&](std::int64_t frame) {
      by_frame[static_cast<std::size_t>(frame)] = find_hand_ranges(
          depth.data<float>() + frame * kernel.pixels, kernel.instances + frame * kernel.pixels, kernel.pixels);
    });
    std::size_t hands = 0;
    for (const auto& frame : by_frame) hands = std::max(hands, frame.size());
    ranges.resize(hands * by_frame.size());
    for (std::size_t frame = 0; frame < by_frame.size(); ++frame) {
      std::copy(by_frame[frame].begin(), by_frame[frame].end(), ranges.begin() + static_cast<std::ptrdiff_t>(frame * hands));
    }
    kernel.hands = static_cast<std::int64_t>(hands);
  } else {
    check_shape(depth, "depth without instances", 4, "(N, M, H, W), hands from far to near");
    shape = {depth.dim(0), depth.dim(2), depth.dim(3)};
    kernel.hands = depth.dim(1);
    kernel.pixels = shape[1] * shape[2];
    ranges = find_ranges(depth.data<float>(), shape[0] * kernel.hands, kernel.pixels, threads);
  }
  Tensor out(shape, DType::u8);
  kernel.depth = depth.data<float>();
  kernel.ranges = ranges.data();
  kernel.out = out.data<std::uint8_t>();
  kernel.span = (255 - farthest) / 255.0;
  kernel.nearest_integer = nearest_integer;
  run_spans(static_cast<std::int64_t>(out.size()), threads, [&](std::int64_t begin, std::int64_t end) {
    while (begin < end) {  // frame by frame
      const std::int64_t frame = begin / kernel.pixels, first = begin % kernel.pixels;
      const std::int64_t count = std::min(end - begin, kernel.pixels - first);
      hand_depth_span(kernel, frame, first, first + count);
      begin += count;
    }
  });
  return out;
}

Tensor encode_coloured_depth(const Tensor& depth, const Tensor& colours, double low, double high, bool disparity,
                             int threads) {
  check_threads(threads);
  check_shape(depth, "depth", 3, "(N, H, W)");
  require(colours.shape() == Shape{256, 3}, "colours must have shape (256, 3), not " + to_string(colours.shape()));
  require(0.0 <= low && low <= high && high <= 1.0, "low and high must be 0 <= low <= high <= 1");
  DepthRange range;
  for (const DepthRange& part : find_ranges(depth.data<float>(), 1, static_cast<std::int64_t>(depth.size()), threads)) {
    range.add(part);
  }
  Tensor out = colours_like(depth);
  const raster::ColouredDepth kernel{depth.data<float>(), colours.data<std::uint8_t>(), &range,
                                     out.data<std::uint8_t>(), low, high, disparity};
  run_spans(static_cast<std::int64_t>(depth.size()), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t pixel = begin; pixel < end; ++pixel) kernel(pixel);
  });
  return out;
}

Tensor encode_instances(const Tensor& instances, const Tensor& colours, int threads) {
  check_threads(threads);
  check_shape(instances, "instances", 3, "(N, H, W)");
  require(colours.rank() == 2 && colours.dim(0) >= 1 && colours.dim(1) == 3,
          "colours must have shape (1 + ids, 3), not " + to_string(colours.shape()));
  const std::int64_t ids = colours.dim(0) - 1;
  Tensor out = colours_like(instances);
  const raster::ColouredInstances kernel{instances.data<std::int32_t>(), colours.data<std::uint8_t>(),
                                         out.data<std::uint8_t>()};
  run_spans(static_cast<std::int64_t>(instances.size()), threads, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t pixel = begin; pixel < end; ++pixel) {
      const std::int32_t id = kernel.instances[pixel];
      if (id < -1 || id >= ids) {
        throw InputError("instances hold the id " + std::to_string(id) + "; -1 (background) to " +
                         std::to_string(ids - 1) + " have a class");
      }
      kernel(pixel);
    }
  });
  return out;
}

Tensor encode_normals(const Tensor& normals, bool flip, int threads) {
  check_threads(threads);
  require(normals.rank() == 4 && normals.dim(3) == 3,
          "normals must have shape (N, H, W, 3), not " + to_string(normals.shape()));
  Tensor out = colours_like(normals);
  const raster::ColouredNormals kernel{normals.data<float>(), out.data<std::uint8_t>(), flip};
  run_spans(static_cast<std::int64_t>(normals.size() / 3), threads, [&](std::int64_t begin, std::int64_t end) {
    // A little above 1 for normals rounded to float32.
    const bool fine = std::all_of(kernel.normals + 3 * begin, kernel.normals + 3 * end,
                                  [](float n) { return n >= -1.001f && n <= 1.001f; });
    require(fine, "normals must be unit vectors or zero; a component lies outside of -1..1 or is NaN");
    normals_span(kernel, begin, end);
  });
  return out;
}

}  // namespace hoirt::cpu

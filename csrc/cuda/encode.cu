// CUDA launches of the encoders: one thread per pixel, a reduction for ranges, one thread per shape of a hand.
#include "csrc/cuda/encode.h"

#include <algorithm>
#include <string>

#include "csrc/cuda/launch.cuh"

namespace hoirt::cuda {
namespace {

using raster::DepthRange;

constexpr int reduced_pixels = 16;  // per thread of the reduction

struct ClearRange {
  DepthRange* ranges;
  __device__ void at(std::int64_t i) const { ranges[i] = DepthRange{}; }
};

// Positive floats are in the order of their bits. Most threads see at once that they have nothing to add.
__device__ void add_range(DepthRange* to, const DepthRange& range) {
  if (!(range.farthest > 0.0f)) return;
  const volatile DepthRange* seen = to;
  if (range.nearest < seen->nearest) atomicMin(reinterpret_cast<int*>(&to->nearest), __float_as_int(range.nearest));
  if (range.farthest > seen->farthest) atomicMax(reinterpret_cast<int*>(&to->farthest), __float_as_int(range.farthest));
}

// Thread i of a piece takes its pixels i, i + 256, ...; one range per hand, or per picture without instances.
struct FindRanges {
  const float* depth;
  const std::int32_t* instances;
  DepthRange* ranges;
  std::int64_t hands, pixels, pieces;

  __device__ void at(std::int64_t i) const {
    const std::int64_t piece = i / threads, picture = piece / pieces;
    std::int64_t pixel = piece % pieces * threads * reduced_pixels + i % threads;
    std::int64_t current = -1;
    DepthRange range;
    for (int k = 0; k < reduced_pixels && pixel < pixels; ++k, pixel += threads) {
      const std::int64_t at = picture * pixels + pixel;
      const float z = depth[at];
      if (!(z > 0.0f) || !raster::valid_depth(z)) continue;
      const std::int64_t hand = instances ? std::int64_t{instances[at]} : 0;
      if (hand < 0 || hand >= hands) continue;
      const std::int64_t slot = picture * hands + hand;
      if (slot != current) {
        if (current >= 0) add_range(ranges + current, range);
        current = slot;
        range = DepthRange{};
      }
      range.add(z);
    }
    if (current >= 0) add_range(ranges + current, range);
  }
};

void find_ranges(const float* depth, const std::int32_t* instances, DepthRange* ranges, std::int64_t pictures,
                 std::int64_t hands, std::int64_t pixels, void* stream) {
  launch(ClearRange{ranges}, pictures * hands, stream, "the ranges could not be cleared");
  const std::int64_t pieces = (pixels + threads * reduced_pixels - 1) / (threads * reduced_pixels);
  launch(FindRanges{depth, instances, ranges, hands, pixels, pieces}, pictures * pieces * threads, stream,
         "the ranges could not be computed");
}

struct HandDepthBody {
  raster::HandDepth kernel;
  __device__ void at(std::int64_t frame, std::int64_t pixel) const {
    const std::int64_t i = frame * kernel.pixels + pixel;
    if (kernel.instances && kernel.instances[i] >= kernel.hands) kernel.out[i] = 0;
    else kernel(frame, pixel);
  }
};

struct InstancesBody {
  raster::ColouredInstances kernel;
  std::int64_t ids;
  __device__ void at(std::int64_t pixel) const {
    const std::int32_t id = kernel.instances[pixel];
    const std::uint8_t* colour = kernel.colours + (id >= 0 && id < ids ? 3 * (std::int64_t{id} + 1) : 0);
    for (int k = 0; k < 3; ++k) kernel.out[3 * pixel + k] = colour[k];
  }
};

template <typename Kernel>
struct PixelBody {
  Kernel kernel;
  __device__ void at(std::int64_t pixel) const { kernel(pixel); }
};

// The last shape that covers a pixel wins, so shapes may be drawn at once.
struct OrderSink {
  std::int32_t* order;
  std::int64_t width, height;
  std::int32_t value;
  __device__ void span(std::int64_t row, std::int64_t first, std::int64_t last) const {
    for (std::int64_t column = first; column <= last; ++column) atomicMax(order + row * width + column, value);
  }
};

struct ShapeBody {
  raster::HandDrawing drawing;
  std::int32_t* order;
  std::int64_t width, height;
  __device__ void at(std::int64_t frame, std::int64_t shape) const {
    if (drawing.missing(frame)) return;
    OrderSink sink{order + frame * width * height, width, height, static_cast<std::int32_t>(shape) + 1};
    drawing(frame, static_cast<int>(shape), sink);
  }
};

struct PaintBody {
  raster::HandDrawing drawing;
  const std::int32_t* order;
  std::uint8_t* pictures;
  std::int64_t pixels;
  __device__ void at(std::int64_t frame, std::int64_t pixel) const {
    const std::int64_t i = frame * pixels + pixel;
    if (order[i] == 0) return;
    const std::uint8_t* colour = drawing.colour(frame, order[i] - 1);
    for (int k = 0; k < 3; ++k) pictures[3 * i + k] = colour[k];
  }
};

}  // namespace

void hand_depth(const raster::HandDepth& kernel, DepthRange* ranges, std::int64_t frames, void* stream) {
  const bool one_by_one = kernel.instances == nullptr;
  find_ranges(kernel.depth, kernel.instances, ranges, one_by_one ? frames * kernel.hands : frames,
              one_by_one ? 1 : kernel.hands, kernel.pixels, stream);
  raster::HandDepth with_ranges = kernel;
  with_ranges.ranges = ranges;
  launch(HandDepthBody{with_ranges}, frames, kernel.pixels, stream, "the hand depth could not be launched");
}

void coloured_depth(const raster::ColouredDepth& kernel, DepthRange* range, std::int64_t pixels, void* stream) {
  find_ranges(kernel.depth, nullptr, range, 1, 1, pixels, stream);
  raster::ColouredDepth with_range = kernel;
  with_range.range = range;
  launch(PixelBody<raster::ColouredDepth>{with_range}, pixels, stream, "the coloured depth could not be launched");
}

void coloured_instances(const raster::ColouredInstances& kernel, std::int64_t ids, std::int64_t pixels, void* stream) {
  launch(InstancesBody{kernel, ids}, pixels, stream, "the coloured instances could not be launched");
}

void coloured_normals(const raster::ColouredNormals& kernel, std::int64_t pixels, void* stream) {
  launch(PixelBody<raster::ColouredNormals>{kernel}, pixels, stream, "the coloured normals could not be launched");
}

void draw_hands(const raster::HandDrawing& drawing, std::uint8_t* pictures, std::int32_t* order, std::int64_t frames,
                std::int64_t height, std::int64_t width, void* stream) {
  const std::int64_t count = frames * height * width;
  if (count <= 0) return;
  check(cudaMemsetAsync(order, 0, static_cast<std::size_t>(count) * sizeof(std::int32_t), static_cast<cudaStream_t>(stream)),
        "the drawing order could not be cleared");
  launch(ShapeBody{drawing, order, width, height}, frames, raster::hand_shapes, stream,
         "the hand drawing could not be launched");
  launch(PaintBody{drawing, order, pictures, height * width}, frames, height * width, stream,
         "the hand painting could not be launched");
}

}  // namespace hoirt::cuda

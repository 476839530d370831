// The encoders and the hand drawing on a CUDA device: asynchronous launches on a stream, device pointers only.
#pragma once

#include <cstdint>

#include "csrc/raster/draw_hand.h"
#include "csrc/raster/encode.h"

namespace hoirt::cuda {

// `stream` is a cudaStream_t; null is the default stream. Values are not checked: a depth that is not positive and
// finite counts as nothing. Each throws BackendError if a launch fails.

// First writes kernel.ranges, which is workspace of (frames, hands) here; ids outside of 0..hands - 1 are background.
void hand_depth(const raster::HandDepth& kernel, raster::DepthRange* ranges, std::int64_t frames, void* stream);

// First writes kernel.range, which is workspace of one range here.
void coloured_depth(const raster::ColouredDepth& kernel, raster::DepthRange* range, std::int64_t pixels, void* stream);

// Ids outside of -1..ids - 1 are painted as the background.
void coloured_instances(const raster::ColouredInstances& kernel, std::int64_t ids, std::int64_t pixels, void* stream);

void coloured_normals(const raster::ColouredNormals& kernel, std::int64_t pixels, void* stream);

// Draws on `pictures` (frames, height, width, 3) in place; `order` is workspace, int32 (frames, height, width).
void draw_hands(const raster::HandDrawing& drawing, std::uint8_t* pictures, std::int32_t* order, std::int64_t frames,
                std::int64_t height, std::int64_t width, void* stream);

}  // namespace hoirt::cuda

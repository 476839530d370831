// The kernels of csrc/kernels on the CPU: plain loops on the calling thread but where it says so.
#pragma once

#include <cstdint>

#include "csrc/kernels/copy_items.h"
#include "csrc/kernels/guided_step.h"
#include "engine/device.h"
#include "engine/tensor.h"

namespace hoirt::cpu {

void guided_step(const kernels::GuidedStep& step);
void guided_step(const kernels::GuidedStepOf<kernels::Half>& step);
void guided_step(const kernels::GuidedStepOf<kernels::BFloat>& step);

// `count` standard normals from element 4 first_block of the noise stream `stream` under `seed`.
void philox_normals(std::uint64_t seed, std::uint32_t stream, std::int64_t first_block, std::int64_t count, float* out);

// float32 standard normals of `shape`, as one item of the noise stream `stream` under `seed`.
Tensor philox_normal(std::uint64_t seed, std::uint32_t stream, const Shape& shape);

// `picture` uint8 (H, W, 3) with `patch` float32 (h, w, 3), 0..255, blended in by `alpha` float32 (h, w), 0..1, its
// corner at row `top`, column `left`; what hangs over the border is cut. Throws InputError on wrong shapes or values.
Tensor paste(const Tensor& picture, const Tensor& patch, const Tensor& alpha, std::int64_t top, std::int64_t left);

// In place, without checks.
void paste(const kernels::Paste& paste);

void resize(const ResizeJob& job);
void match_colours(const ColourJob& job);
void normalise(const NormaliseJob& job);
void colours(const ColoursJob& job);
void pad_edge(const kernels::PadEdge& job);
void sample_posterior(const kernels::SamplePosterior& job);

// On all cores; the bits do not depend on their number.
void distance(const DistanceJob& job);
void map(const MapJob& job);
// Throws InputError for a mesh that rasterize() refuses.
void draw(const DrawJob& job);

void copy_items(const kernels::CopyItems& copy);
void broadcast(const kernels::Broadcast& broadcast);

// Of the machine.
Device::Memory memory();

bool all_finite(const float* values, std::size_t count);

}  // namespace hoirt::cpu

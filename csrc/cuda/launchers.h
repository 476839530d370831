// The kernels of csrc/kernels on a CUDA device: asynchronous launches on a stream, device pointers only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "csrc/kernels/copy_items.h"
#include "csrc/kernels/guided_step.h"
#include "csrc/kernels/latents.h"
#include "csrc/kernels/pad_edge.h"
#include "csrc/kernels/paste.h"
#include "csrc/kernels/philox.h"
#include "engine/map_jobs.h"
#include "engine/picture_jobs.h"

namespace hoirt::cuda {

struct Queue;

// `stream` is a cudaStream_t; null is the default stream. Each throws BackendError if the launch fails; a fault of the
// kernel itself shows at the caller's next synchronisation, as always with CUDA.
void guided_step(const kernels::GuidedStep& step, void* stream);
void guided_step(const kernels::GuidedStepOf<kernels::Half>& step, void* stream);
void guided_step(const kernels::GuidedStepOf<kernels::BFloat>& step, void* stream);
void select_row(const kernels::SelectRow& select, void* stream);
void feed_step(const kernels::FeedStep& feed, void* stream);
void copy_items(const kernels::CopyItems& copy, void* stream);
void broadcast(const kernels::Broadcast& broadcast, void* stream);
// Replaces `fine` in `*flag`, which the device and the host can reach, by `mark` unless all values lie in low..high.
void check_within(const float* values, std::int64_t count, float low, float high, std::int32_t* flag, std::int32_t fine,
                  std::int32_t mark, void* stream);
void philox_normal(const kernels::PhiloxFill& fill, void* stream);
void paste(const kernels::Paste& kernel, void* stream);

void normalise(const NormaliseJob& job, void* stream);
void colours(const ColoursJob& job, void* stream);
void pad_edge(const kernels::PadEdge& job, void* stream);
void sample_posterior(const kernels::SamplePosterior& job, void* stream);

// Those that need memory meanwhile: so many bytes of the caller's, at a multiple of 256, or the queue's.
std::size_t workspace_bytes(const ResizeJob& job);
std::size_t workspace_bytes(const ColourJob& job);
void resize(const ResizeJob& job, void* workspace, void* stream);
void match_colours(const ColourJob& job, void* workspace, void* stream);
void resize(const ResizeJob& job, const Queue& queue);
void match_colours(const ColourJob& job, const Queue& queue);
void map(const MapJob& job, const Queue& queue);
void draw(const DrawJob& job, const Queue& queue);

// Throws BackendError if this module holds no kernels that the current device runs.
void check_kernels();

// Devices that the driver shows. Throws BackendError with the driver's reason if it cannot say.
int device_count();

// "13.0": the CUDA runtime that is linked in.
std::string runtime_version();

}  // namespace hoirt::cuda

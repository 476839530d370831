// Pictures on a CUDA device: the plans of csrc/kernels, enqueued on a stream.
#include "csrc/cuda/launchers.h"
#include "csrc/cuda/runner.cuh"
#include "csrc/kernels/picture_plan.h"

namespace hoirt::cuda {
namespace {

constexpr const char* failed = "a picture kernel could not be launched";

auto plan_of(const ResizeJob& job) {
  return [&job](auto& runner) { kernels::run_resize(runner, job); };
}
auto plan_of(const ColourJob& job) {
  return [&job](auto& runner) { kernels::match_colours(runner, job); };
}

template <typename Job>
void run_there(const Job& job, void* workspace, void* stream) {
  Runner runner(stream, failed, workspace);
  plan_of(job)(runner);
}

}  // namespace

std::size_t workspace_bytes(const ResizeJob& job) { return kernels::workspace_bytes(plan_of(job)); }
void resize(const ResizeJob& job, void* workspace, void* stream) { run_there(job, workspace, stream); }
void resize(const ResizeJob& job, const Queue& queue) { run_plan(plan_of(job), queue, failed); }

std::size_t workspace_bytes(const ColourJob& job) { return kernels::workspace_bytes(plan_of(job)); }
void match_colours(const ColourJob& job, void* workspace, void* stream) { run_there(job, workspace, stream); }
void match_colours(const ColourJob& job, const Queue& queue) { run_plan(plan_of(job), queue, failed); }

void normalise(const NormaliseJob& job, void* stream) {
  Runner runner(stream, failed);
  kernels::run_normalise(runner, job);
}

void colours(const ColoursJob& job, void* stream) {
  Runner runner(stream, failed);
  kernels::run_colours(runner, job);
}

void paste(const kernels::Paste& job, void* stream) {
  Runner runner(stream, failed);
  kernels::run_paste(runner, job);
}

void pad_edge(const kernels::PadEdge& job, void* stream) {
  Runner runner(stream, failed);
  kernels::run_pad_edge(runner, job);
}

void sample_posterior(const kernels::SamplePosterior& job, void* stream) {
  Runner runner(stream, failed);
  kernels::run_sample_posterior(runner, job);
}

}  // namespace hoirt::cuda

// Pictures on a CUDA device: the plans of csrc/kernels, enqueued on a stream.
#include "csrc/cuda/launchers.h"
#include "csrc/cuda/runner.cuh"
#include "csrc/kernels/picture_plan.h"

namespace hoirt::cuda {
namespace {

struct PictureRunner : Runner {
  explicit PictureRunner(const Queue& queue) : Runner(queue, "a picture kernel could not be launched") {}
  explicit PictureRunner(void* stream) : PictureRunner(Queue{stream, nullptr}) {}  // takes no memory
};

}  // namespace

void resize(const ResizeJob& job, const Queue& queue) {
  PictureRunner runner(queue);
  kernels::run_resize(runner, job);
}

void match_colours(const ColourJob& job, const Queue& queue) {
  PictureRunner runner(queue);
  kernels::match_colours(runner, job);
}

void normalise(const NormaliseJob& job, void* stream) {
  PictureRunner runner(stream);
  kernels::run_normalise(runner, job);
}

void colours(const ColoursJob& job, void* stream) {
  PictureRunner runner(stream);
  kernels::run_colours(runner, job);
}

void paste(const kernels::Paste& job, void* stream) {
  PictureRunner runner(stream);
  kernels::run_paste(runner, job);
}

void pad_edge(const kernels::PadEdge& job, void* stream) {
  PictureRunner runner(stream);
  kernels::run_pad_edge(runner, job);
}

void sample_posterior(const kernels::SamplePosterior& job, void* stream) {
  PictureRunner runner(stream);
  kernels::run_sample_posterior(runner, job);
}

}  // namespace hoirt::cuda

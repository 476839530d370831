// Pictures on a CUDA device: the plans of csrc/kernels, enqueued on a stream, with scratch memory in its order.
#include <memory>
#include <vector>

#include "csrc/cuda/launch.cuh"
#include "csrc/cuda/launchers.h"
#include "csrc/cuda/memory.h"
#include "csrc/kernels/picture_plan.h"

namespace hoirt::cuda {
namespace {

class Runner {
 public:
  static constexpr bool wide = true;
  explicit Runner(void* stream) : stream_(stream) {}
  void* scratch(std::size_t bytes) { return memory_.emplace_back(cuda::scratch(bytes, stream_)).get(); }
  void copy(void* to, const void* from, std::size_t bytes) {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_of(stream_)), "a copy failed");
  }
  template <typename Body>
  void launch(const Body& body, std::int64_t count) {
    cuda::launch(body, count, stream_, "a picture kernel could not be launched");
  }

 private:
  void* stream_;
  std::vector<std::shared_ptr<void>> memory_;
};

}  // namespace

void resize(const ResizeJob& job, void* stream) {
  Runner runner(stream);
  kernels::run_resize(runner, job);
}

void match_colours(const ColourJob& job, void* stream) {
  Runner runner(stream);
  kernels::match_colours(runner, job);
}

void normalise(const NormaliseJob& job, void* stream) {
  Runner runner(stream);
  kernels::run_normalise(runner, job);
}

void colours(const ColoursJob& job, void* stream) {
  Runner runner(stream);
  kernels::run_colours(runner, job);
}

void paste(const kernels::Paste& job, void* stream) {
  Runner runner(stream);
  kernels::run_paste(runner, job);
}

void pad_edge(const kernels::PadEdge& job, void* stream) {
  Runner runner(stream);
  kernels::run_pad_edge(runner, job);
}

void sample_posterior(const kernels::SamplePosterior& job, void* stream) {
  Runner runner(stream);
  kernels::run_sample_posterior(runner, job);
}

}  // namespace hoirt::cuda

// Pictures on the CPU: the plans of csrc/kernels, one functor after another on the calling thread.
#include <cstring>
#include <vector>

#include "csrc/cpu/launchers.h"
#include "csrc/kernels/picture_plan.h"

namespace hoirt::cpu {
namespace {

class Runner : public kernels::HostLaunches {
 public:
  static constexpr bool wide = false;  // the compiler makes vector code of whole loops
  void* scratch(std::size_t bytes) { return memory_.emplace_back(Shape{static_cast<std::int64_t>(bytes)}, DType::u8).raw(); }
  void copy(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }

 private:
  std::vector<Tensor> memory_;
};

}  // namespace

void resize(const ResizeJob& job) {
  Runner runner;
  kernels::run_resize(runner, job);
}

void match_colours(const ColourJob& job) {
  Runner runner;
  kernels::match_colours(runner, job);
}

void normalise(const NormaliseJob& job) {
  Runner runner;
  kernels::run_normalise(runner, job);
}

void colours(const ColoursJob& job) {
  Runner runner;
  kernels::run_colours(runner, job);
}

void pad_edge(const kernels::PadEdge& job) {
  Runner runner;
  kernels::run_pad_edge(runner, job);
}

void sample_posterior(const kernels::SamplePosterior& job) {
  Runner runner;
  kernels::run_sample_posterior(runner, job);
}

}  // namespace hoirt::cpu

// hoirt's launches, which do nothing; copies use the memory that they would write.
#include "csrc/cuda/launchers.h"
#include "tests/cpp/cuda/fake_runtime.h"

namespace hoirt::cuda {

int device_count() { return 2; }
void check_kernels() {}
void guided_step(const kernels::GuidedStep&, void*) {}
void select_row(const kernels::SelectRow&, void*) {}
void feed_step(const kernels::FeedStep&, void*) {}
void copy_items(const kernels::CopyItems& copy, void* stream) {
  test::runtime::enqueue(static_cast<cudaStream_t>(stream), [to = copy.to] { test::runtime::check_use(to, 1); });
}
void broadcast(const kernels::Broadcast&, void*) {}
void check_within(const float*, std::int64_t, float, float, std::int32_t*, std::int32_t, std::int32_t, void*) {}
void paste(const kernels::Paste&, void*) {}
void resize(const ResizeJob&, const Queue&) {}
void match_colours(const ColourJob&, const Queue&) {}
void normalise(const NormaliseJob&, void*) {}
void colours(const ColoursJob&, void*) {}
void pad_edge(const kernels::PadEdge&, void*) {}
void sample_posterior(const kernels::SamplePosterior&, void*) {}
void map(const MapJob&, const Queue&) {}
void draw(const DrawJob&, const Queue&) {}

}  // namespace hoirt::cuda

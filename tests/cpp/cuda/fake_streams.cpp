// Errors, streams, events, captures and graphs of the fake runtime.
#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "tests/cpp/cuda/fake_runtime.h"
#include "tests/cpp/cuda/fake_state.h"

namespace hoirt::test::runtime {
namespace {

thread_local cudaError_t last = cudaSuccess;
thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;

// The stream waits for an event of a capture, and becomes a part of that.
cudaError_t join(CUstream_st& stream, CUevent_st& event) {
  const std::shared_ptr<Capture>& capture = event.capture;
  if (capture->ended || (stream.capture && stream.capture != capture)) {
    capture->broken = true;
    if (stream.capture) stream.capture->broken = true;
    state().faults.emplace_back("a wait for an event of another capture");
    return give(cudaErrorStreamCaptureMerge);
  }
  if (!stream.capture) {
    stream.capture = capture;
    capture->streams.push_back(&stream);
  }
  if (event.stream != &stream) event.stream->joined = std::max(event.stream->joined, event.recorded);
  return cudaSuccess;
}

}  // namespace

// Never destroyed, as a driver is not: what a process still holds when it ends is given back to it.
State& state() {
  static State& all = *std::make_unique<State>().release();
  return all;
}

int& current_device() {
  thread_local int device = 0;
  return device;
}

cudaError_t give(cudaError_t error) {
  if (error != cudaSuccess) last = error;
  return error;
}
cudaError_t injected(const char* name) {
  const auto found = state().failures.find(name);
  if (found == state().failures.end() || --found->second.calls > 0) return cudaSuccess;
  const cudaError_t error = found->second.error;
  state().failures.erase(found);
  return give(error);
}

CUstream_st& stream_of(cudaStream_t stream) {
  const bool is_default = stream == nullptr || stream == cudaStreamLegacy;
  return is_default ? state().default_streams[current_device()] : *stream;
}

void enqueue(CUstream_st& stream, Work work) {
  if (!stream.capture) return stream.pending.push_back(std::move(work));
  stream.capture->work.push_back(std::move(work));
  ++stream.recorded;
}

void run(Lock& lock, CUstream_st& stream, const std::function<bool()>& enough) {
  while (!enough()) {
    if (stream.busy && stream.worker == std::this_thread::get_id()) return;
    if (stream.busy) {
      state().moved.wait(lock);
      continue;
    }
    if (stream.pending.empty()) return;
    Work work = std::move(stream.pending.front());
    stream.pending.pop_front();
    stream.busy = true;
    stream.worker = std::this_thread::get_id();
    lock.unlock();
    work();
    work = nullptr;  // and what it held
    lock.lock();
    stream.busy = false;
    state().moved.notify_all();
  }
}
void run_all(Lock& lock, CUstream_st& stream) {
  run(lock, stream, [&stream] { return stream.pending.empty() && !stream.busy; });
}

cudaError_t outside(Capture* capture, const std::string& what) {
  if (!capture) return cudaSuccess;
  capture->broken = true;
  state().faults.push_back(what + " in a capture");
  return give(cudaErrorStreamCaptureUnsupported);
}
cudaError_t outside(CUstream_st& stream, const std::string& what) { return outside(stream.capture.get(), what); }
cudaError_t outside_of_all(const std::string& what) {
  if (capture_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  for (const CUstream_st* stream : state().streams) {
    const bool forbids = stream->capture && stream->capture->mode == cudaStreamCaptureModeGlobal;
    if (forbids) return outside(stream->capture.get(), what);
  }
  return cudaSuccess;
}

std::vector<std::string> take_faults() {
  const Lock lock(state().mutex);
  return std::exchange(state().faults, {});
}
int waits() {
  const Lock lock(state().mutex);
  return state().waits;
}
int graph_size() {
  const Lock lock(state().mutex);
  return state().graph_size;
}
void fail(const std::string& name, int number, cudaError_t error) {
  const Lock lock(state().mutex);
  state().failures[name] = {number, error};
}
bool calm() {
  const Lock lock(state().mutex);
  const bool none = state().failures.empty();
  state().failures.clear();
  return none;
}
void enqueue(cudaStream_t stream, std::function<void()> work) {
  const Lock lock(state().mutex);
  enqueue(stream_of(stream), std::move(work));
}
cudaError_t launch(cudaStream_t stream, std::function<void()> kernel) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaLaunchKernelEx")) return error;
  enqueue(stream_of(stream), std::move(kernel));
  return cudaSuccess;
}
bool is_recording(cudaStream_t stream) {
  const Lock lock(state().mutex);
  return stream_of(stream).capture != nullptr;
}

}  // namespace hoirt::test::runtime

using namespace hoirt::test::runtime;

extern "C" {
cudaError_t cudaGetDevice(int* device) { return *device = current_device(), cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return current_device() = device, cudaSuccess; }
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  return std::swap(*mode, capture_mode), cudaSuccess;
}
cudaError_t cudaGetLastError() { return std::exchange(last, cudaSuccess); }
cudaError_t cudaDeviceGraphMemTrim(int) { return cudaSuccess; }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaStreamCreateWithFlags")) return error;
  state().streams.insert(*stream = new CUstream_st);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Lock lock(state().mutex);
  run_all(lock, *stream);
  if (const auto capture = stream->capture) {
    outside(*stream, "a stream was destroyed");
    std::erase(capture->streams, stream);
  }
  state().streams.erase(stream);
  return delete stream, cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaStreamSynchronize")) return error;
  CUstream_st& waited = stream_of(stream);
  if (const cudaError_t error = outside(waited, "a wait")) return error;
  ++state().waits;
  return run_all(lock, waited), cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = is_recording(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t to, cudaEvent_t event, unsigned) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaStreamWaitEvent")) return error;
  CUstream_st& stream = stream_of(to);
  if (event->capture) return join(stream, *event);
  if (stream.capture) {
    stream.capture->broken = true;
    return give(cudaErrorStreamCaptureIsolation);
  }
  enqueue(stream, [point = event->point, from = event->stream] {
    Lock waiting(state().mutex);
    if (!point->reached) run(waiting, *from, [&point] { return point->reached; });
  });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaEventCreateWithFlags")) return error;
  return *event = new CUevent_st, cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaEventRecord")) return error;
  event->stream = &stream_of(stream);
  event->capture = event->stream->capture;
  event->recorded = event->stream->recorded;
  event->asked = 0;
  event->point = std::make_shared<Point>();
  if (event->capture) return cudaSuccess;
  enqueue(*event->stream, [point = event->point] {
    const Lock writing(state().mutex);
    *point = {true, std::chrono::steady_clock::now()};
  });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  constexpr int patience = 50;  // whoever asks in a loop must not do so for ever
  Lock lock(state().mutex);
  if (const cudaError_t error = outside(event->capture.get(), "a question to an event")) return error;
  if (const cudaError_t error = outside_of_all("a question to an event")) return error;
  const std::shared_ptr<Point> point = event->point;
  if (!point->reached && ++event->asked > patience) run(lock, *event->stream, [&point] { return point->reached; });
  return point->reached ? cudaSuccess : give(cudaErrorNotReady);
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaEventSynchronize")) return error;
  if (const cudaError_t error = outside(event->capture.get(), "a wait for an event")) return error;
  const std::shared_ptr<Point> point = event->point;
  if (!point->reached) run(lock, *event->stream, [&point] { return point->reached; });
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaStreamBeginCapture")) return error;
  if (stream->capture) return give(cudaErrorIllegalState);
  stream->capture = std::make_shared<Capture>();
  stream->capture->mode = mode;
  stream->capture->streams = {stream};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const Lock lock(state().mutex);
  *graph = nullptr;
  const std::shared_ptr<Capture> capture = stream->capture;
  if (!capture || capture->streams.front() != stream) return give(cudaErrorStreamCaptureUnmatched);
  capture->ended = true;
  bool joined = true;
  for (CUstream_st* part : capture->streams) {
    joined = joined && (part == stream || part->joined == part->recorded);
    part->capture = nullptr;
    part->recorded = part->joined = 0;
  }
  if (const cudaError_t error = injected("cudaStreamEndCapture")) return error;
  if (capture->broken) return give(cudaErrorStreamCaptureInvalidated);
  if (!joined) return give(cudaErrorStreamCaptureUnjoined);
  *graph = new CUgraph_st{std::move(capture->work)};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaGraphInstantiate")) return error;
  state().graph_size = static_cast<int>(graph->work.size());
  return *made = new CUgraphExec_st{graph->work}, cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete graph, cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  const Lock lock(state().mutex);
  if (const cudaError_t error = injected("cudaGraphLaunch")) return error;
  for (const Work& work : graph->work) enqueue(stream_of(stream), work);
  return cudaSuccess;
}
}

// The CUDA device on a runtime without hardware: memory in the order of streams, captures, errors, the current device.
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "csrc/cuda/device.h"
#include "tests/cpp/check.h"
#include "tests/cpp/cuda/fake_runtime.h"

using namespace hoirt;
namespace runtime = hoirt::test::runtime;

extern "C" Device* hoirt_create_device(int index);

namespace {

// Device 1, while device 0 is current. Nothing may have gone wrong when it ends, and nothing may be left.
struct Rig {
  ~Rig() {
    run.reset();
    device->trim();
    device.reset();
    int current = -1;
    cudaGetDevice(&current);
    const std::vector<std::string> faults = runtime::take_faults();
    CHECK(faults.empty() && runtime::live_blocks() == 0 && current == 0);
    CHECK(cudaGetLastError() == cudaSuccess);
    for (const std::string& fault : faults) std::cerr << fault << "\n";
  }
  std::unique_ptr<Device> device{hoirt_create_device(1)};
  std::unique_ptr<Stream> run = device->make_stream();
  Stream& own = device->stream();
};

// Work that writes the tensor.
void write(Stream& stream, Tensor& tensor) {
  kernels::CopyItems copy;
  copy.to = static_cast<std::byte*>(tensor.raw());
  stream.copy_items(copy);
}

}  // namespace

TEST(memory_is_cleared_in_the_order_of_the_stream) {
  Rig rig;
  Tensor host({3}, DType::f32), memory = rig.own.allocate({3}, DType::f32);
  for (std::size_t i = 0; i < 3; ++i) host.data<float>()[i] = 7;
  rig.own.copy(host, memory);
  rig.own.clear(memory);
  rig.own.copy(memory, host);
  for (std::size_t i = 0; i < 3; ++i) CHECK(host.data<float>()[i] == 0);
  Tensor none = rig.own.allocate({0}, DType::f32);
  rig.own.clear(none);
}

TEST(memory_is_freed_behind_all_streams_that_may_use_it) {
  Rig rig;
  // Of a run, used by the device's own stream and by its own, and dropped at once.
  for (Stream* user : {rig.run.get(), &rig.own}) {
    Tensor memory = rig.run->allocate({100}, DType::u8);
    write(*user, memory);
    memory = Tensor();
    rig.device->trim();  // does the free and what it waits for, and nothing else
  }
  Tensor memory = rig.own.allocate({100}, DType::u8);
  cudaSetDevice(1);
  runtime::enqueue(nullptr, [address = memory.raw()] { runtime::check_use(address, 100); });  // the default stream
  cudaSetDevice(0);
  memory = Tensor();
  rig.device->trim();
  cudaSetDevice(1);
  cudaStreamSynchronize(nullptr);
  cudaSetDevice(0);
}

TEST(streams_are_used_again) {
  Rig rig;
  const void* first = rig.run->handle();
  std::unique_ptr<Stream> second = rig.device->make_stream();
  CHECK(second->handle() != first && second->handle() != rig.own.handle());
  Tensor memory = second->allocate({100}, DType::u8);  // outlives the run
  write(*second, memory);
  const void* handle = second->handle();
  second.reset();
  second = rig.device->make_stream();
  CHECK(second->handle() == handle);
  write(*second, memory);
  runtime::fail_next("cudaStreamCreateWithFlags", cudaErrorMemoryAllocation);
  CHECK_THROWS(OutOfMemory, "a stream could not be made", static_cast<void>(rig.device->make_stream()));
  CHECK(rig.device->make_stream()->handle() != handle);
}

TEST(idle_streams_are_given_to_nobody_meanwhile) {
  Rig rig;
  const auto idle_streams = [&] {
    std::vector<void*> seen;
    rig.device->with_idle_streams([&](const std::vector<void*>& idle) { seen = idle; });
    return seen;
  };
  CHECK(idle_streams().empty());
  void* handle = rig.run->handle();
  rig.run.reset();
  CHECK(idle_streams() == std::vector{handle});
  rig.device->with_idle_streams([&](const std::vector<void*>&) { CHECK(rig.device->make_stream()->handle() != handle); });
  CHECK(idle_streams().size() == 2);
  CHECK_THROWS(InputError, "no", rig.device->with_idle_streams([](const std::vector<void*>&) { throw InputError("no"); }));
  CHECK(idle_streams().size() == 2);
}

TEST(memory_that_is_dropped_during_a_capture_is_no_part_of_it) {
  Rig rig;
  Tensor before = rig.run->allocate({100}, DType::u8), used = rig.run->allocate({100}, DType::u8);
  write(*rig.run, before);
  const auto graph = rig.run->capture([&] {
    write(*rig.run, used);
    before = Tensor();
    CHECK(runtime::live_blocks() == 2);
  });
  CHECK(graph && runtime::graph_size() == 1);
  rig.device->trim();
  CHECK(runtime::live_blocks() == 1);
  graph->launch();
  graph->launch();
}

TEST(what_no_replay_can_do_is_refused_in_a_capture) {
  Rig rig;
  Tensor there = rig.run->allocate({4}, DType::f32), here({4}, DType::f32);
  const std::vector<std::pair<std::string, std::function<void()>>> refused{
      {"an allocation", [&] { static_cast<void>(rig.run->allocate({1}, DType::u8)); }},
      {"an upload", [&] { rig.run->copy(here, there); }},
      {"a download", [&] { rig.run->copy(there, here); }},
      {"an event", [&] { static_cast<void>(rig.run->record()); }},
      {"a check", [&] { static_cast<void>(rig.run->all_within(there, 0, 1)); }},
      {"a wait", [&] { rig.run->synchronize(); }},
  };
  for (const auto& [what, call] : refused) {
    const std::string message = what + " cannot be recorded";
    CHECK_THROWS(BackendError, message, rig.run->capture([&, &call = call] {
      write(*rig.run, there);
      call();
    }));
    call();  // the stream is as before
  }
  CHECK(rig.run->capture([&] { write(*rig.run, there); }) && runtime::graph_size() == 1);
  // The device's own stream records nothing meanwhile.
  CHECK(rig.run->capture([&] { rig.own.copy(here, there); }) && runtime::graph_size() == 0);
}

TEST(a_stream_that_records_leaves_it_to_the_host_to_wait) {
  Rig rig;
  Tensor there = rig.own.allocate({4}, DType::f32);
  const auto event = rig.own.record();
  rig.own.synchronize();
  CHECK(rig.run->capture([&] {
    event->make_wait(rig.run->handle());
    write(*rig.run, there);
  }));
  rig.own.clear(there);
  const auto open = rig.own.record();
  CHECK(rig.run->capture([&] {
    open->make_wait(rig.run->handle());
    write(*rig.run, there);
  }));
  CHECK(runtime::graph_size() == 1);
  open->make_wait(rig.run->handle());  // it is past
  CHECK(rig.run->capture([] {}) && runtime::graph_size() == 0);
}

TEST(pinned_memory_is_used_again_when_its_copies_are_done) {
  Rig rig;
  constexpr std::int64_t size = 3 << 20;  // two of them need more than there is at first
  std::vector<Tensor> there;
  for (std::uint8_t i = 1; i <= 4; ++i) {
    Tensor here({size}, DType::u8);
    std::memset(here.raw(), i, size);
    there.push_back(rig.run->allocate({size}, DType::u8));
    rig.run->copy(here, there.back());
    std::memset(here.raw(), 99, size);
  }
  for (std::uint8_t i = 1; i <= 4; ++i) {
    Tensor here({size}, DType::u8);
    rig.run->copy(there[i - 1u], here);
    CHECK(here.data<std::uint8_t>()[0] == i && here.data<std::uint8_t>()[size - 1] == i);
  }
}

TEST(what_others_lent_is_kept_until_it_is_used) {
  Rig rig;
  Tensor there = rig.own.allocate({4}, DType::f32);
  bool gone = false;
  write(rig.own, there);
  rig.own.keep(std::shared_ptr<const void>(&gone, [](const void* flag) { *static_cast<bool*>(const_cast<void*>(flag)) = true; }));
  CHECK(!gone);
  rig.own.synchronize();
  CHECK(gone);
}

TEST(errors_are_reported_once) {
  Rig rig;
  Tensor here({4}, DType::f32), there = rig.run->allocate({4}, DType::f32);
  runtime::fail_next("cudaMallocHost", cudaErrorMemoryAllocation);
  CHECK_THROWS(OutOfMemory, "pinned", rig.run->copy(here, there));
  CHECK(cudaGetLastError() == cudaSuccess);
  rig.run->copy(here, there);
  runtime::fail_next("cudaMallocFromPoolAsync", cudaErrorMemoryAllocation);
  CHECK_THROWS(OutOfMemory, "cuda:1 cannot give 7 bytes", rig.run->allocate({7}, DType::u8));
  runtime::fail_next("cudaMemcpyAsync", cudaErrorInvalidValue);
  CHECK_THROWS(BackendError, "an upload failed", rig.run->copy(here, there));
  CHECK(cudaGetLastError() == cudaSuccess);
  runtime::fail_next("cudaGraphInstantiate", cudaErrorNotSupported);
  CHECK_THROWS(BackendError, "made ready", rig.run->capture([] {}));
  // Without an event the free waits on the host instead.
  write(*rig.run, there);
  runtime::fail_next("cudaEventRecord", cudaErrorUnknown);
  const int waits = runtime::waits();
  there = Tensor();
  CHECK(runtime::waits() == waits + 1);
}

TEST(at_most_two_steps_are_under_way) {
  Rig rig;
  Tensor there = rig.run->allocate({4}, DType::f32);
  for (std::size_t step = 0; step < 5; ++step) {
    write(*rig.run, there);
    rig.run->end_step(step);
  }
  CHECK_THROWS(BackendError, "there is no cuda:2", hoirt_create_device(2));
}

TEST(many_threads_use_a_device) {
  Rig rig;
  std::atomic<int> wrong = 0;
  Tensor shared = rig.own.allocate({1000}, DType::u8);
  const auto ready = rig.own.record();
  const auto work = [&](std::uint8_t value) {
    const std::unique_ptr<Stream> run = rig.device->make_stream();
    ready->make_wait(run->handle());
    Tensor here({1000}, DType::u8), back({1000}, DType::u8);
    std::memset(here.raw(), value, 1000);
    for (int round = 0; round < 30; ++round) {
      Tensor there = round % 2 ? run->allocate({1000}, DType::u8) : rig.own.allocate({1000}, DType::u8);
      rig.own.record()->make_wait(run->handle());
      run->copy(here, there);
      const auto graph = run->capture([&] { write(*run, there); });
      graph->launch();
      run->end_step(static_cast<std::size_t>(round));
      rig.own.keep(std::make_shared<Tensor>(rig.own.allocate({10}, DType::u8)));
      run->copy(there, back);
      wrong += back.data<std::uint8_t>()[999] != value;
      if (round % 10 == 9) rig.device->trim();
    }
    run->synchronize();
  };
  std::vector<std::thread> threads;
  for (std::uint8_t i = 1; i <= 4; ++i) threads.emplace_back(work, i);
  for (std::thread& thread : threads) thread.join();
  rig.own.synchronize();
  CHECK(wrong == 0);
}

TEST(no_step_is_recorded_while_others_call_a_network) {
  Rig rig;
  std::promise<void> called, done;
  std::thread other([&] {
    rig.own.call([&] {
      called.set_value();
      done.get_future().wait();
    });
  });
  called.get_future().wait();
  CHECK_THROWS(DeviceBusy, "other threads", rig.run->capture([] {}));
  rig.run->call([] {});  // that many may
  done.set_value();
  other.join();
  CHECK(rig.run->capture([] {}));
  // The other way round they wait.
  std::atomic<bool> recorded = false, late = false;
  const auto graph = rig.run->capture([&] {
    other = std::thread([&] { rig.own.call([&] { late = recorded.load(); }); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    rig.run->call([&] { recorded = true; });  // the network's own part in it
  });
  other.join();
  CHECK(late);
}

TEST(networks_may_call_networks_but_record_nothing) {
  Rig rig;
  const std::unique_ptr<Device> another(hoirt_create_device(0));
  bool done = false;
  rig.run->call([&] {
    CHECK_THROWS(DeviceBusy, "inside of a network", rig.own.capture([] {}));
    another->stream().call([&] { rig.own.call([&] { done = true; }); });
    CHECK(another->make_stream()->capture([] {}));
  });
  CHECK(done && rig.own.capture([] {}));
  CHECK_THROWS(BackendError, "no", rig.run->call([] { throw BackendError("no"); }));
  CHECK(rig.run->capture([] {}));
}

TEST(captures_of_the_stand_in_fork_and_join) {
  cudaStream_t main = nullptr, side = nullptr, third = nullptr;
  cudaEvent_t forked = nullptr, done = nullptr;
  for (cudaStream_t* stream : {&main, &side, &third}) cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
  for (cudaEvent_t* event : {&forked, &done}) cudaEventCreateWithFlags(event, cudaEventDisableTiming);
  std::string order;
  const auto add = [&](cudaStream_t stream, char name) {
    runtime::enqueue(stream, [&order, name] { order += name; });
  };
  const auto record = [&](bool joins) {
    cudaStreamBeginCapture(main, cudaStreamCaptureModeRelaxed);
    add(main, 'a');
    cudaEventRecord(forked, main);
    CHECK(cudaStreamWaitEvent(side, forked, 0) == cudaSuccess && runtime::is_recording(side));
    add(side, 'b');
    cudaEventRecord(done, side);
    if (joins) CHECK(cudaStreamWaitEvent(main, done, 0) == cudaSuccess);
    add(main, 'c');
  };
  cudaGraph_t graph = nullptr;
  record(true);
  CHECK(runtime::is_recording(side) && cudaStreamEndCapture(side, &graph) == cudaErrorStreamCaptureUnmatched);
  CHECK(cudaStreamEndCapture(main, &graph) == cudaSuccess && !runtime::is_recording(side));
  cudaGraphExec_t made = nullptr;
  cudaGraphInstantiate(&made, graph, 0);
  for (int again = 0; again < 2; ++again) cudaGraphLaunch(made, third);
  cudaStreamSynchronize(third);
  CHECK(order == "abcabc" && runtime::take_faults().empty());
  cudaGraphExecDestroy(made);
  cudaGraphDestroy(graph);
  record(false);
  CHECK(cudaStreamEndCapture(main, &graph) == cudaErrorStreamCaptureUnjoined && !graph);
  // A stream cannot be part of two, nor may one wait for what belongs to a graph.
  record(true);
  cudaStreamBeginCapture(third, cudaStreamCaptureModeRelaxed);
  CHECK(cudaStreamWaitEvent(third, done, 0) == cudaErrorStreamCaptureMerge && runtime::take_faults().size() == 1);
  CHECK(cudaEventSynchronize(done) != cudaSuccess && cudaEventQuery(done) != cudaSuccess);
  CHECK(runtime::take_faults().size() == 2);
  for (cudaStream_t stream : {main, third}) {
    CHECK(cudaStreamEndCapture(stream, &graph) == cudaErrorStreamCaptureInvalidated);
  }
  for (cudaEvent_t event : {forked, done}) cudaEventDestroy(event);
  for (cudaStream_t stream : {main, side, third}) cudaStreamDestroy(stream);
  cudaGetLastError();
}

TEST(what_breaks_the_rules_is_counted) {
  const std::unique_ptr<Device> device(hoirt_create_device(0));
  const std::unique_ptr<Stream> run = device->make_stream();
  Stream& own = device->stream();
  const auto count = [&](const std::string& words) {
    own.synchronize(), run->synchronize();
    int found = 0;
    for (const std::string& fault : runtime::take_faults()) found += fault.find(words) != std::string::npos;
    return found;
  };
  {
    Tensor memory = own.allocate({100}, DType::u8);
    write(*run, memory);  // without waiting for the allocation
    run->synchronize();
    CHECK(count("before its allocation") == 1);
    runtime::enqueue(nullptr, [end = memory.data<std::uint8_t>() + 99] { runtime::check_use(end, 2); });
    cudaStreamSynchronize(nullptr);
    CHECK(count("beyond its end") == 1);
    void* address = memory.raw();
    memory = Tensor();
    device->trim();
    runtime::enqueue(nullptr, [=] { runtime::check_use(address, 1); });
    cudaStreamSynchronize(nullptr);
    CHECK(count("after it was freed") == 1);
  }
  Tensor here({4}, DType::f32), there = own.allocate({4}, DType::f32);
  own.synchronize();
  cudaMemcpyAsync(there.raw(), here.raw(), 16, cudaMemcpyDeviceToDevice, nullptr);
  cudaStreamSynchronize(nullptr);
  CHECK(count("not of the kind") == 1);
  CHECK(count("") == 0);
}

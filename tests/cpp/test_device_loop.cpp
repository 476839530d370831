// The denoise loop on a device that is none: the CPU's bits, graphs from the second step on, run-ahead, failures, memory.
#include <cmath>
#include <memory>
#include <thread>
#include <utility>

#include "engine/denoise_loop.h"
#include "engine/graphs.h"
#include "tests/cpp/check.h"
#include "tests/cpp/fake_device.h"

using namespace hoirt;
using test::FakeDevice;
using test::FakeStream;
using test::real;

namespace {

// prediction = sample / 2 + offset + style + timestep / 100 + control; feature = 2 sample, on the host or the fake
// device. The shallow network gives prediction = feature / 4 + sample / 8.
class Net final : public Network {
 public:
  explicit Net(Place place, bool shallow = false, bool features = false) : place_(place), shallow_(shallow) {
    if (shallow) inputs_ = {{"sample", {-1, 2, -1}}, {"feature", {-1, 2, -1}}};
    if (features) outputs_.push_back({"feature", {-1, 2, -1}});
  }
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  Place place() const override { return place_; }
  bool capturable() const override { return capturable_; }

  void run(const TensorMap& inputs, TensorMap& outputs, void* stream) override {
    check_inputs(inputs_, inputs);
    ++calls;
    if (place_.host()) return compute(inputs, outputs, [](auto* p) { return p; });
    auto& fake = *static_cast<FakeStream*>(stream);
    if (fake.recording() && interrupt) throw Stop();
    if (fake.recording() && refuse) throw std::runtime_error("not while recording");
    if (fake.recording() && hoards) static_cast<void>(fake.allocate({1}, DType::f32));
    if (const auto kept = outputs.find("feature"); kept != outputs.end() && !kept->second.raw()) {
      kept->second = fake.allocate(inputs.at("sample").shape(), DType::f32);
      ++allocated;
    }
    fake.enqueue([this, inputs, outputs]() mutable { compute(inputs, outputs, [](auto* p) { return real(p); }); });
  }

  struct Stop : std::runtime_error, Interruption {
    Stop() : std::runtime_error("stop") {}
  };

  std::atomic<int> calls = 0, allocated = 0;
  bool interrupt = false, refuse = false, hoards = false, capturable_ = true;
  float poison_at = -1;  // gives NaN at this timestep

 private:
  template <typename Reach>
  void compute(const TensorMap& inputs, TensorMap& outputs, const Reach& reach) const {
    const Tensor& x = inputs.at("sample");
    const auto items = static_cast<std::size_t>(x.dim(0));
    const auto in = [&](const char* name) { return reach(inputs.at(name).data<float>()); };
    if (outputs.contains("feature") && !outputs.at("feature").raw()) outputs.at("feature") = Tensor(x.shape(), DType::f32);
    float* y = reach(outputs.at("prediction").data<float>());
    float* feature = outputs.contains("feature") ? reach(outputs.at("feature").data<float>()) : nullptr;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t item = i / (x.size() / items);
      if (shallow_) {
        y[i] = in("feature")[i] / 4 + in("sample")[i] / 8;
        continue;
      }
      if (feature) feature[i] = 2 * in("sample")[i];
      const float time = in("timestep")[item];
      y[i] = 0.5f * in("sample")[i] + in("offset")[item] + in("style")[item] + time / 100 + in("control_scale")[item];
      if (time == poison_at) y[i] = NAN;
    }
  }

  Place place_;
  bool shallow_;
  std::vector<Port> inputs_{
      {"sample", {-1, 2, -1}}, {"timestep", {-1}}, {"control_scale", {-1}}, {"offset", {-1}}, {"style", {-1}}};
  std::vector<Port> outputs_{{"prediction", {-1, 2, -1}}};
};

Tensor filled(const Shape& shape, float start, float step = 0) {
  Tensor tensor(shape, DType::f32);
  for (std::size_t i = 0; i < tensor.size(); ++i) tensor.data<float>()[i] = start + step * static_cast<float>(i);
  return tensor;
}

// Every column changes from row to row, with guided rows in between.
StepTable every_column(std::size_t steps, bool reuse = false) {
  StepTable table;
  table.rows.resize(steps);
  for (std::size_t i = 0; i < steps; ++i) {
    Row& row = table.rows[i];
    const auto t = static_cast<double>(i);
    row.timestep = static_cast<double>(steps - i) * 10;
    row.guidance = i % 3 == 1 ? 1 : 2 + t / 10;
    row.control = 1 - t / 20;
    row.A = 1 + t / 50, row.B = -0.3, row.C = 0.4, row.D = 0.5 + t / 100, row.E = i % 2 ? 0.1 : 0, row.F = i % 4 ? 0.2 : 0;
    row.clip = i % 5 == 4 ? 0.7 : 0;
    row.known = i + 1 < steps && i % 2 == 0, row.G = 0.9, row.H = 0.1 + t / 100;
    row.reuse = reuse && i % 4 >= 2 && row.guidance == 1;
  }
  table.init_known = KnownLevel{0.8, 0.3};
  table.init_signal = 0.5;
  return table;
}

LoopRequest make_request(const StepTable& table, std::int64_t items, bool own_noise = false) {
  LoopRequest request;
  request.shape = {items, 2, 5};
  for (std::int64_t i = 0; i < items; ++i) request.seeds.push_back(static_cast<std::uint64_t>(100 + i));
  const auto steps = static_cast<std::int64_t>(table.rows.size());
  request.condition.emplace("offset", filled({1}, 0.1f));
  request.uncondition.emplace("offset", filled({items}, -0.1f, 0.05f));
  request.per_step.emplace("style", filled({steps, items}, 0.0f, 0.01f));
  request.per_step_uncondition.emplace("style", filled({steps}, 0.2f, -0.01f));
  request.control = {0.5f};
  request.initial = filled(request.shape, 0.3f, 0.01f);
  request.known = filled(request.shape, -0.2f, 0.02f);
  request.mask = filled({items, 1, 5}, 0.0f, 0.9f / static_cast<float>(5 * items));
  if (own_noise) {
    Shape shape = request.shape;
    shape.insert(shape.begin(), static_cast<std::int64_t>(table.noise_streams()));
    request.noise = filled(shape, -1.0f, 0.001f);
  }
  return request;
}

std::vector<float> values(const Tensor& tensor) {
  const float* begin = real(tensor.data<float>());
  return {begin, begin + tensor.size()};
}

std::vector<float> on_host(const StepTable& table, const LoopRequest& request, bool features = false) {
  DenoiseLoop loop(std::make_shared<Net>(Place{}, false, features), {},
                   features ? std::make_shared<Net>(Place{}, true) : nullptr);
  return values(loop.run(table, request).latents);
}

// A loop on a fake device.
struct Rig {
  explicit Rig(bool features = false)
      : network(std::make_shared<Net>(test::fake_place, false, features)),
        shallow(features ? std::make_shared<Net>(test::fake_place, true) : nullptr),
        loop(network, {}, shallow, device) {}

  std::shared_ptr<FakeDevice> device = std::make_shared<FakeDevice>();
  std::shared_ptr<Net> network, shallow;
  DenoiseLoop loop;
};

}  // namespace

TEST(device_loop_gives_the_bits_of_the_cpu) {
  for (const bool own_noise : {false, true}) {
    for (const std::size_t steps : {1u, 2u, 9u, 40u}) {
      const StepTable table = every_column(steps);
      Rig rig;
      for (const std::int64_t items : {1, 3}) {
        const LoopRequest request = make_request(table, items, own_noise);
        const auto wanted = on_host(table, request);
        for (int again = 0; again < 3; ++again) {
          const LoopResult result = rig.loop.run(table, request);
          CHECK(result.latents.place() == test::fake_place);
          CHECK(values(result.latents) == wanted);
          CHECK(result.graph_reason.empty() || result.graphs == 0);
        }
      }
    }
  }
}

TEST(device_loop_records_each_kind_of_step_once) {
  Rig rig;
  const StepTable table = every_column(9);  // 6 guided rows, 3 others
  const LoopResult first = rig.loop.run(table, make_request(table, 2));
  CHECK(first.graphs == 7 && first.graph_reason.empty());
  CHECK(rig.device->counts->captures == 2 && rig.device->counts->launches == 7);
  CHECK(rig.network->calls == 4);  // directly and while recording, guided and not
  const LoopResult second = rig.loop.run(table, make_request(table, 2));
  CHECK(second.graphs == 9 && rig.device->counts->captures == 2 && rig.network->calls == 4);
  // Another number of steps, other numbers in them, other seeds, the caller's noise: the same graphs, but for the noise.
  const StepTable longer = every_column(12);
  LoopRequest request = make_request(longer, 2);
  request.seeds = {5, 6};
  const LoopResult third = rig.loop.run(longer, request);
  CHECK(third.graphs == 12 && rig.device->counts->captures == 2);
  CHECK(values(third.latents) == on_host(longer, request));
  CHECK(first.step_seconds.size() == 9 && first.step_seconds[4] >= first.network_seconds[4]);
}

TEST(device_loop_makes_new_graphs_for_new_shapes) {
  Rig rig;
  const StepTable table = every_column(6);
  for (int again = 0; again < 2; ++again) {
    for (const std::int64_t items : {1, 2, 3}) {
      const LoopRequest request = make_request(table, items);
      CHECK(values(rig.loop.run(table, request).latents) == on_host(table, request));
    }
  }
  CHECK(rig.device->counts->captures == 6);
}

TEST(device_loop_shares_features) {
  StepTable table = every_column(16, true);
  for (std::size_t i = 0; i < 16; ++i) table.rows[i].reuse = i % 4 >= 1 && (i / 4 != 1 || table.rows[i].guidance == 1);
  table.rows[3].guidance = 1;
  table.rows[4].guidance = 1;
  table.rows[5].guidance = table.rows[6].guidance = table.rows[7].guidance = 1;
  for (std::size_t i = 5; i < 8; ++i) table.rows[i].reuse = true;
  table.check();
  Rig rig(true);
  const LoopRequest request = make_request(table, 2);
  const auto wanted = on_host(table, request, true);
  for (int again = 0; again < 4; ++again) CHECK(values(rig.loop.run(table, request).latents) == wanted);
  const LoopResult result = rig.loop.run(table, request);
  CHECK(result.graphs == 16 && values(result.latents) == wanted);
  CHECK(rig.network->allocated <= 2);  // kept between runs
}

TEST(device_loop_goes_on_without_graphs) {
  const StepTable table = every_column(8);
  const LoopRequest request = make_request(table, 2);
  const auto wanted = on_host(table, request);
  const auto check = [&](Rig& rig, const std::string& reason, int most_calls) {
    for (int again = 0; again < 2; ++again) {
      const LoopResult result = rig.loop.run(table, request);
      CHECK(values(result.latents) == wanted);
      CHECK(result.graphs == 0 && result.graph_reason == reason);
    }
    CHECK(rig.network->calls == most_calls);
  };
  constexpr int tried = 16 + 2 * GraphCache::most_failures;  // two kinds of steps
  Rig failing;
  failing.device->counts->fail_captures = true;
  check(failing, "fake: no capture today", tried);
  Rig refusing;
  refusing.network->refuse = true;
  check(refusing, "not while recording", tried);
  Rig hoarding;
  hoarding.network->hoards = true;
  check(hoarding, "fake: an allocation while recording", tried);
  Rig plain;
  plain.network->capturable_ = false;
  check(plain, "the network says that its work must not be recorded", 16);
}

TEST(device_loop_does_not_swallow_interruptions) {
  Rig rig;
  rig.network->interrupt = true;
  const StepTable table = every_column(8);
  CHECK_THROWS(Net::Stop, "stop", rig.loop.run(table, make_request(table, 1)));
  rig.network->interrupt = false;
  const LoopRequest request = make_request(table, 1);
  CHECK(values(rig.loop.run(table, request).latents) == on_host(table, request));
}

TEST(device_loop_runs_at_most_two_steps_ahead) {
  Rig rig;
  const StepTable table = every_column(20);
  LoopRequest request = make_request(table, 1);
  static_cast<void>(rig.loop.run(table, request));
  CHECK(rig.device->counts->most_ahead == 2);
  const int before = rig.device->counts->launches;
  const auto token = std::make_shared<CancelToken>();
  request.cancel = token;
  request.on_step = [&](const StepInfo& info) {
    if (info.step == 4) token->cancel();
    return true;
  };
  CHECK_THROWS(Cancelled, "token", rig.loop.run(table, request));
  CHECK(rig.device->counts->launches - before <= 5);
  request.on_step = [](const StepInfo& info) { return info.step < 2; };
  request.cancel = nullptr;
  CHECK_THROWS(Cancelled, "after step 2 of 20", rig.loop.run(table, request));
  request.on_step = nullptr;
  CHECK(values(rig.loop.run(table, request).latents) == on_host(table, request));
}

TEST(device_loop_downloads_x0_only_when_asked) {
  Rig rig;
  const StepTable table = every_column(6);
  LoopRequest request = make_request(table, 2);
  std::vector<std::vector<float>> wanted, got;
  request.on_step = [&](const StepInfo& info) { return wanted.push_back(values(info.copy_clean())), true; };
  static_cast<void>(on_host(table, request));
  const int without = [&] {
    request.on_step = [](const StepInfo&) { return true; };
    static_cast<void>(rig.loop.run(table, request));
    return rig.device->counts->downloads.load();
  }();
  CHECK(without == 1);  // the times
  for (int again = 0; again < 2; ++again) {
    got.clear();
    request.on_step = [&](const StepInfo& info) { return got.push_back(values(info.copy_clean())), true; };
    static_cast<void>(rig.loop.run(table, request));
    CHECK(got == wanted);
  }
}

TEST(device_loop_names_the_step_that_is_not_finite) {
  const StepTable table = every_column(9);
  for (const float bad : {90.0f, 50.0f, 10.0f}) {
    Rig rig;
    rig.network->poison_at = bad;
    const auto step = std::to_string(9 - static_cast<int>(bad) / 10);
    for (int again = 0; again < 2; ++again) {
      CHECK_THROWS(BackendError, "step " + step + " of 9", rig.loop.run(table, make_request(table, 2)));
    }
  }
}

TEST(device_loop_takes_arguments_that_are_there) {
  Rig rig;
  const StepTable table = every_column(5);
  LoopRequest request = make_request(table, 2, true);
  const auto wanted = on_host(table, request);
  const auto there = [&](Tensor& tensor) { tensor = resident(tensor, rig.device->stream()); };
  for (TensorMap* map : {&request.condition, &request.uncondition, &request.per_step, &request.per_step_uncondition}) {
    for (auto& [name, tensor] : *map) there(tensor);
  }
  for (auto* tensor : {&request.initial, &request.known, &request.mask, &request.noise}) there(**tensor);
  CHECK(values(rig.loop.run(table, request).latents) == wanted);
  const int before = rig.device->counts->waits;
  static_cast<void>(rig.loop.run(table, request));
  CHECK(rig.device->counts->waits - before == 4);  // an event of the arguments; the times, the result, the end of the run
  LoopRequest bad = request;
  bad.known = resident(filled(request.shape, NAN), rig.device->stream());
  CHECK_THROWS(InputError, "known holds NaN", rig.loop.run(table, bad));
  bad = request;
  bad.mask = resident(filled({2, 1, 5}, 1.5f), rig.device->stream());
  CHECK_THROWS(InputError, "mask must lie in 0..1", rig.loop.run(table, bad));
  bad = request;
  bad.initial = Tensor::borrow(nullptr, request.shape, DType::f32, nullptr, Place{Place::Kind::cuda, 3});
  CHECK_THROWS(InputError, "initial must be on the CPU or on cuda:7, not on cuda:3", rig.loop.run(table, bad));
  CHECK_THROWS(InputError, "the network runs on cuda:7, but the loop on cpu", DenoiseLoop(rig.network, {}));
}

TEST(device_loop_unloads) {
  Rig rig;
  const StepTable table = every_column(5);
  LoopRequest request = make_request(table, 2);
  for (int again = 0; again < 2; ++again) {
    static_cast<void>(rig.loop.run(table, request));
    CHECK(rig.device->counts->live_bytes > 0 && rig.device->counts->streams == 2);
    rig.loop.unload();
    CHECK(rig.device->counts->live_bytes == 0 && rig.device->counts->streams == 1);
  }
  CHECK(rig.device->trims == 2);
  request.on_step = [&](const StepInfo& info) {
    if (info.step == 1) rig.loop.unload();
    return true;
  };
  CHECK(values(rig.loop.run(table, request).latents) == on_host(table, make_request(table, 2)));
  CHECK(rig.device->counts->live_bytes == 0 && rig.device->trims == 4);  // freed when the run ended, too
}

TEST(device_loop_frees_what_is_idle) {
  Rig rig;
  const StepTable table = every_column(5);
  LoopRequest request = make_request(table, 2);
  static_cast<void>(rig.loop.run(table, make_request(table, 1)));
  request.on_step = [&](const StepInfo& info) {
    if (info.step == 1) rig.loop.free_idle();
    return true;
  };
  CHECK(values(rig.loop.run(table, request).latents) == on_host(table, make_request(table, 2)));
  CHECK(rig.device->counts->live_bytes > 0 && rig.device->counts->streams == 2);  // the run's are kept for the next one
  rig.loop.free_idle();
  CHECK(rig.device->counts->live_bytes == 0 && rig.device->counts->streams == 1 && rig.device->trims == 0);
}

TEST(device_loop_serves_many_threads) {
  Rig rig;
  const StepTable table = every_column(7);
  const LoopRequest request = make_request(table, 2);
  const auto wanted = on_host(table, request);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) wrong += values(rig.loop.run(table, request).latents) != wanted;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST(steps_are_recorded_once_others_are_done) {
  const StepTable table = every_column(16);
  const LoopRequest request = make_request(table, 2);
  Rig rig;
  rig.device->counts->busy_captures = GraphCache::most_failures + 1;
  const LoopResult result = rig.loop.run(table, request);
  CHECK(values(result.latents) == on_host(table, request));
  CHECK(result.graphs > 0 && rig.device->counts->busy_captures == 0);
  CHECK(result.graph_reason == "fake: others are at work");
}

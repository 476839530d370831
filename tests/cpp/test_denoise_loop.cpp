// The denoise loop with networks written here: batching, reuse of memory, threads, cancelling, refusals.
#include "engine/denoise_loop.h"

#include <atomic>
#include <cmath>
#include <memory>
#include <set>
#include <thread>

#include "tests/cpp/check.h"

using namespace hoirt;

namespace {

// prediction = gain * sample + offset (per item) + timestep / 100 + control; remembers what it saw.
class Affine final : public Network {
 public:
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  void run(const TensorMap& inputs, TensorMap& outputs, void*) override {
    check_inputs(inputs_, inputs);
    const Tensor& x = inputs.at("sample");
    Tensor& y = outputs.at("prediction");
    const auto items = static_cast<std::size_t>(x.dim(0));
    const std::size_t size = x.size() / items;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::size_t item = i / size;
      y.data<float>()[i] = 0.5f * x.data<float>()[i] + inputs.at("offset").data<float>()[item] +
                           inputs.at("timestep").data<float>()[item] / 100 +
                           inputs.at("control_scale").data<float>()[item];
    }
    ++calls;
    if (!watch) return;
    batches.push_back(x.dim(0));
    memory.insert(x.raw());
  }

  std::atomic<int> calls = 0;
  bool watch = true;
  std::vector<std::int64_t> batches;
  std::set<const void*> memory;

 private:
  std::vector<Port> inputs_{{"sample", {-1, 2, -1}}, {"timestep", {-1}}, {"control_scale", {-1}}, {"offset", {-1}}};
  std::vector<Port> outputs_{{"prediction", {-1, 2, -1}}};
};

StepTable make_table(std::size_t steps) {
  StepTable table;
  table.rows.resize(steps);
  for (std::size_t i = 0; i < steps; ++i) {
    Row& row = table.rows[i];
    row.timestep = static_cast<double>(steps - i);
    row.guidance = i % 2 ? 1 : 3;
    row.A = 1, row.B = -0.3, row.C = 0.4, row.D = 0.5, row.E = i ? 0.1 : 0, row.F = 0.2;
  }
  return table;
}

Tensor filled(const Shape& shape, float value) {
  Tensor tensor(shape, DType::f32);
  for (std::size_t i = 0; i < tensor.size(); ++i) tensor.data<float>()[i] = value;
  return tensor;
}

LoopRequest make_request(std::int64_t items) {
  LoopRequest request;
  request.shape = {items, 2, 5};
  for (std::int64_t i = 0; i < items; ++i) request.seeds.push_back(static_cast<std::uint64_t>(100 + i));
  request.condition.emplace("offset", filled({1}, 0.1f));
  request.uncondition.emplace("offset", filled({items}, -0.1f));
  request.control = {0.5f};
  return request;
}

std::vector<float> values(const Tensor& tensor) {
  return {tensor.data<float>(), tensor.data<float>() + tensor.size()};
}

}  // namespace

TEST(loop_runs_only_the_conditional_half_at_guidance_one) {
  const auto network = std::make_shared<Affine>();
  DenoiseLoop loop(network, {});
  const LoopResult result = loop.run(make_table(4), make_request(3));
  CHECK((network->batches == std::vector<std::int64_t>{6, 3, 6, 3}));
  CHECK(network->memory.size() == 2);  // one buffer: its start and its conditional half
  CHECK(result.step_seconds.size() == 4 && result.network_seconds.size() == 4);
}

TEST(loop_reuses_its_buffers) {
  const auto network = std::make_shared<Affine>();
  DenoiseLoop loop(network, {});
  const auto first = values(loop.run(make_table(4), make_request(2)).latents);
  for (int i = 0; i < 5; ++i) CHECK(values(loop.run(make_table(4), make_request(2)).latents) == first);
  CHECK(network->memory.size() == 2);
}

TEST(loop_items_do_not_depend_on_their_neighbours) {
  DenoiseLoop loop(std::make_shared<Affine>(), {});
  const auto three = values(loop.run(make_table(5), make_request(3)).latents);
  for (std::size_t item = 0; item < 3; ++item) {
    LoopRequest alone = make_request(1);
    alone.seeds = {100 + item};
    const auto one = values(loop.run(make_table(5), alone).latents);
    CHECK(std::equal(one.begin(), one.end(), three.begin() + static_cast<std::ptrdiff_t>(10 * item)));
  }
}

TEST(loop_serves_many_threads_with_the_same_bits) {
  const auto network = std::make_shared<Affine>();
  network->watch = false;
  DenoiseLoop loop(network, {});
  const auto wanted = values(loop.run(make_table(6), make_request(2)).latents);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) wrong += values(loop.run(make_table(6), make_request(2)).latents) != wanted;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST(loop_gives_each_item_and_half_its_own_input_per_step) {
  DenoiseLoop loop(std::make_shared<Affine>(), {});
  const auto wanted = values(loop.run(make_table(4), make_request(2)).latents);  // the same offsets in every step
  LoopRequest request = make_request(2);
  request.condition.clear(), request.uncondition.clear();
  request.per_step.emplace("offset", filled({4}, 0.1f));
  request.per_step_uncondition.emplace("offset", filled({4, 2}, -0.1f));
  CHECK(values(loop.run(make_table(4), request).latents) == wanted);
  request.per_step.at("offset") = filled({4, 2}, 0.1f);
  CHECK(values(loop.run(make_table(4), request).latents) == wanted);
  request.per_step.at("offset").data<float>()[3] = 0.5f;  // item 1 in step 1
  const auto other = values(loop.run(make_table(4), request).latents);
  CHECK(std::equal(other.begin(), other.begin() + 10, wanted.begin()));
  CHECK(!std::equal(other.begin() + 10, other.end(), wanted.begin() + 10));
}

TEST(loop_blends_the_known_region) {
  DenoiseLoop loop(std::make_shared<Affine>(), {});
  StepTable table = make_table(3);
  for (Row& row : table.rows) row.known = true, row.G = 1, row.H = 0;
  LoopRequest request = make_request(2);
  request.known = filled({2, 2, 5}, 4.0f);
  request.mask = Tensor({2, 1, 5}, DType::f32);
  request.mask->data<float>()[2] = 1.0f;  // item 0, element 2 of both channels is regenerated
  const auto out = values(loop.run(table, request).latents);
  for (std::size_t i = 0; i < out.size(); ++i) CHECK((out[i] == 4.0f) != (i == 2 || i == 7));
}

TEST(loop_stops_when_asked) {
  const auto network = std::make_shared<Affine>();
  DenoiseLoop loop(network, {});
  LoopRequest request = make_request(1);
  request.on_step = [](const StepInfo& info) { return info.step < 1; };
  CHECK_THROWS(Cancelled, "after step 1 of 9", loop.run(make_table(9), request));
  CHECK(network->calls == 2);
  const auto token = std::make_shared<CancelToken>();
  request.cancel = token;
  request.on_step = [&token](const StepInfo& info) {
    if (info.step == 3) token->cancel();
    return true;
  };
  CHECK_THROWS(Cancelled, "token", loop.run(make_table(9), request));
  CHECK(network->calls == 6);
  CHECK_THROWS(Cancelled, "token", loop.run(make_table(9), request));
  CHECK(network->calls == 6);  // cancelled before it began
}

TEST(loop_reports_what_is_not_finite) {
  DenoiseLoop loop(std::make_shared<Affine>(), {});
  StepTable table = make_table(3);
  table.rows[1].B = 1e300;
  CHECK_THROWS(BackendError, "step 1 of 3", loop.run(table, make_request(1)));
}

TEST(loop_refuses_what_does_not_fit) {
  CHECK_THROWS(InputError, "no input 'latent'", DenoiseLoop(std::make_shared<Affine>(), {.state = "latent"}));
  CHECK_THROWS(InputError, "no output 'eps'", DenoiseLoop(std::make_shared<Affine>(), {.output = "eps"}));
  DenoiseLoop loop(std::make_shared<Affine>(), {});
  const auto refuses = [&loop](const char* part, const auto& change) {
    LoopRequest request = make_request(2);
    StepTable table = make_table(3);
    change(request, table);
    CHECK_THROWS(InputError, part, loop.run(table, request));
  };
  using R = LoopRequest&;
  using T = StepTable&;
  refuses("shape must be", [](R r, T) { r.shape = {2}; });
  refuses("shape must be", [](R r, T) { r.shape = {2, 0, 5}; });
  refuses("too many elements", [](R r, T) { r.shape = {2, INT64_MAX, 5}; });
  refuses("seeds must hold", [](R r, T) { r.seeds.pop_back(); });
  refuses("control must be one number", [](R r, T) { r.control = {1, 1, 1}; });
  refuses("control holds NaN", [](R r, T) { r.control = {NAN}; });
  refuses("condition lacks 'offset'", [](R r, T) { r.condition.clear(), r.uncondition.clear(); });
  refuses("no input 'hint'", [](R r, T) { r.condition.emplace("hint", filled({2}, 0)); });
  refuses("which the loop itself feeds", [](R r, T) { r.condition.emplace("sample", filled({2}, 0)); });
  refuses("must have 2 (or 1) items", [](R r, T) { r.condition.at("offset") = filled({3}, 0); });
  refuses("'offset' holds NaN", [](R r, T) { r.condition.at("offset") = filled({2}, NAN); });
  refuses("must be like its condition", [](R r, T) { r.uncondition.at("offset") = filled({2, 1}, 0); });
  refuses("offset must have shape", [](R r, T) {
    r.uncondition.clear();
    r.condition.at("offset") = filled({2, 1}, 0);
  });
  refuses("sample must have shape", [](R r, T) { r.shape = {2, 3, 5}; });
  refuses("initial is needed", [](R, T t) { t.init_signal = 1; });
  refuses("initial must have shape", [](R r, T) { r.initial = filled({2, 2, 4}, 0); });
  refuses("known and mask are needed", [](R, T t) { t.rows[0].known = true; });
  refuses("no row of the step table", [](R r, T) { r.known = filled({2, 2, 5}, 0), r.mask = filled({2, 1, 5}, 1); });
  refuses("without a mask", [](R r, T) { r.known = filled({2, 2, 5}, 0); });
  refuses("mask must broadcast", [](R r, T t) {
    t.rows[0].known = true, r.known = filled({2, 2, 5}, 0), r.mask = filled({2, 5}, 1);
  });
  refuses("mask must lie in 0..1", [](R r, T t) {
    t.rows[0].known = true, r.known = filled({2, 2, 5}, 0), r.mask = filled({2, 1, 5}, 2);
  });
  refuses("per_step names 'offset'", [](R r, T) { r.per_step.emplace("offset", filled({3}, 0)); });
  refuses("must have 2 (or 1) items on its second axis", [](R r, T) {
    r.condition.clear(), r.uncondition.clear(), r.per_step.emplace("offset", filled({3, 3}, 0));
  });
  refuses("1 axes (S, ...) or 2 axes (S, N, ...)", [](R r, T) {
    r.condition.clear(), r.uncondition.clear(), r.per_step.emplace("offset", filled({3, 2, 1}, 0));
  });
  refuses("but per_step does not", [](R r, T) { r.per_step_uncondition.emplace("offset", filled({3}, 0)); });
  refuses("made without a reuse network", [](R, T t) { t.rows[1].reuse = true; });
  refuses("draws 4 times", [](R r, T) { r.noise = filled({3, 2, 2, 5}, 0); });
}

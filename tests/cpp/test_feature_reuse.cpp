// Rows of the denoise loop that run the shallow network: memory, batches, refusals, failures.
#include <memory>
#include <set>
#include <utility>

#include "engine/denoise_loop.h"
#include "tests/cpp/check.h"
#include "tests/cpp/fake_device.h"

using namespace hoirt;

namespace {

// Full: feature = 2 sample, prediction = 3 feature. Shallow: prediction = 3 feature + sample / 8. Both remember.
class Half final : public Network {
 public:
  Half(bool full) : full_(full) {
    (full ? outputs_ : inputs_).push_back({"feature", {-1, 2, -1}});
  }
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  void run(const TensorMap& inputs, TensorMap& outputs, void*) override {
    check_inputs(inputs_, inputs);
    const Tensor& x = inputs.at("sample");
    batches.push_back(x.dim(0));
    Tensor feature;
    if (full_) {
      const auto wanted = outputs.find("feature");
      if (wanted != outputs.end() && !wanted->second.raw()) wanted->second = Tensor(x.shape(), DType::f32), ++allocated;
      feature = wanted == outputs.end() ? Tensor(x.shape(), DType::f32) : wanted->second;
      kept += wanted != outputs.end();
      for (std::size_t i = 0; i < x.size(); ++i) feature.data<float>()[i] = 2 * x.data<float>()[i];
    } else {
      feature = inputs.at("feature");
    }
    memory.insert(feature.raw());
    for (std::size_t i = 0; i < x.size(); ++i) {
      const float shallow = full_ ? 0 : x.data<float>()[i] / 8;
      outputs.at("prediction").data<float>()[i] = 3 * std::as_const(feature).data<float>()[i] + shallow;
    }
  }

  int allocated = 0, kept = 0;
  std::vector<std::int64_t> batches;
  std::set<const void*> memory;

 private:
  bool full_;
  std::vector<Port> inputs_{{"sample", {-1, 2, -1}}}, outputs_{{"prediction", {-1, 2, -1}}};
};

// Lends its feature, enqueues work on it, and fails.
class Failing final : public Network {
 public:
  explicit Failing(bool full) { (full ? outputs_ : inputs_).push_back({"feature", {-1, 2, -1}}); }
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  Place place() const override { return test::fake_place; }
  void run(const TensorMap& inputs, TensorMap& outputs, void* stream) override {
    auto memory = std::make_shared<Tensor>(inputs.at("sample").shape(), DType::f32);
    outputs.at("feature") = Tensor::borrow(memory->raw(), memory->shape(), DType::f32, memory, test::fake_place);
    static_cast<test::FakeStream*>(stream)->enqueue(
        [this, lent = std::weak_ptr(memory)] { (lent.expired() ? early : late) += 1; });
    throw BackendError("out of breath");
  }

  int early = 0, late = 0;  // whether the feature was freed before the work was done, or not

 private:
  std::vector<Port> inputs_{{"sample", {-1, 2, -1}}}, outputs_{{"prediction", {-1, 2, -1}}};
};

const LoopPorts ports{.timestep = std::nullopt, .control = std::nullopt};

// state' = prediction, so every value can be worked out by hand; reuse and guidance by row.
StepTable make_table(const std::vector<std::pair<bool, double>>& rows) {
  StepTable table;
  for (const auto& [reuse, guidance] : rows) {
    Row row;
    row.B = 1, row.D = 1, row.reuse = reuse, row.guidance = guidance;
    table.rows.push_back(row);
  }
  table.init_signal = 1, table.init_noise = 0;
  return table;
}

LoopRequest make_request() {
  LoopRequest request;
  request.shape = {3, 2, 4};
  request.seeds = {1, 2, 3};
  request.control = {1};
  request.initial = Tensor(request.shape, DType::f32);
  for (std::size_t i = 0; i < 24; ++i) request.initial->data<float>()[i] = static_cast<float>(i) / 8;
  return request;
}

}  // namespace

TEST(reuse_keeps_features_where_both_networks_see_them) {
  const auto full = std::make_shared<Half>(true), shallow = std::make_shared<Half>(false);
  DenoiseLoop loop(full, ports, shallow);
  CHECK(loop.features() == std::vector<std::string>{"feature"});
  const auto table = make_table({{false, 2}, {true, 2}, {true, 1}, {false, 1}, {true, 1}, {false, 2}, {false, 1}});
  const LoopRequest request = make_request();
  const Tensor out = loop.run(table, request).latents;
  CHECK((full->batches == std::vector<std::int64_t>{6, 3, 6, 3}));
  CHECK((shallow->batches == std::vector<std::int64_t>{6, 3, 3}));
  CHECK(full->kept == 2 && full->allocated == 1);  // the last two full rows are followed by no row with reuse
  for (const void* memory : shallow->memory) CHECK(full->memory.contains(memory));
  for (std::size_t i = 0; i < 24; ++i) {
    const float x = request.initial->data<float>()[i];
    const float a = 6 * x, b = 6 * x + a / 8, c = 6 * x + b / 8;  // row 0, and two rows on its features
    const float d = 6 * c, e = 6 * c + d / 8;
    CHECK(out.data<float>()[i] == 36 * e);
  }
}

TEST(reuse_refuses_what_does_not_fit) {
  const auto full = std::make_shared<Half>(true), shallow = std::make_shared<Half>(false);
  DenoiseLoop loop(full, ports, shallow);
  const auto refuses = [&loop](const char* part, const std::vector<std::pair<bool, double>>& rows) {
    CHECK_THROWS(InputError, part, loop.run(make_table(rows), make_request()));
  };
  refuses("reuse[0] must be False", {{true, 1}});
  refuses("reuse[1] must be False: the row is guided, and row 0", {{false, 1}, {true, 2}});
  refuses("reuse[3] must be False: the row is guided, and row 2", {{false, 2}, {true, 2}, {false, 1}, {true, 2}});
  CHECK(full->batches.empty() && shallow->batches.empty());
  CHECK_THROWS(InputError, "takes no output of the network", DenoiseLoop(full, ports, full));
  CHECK_THROWS(InputError, "takes no output of the network", DenoiseLoop(shallow, ports, shallow));
  DenoiseLoop plain(full, ports);
  CHECK_THROWS(InputError, "without a reuse network", plain.run(make_table({{false, 1}, {true, 1}}), make_request()));
}

TEST(features_stay_until_the_work_of_a_run_that_failed_is_done) {
  const auto network = std::make_shared<Failing>(true);
  DenoiseLoop loop(network, ports, std::make_shared<Failing>(false), std::make_shared<test::FakeDevice>());
  const StepTable table = make_table({{false, 1}, {true, 1}});
  CHECK_THROWS(BackendError, "out of breath", loop.run(table, make_request()));
  CHECK(network->early == 0 && network->late == 1);
}

// Workspace pool, step table and backend loader.
#include <dlfcn.h>

#include <cmath>
#include <memory>
#include <thread>

#include "engine/backend_loader.h"
#include "engine/buffers.h"
#include "engine/step_table.h"
#include "tests/cpp/check.h"

using namespace hoirt;

TEST(workspace_gives_the_same_memory_for_the_same_shape) {
  Workspace workspace(*host_device());
  const void* first = workspace.get("a", {2, 3}).raw();
  CHECK(workspace.get("a", {2, 3}).raw() == first);
  CHECK(workspace.get("b", {2, 3}).raw() != first);
  CHECK((workspace.get("a", {4, 3}).shape() == Shape{4, 3}));
  CHECK(workspace.get("a", {4, 3}, DType::i64).dtype() == DType::i64);
}

TEST(pool_reuses_per_shape_and_forgets_the_oldest) {
  WorkspacePool pool(host_device());
  const Workspace* first = nullptr;
  {
    const auto lease = pool.take({1, 2});
    first = lease.get();
    CHECK(pool.take({1, 2}).get() != first);  // the first is in use
  }
  CHECK(pool.idle() == 2);
  CHECK(pool.take({1, 2}).get() == first);
  for (std::int64_t n = 1; n <= 40; ++n) pool.take({n, 9});
  CHECK(pool.idle() == 8);
}

TEST(pool_is_thread_safe) {
  WorkspacePool pool(host_device());
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&pool, t] {
      for (int i = 0; i < 200; ++i) {
        const auto lease = pool.take({1 + i % 3});
        lease->get("x", {4}).data<float>()[0] = static_cast<float>(t);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(pool.idle() <= 8);
}

TEST(step_table_checks) {
  StepTable table;
  CHECK_THROWS(InputError, "1 to 100000 rows", table.check());
  table.rows.resize(3);
  table.check();
  CHECK(!table.guided() && !table.uses_known() && table.noise_streams() == 1);
  table.rows[1].guidance = 2, table.rows[1].F = 0.1, table.rows[2].known = true;
  table.init_known = KnownLevel{1, 0};
  CHECK(table.guided() && table.uses_known() && table.noise_streams() == 4);
  table.rows[0].E = 1;
  CHECK_THROWS(InputError, "E[0]", table.check());
  table.rows[0].E = 0, table.rows[2].D = std::nan("");
  CHECK_THROWS(InputError, "D[2] must be finite", table.check());
  table.rows[2].D = 0, table.rows[1].clip = -1;
  CHECK_THROWS(InputError, "clip[1]", table.check());
  table.rows[1].clip = 0, table.init_noise = HUGE_VAL;
  CHECK_THROWS(InputError, "init_noise", table.check());
}

TEST(backend_loader_says_why) {
  CHECK_THROWS(BackendError, "path of its shared object", load_backend("libm.so.6"));
  CHECK_THROWS(BackendError, "cannot load the backend /nowhere/x.so", load_backend("/nowhere/x.so"));
  CHECK_THROWS(BackendError, "not a hoirt backend", load_backend(HOIRT_TEST_PLAIN_LIBRARY));
}

TEST(backend_errors_cross_the_shared_object) {
  const std::shared_ptr<Backend> backend = load_backend(HOIRT_TEST_BACKEND);
  CHECK(backend->name() == "double");
  std::shared_ptr<Network> network = backend->open({"any.onnx", {}, {}});
  TensorMap inputs{{"x", Tensor({2}, DType::f32)}}, outputs{{"y", Tensor()}};
  inputs.at("x").data<float>()[1] = 4;
  network->run(inputs, outputs);
  CHECK(outputs.at("y").data<float>()[1] == 8);
  CHECK_THROWS(BackendError, "no such model", backend->open({"missing.onnx", {}, {}}));
  CHECK_THROWS(InputError, "the input 'x' is missing", network->run({}, outputs));
}

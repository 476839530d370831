// DenoiseLoop: the one loop of hoirt. A state is denoised row by row of a step table under a condition.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/buffers.h"
#include "engine/device.h"
#include "engine/loop_request.h"
#include "engine/network.h"
#include "engine/step_table.h"

namespace hoirt {

struct LoopResult {
  Tensor latents;                       // float32, the state's shape, where the loop runs
  std::vector<double> step_seconds;     // per row, without the callback
  std::vector<double> network_seconds;  // per row, the network alone
  std::size_t graphs = 0;               // steps that were launched as a recorded graph
  std::string graph_reason;             // "", or why steps were not
};

// Thread-safe: any number of threads may run at once; each takes its buffers from a pool and gives them back.
// Guided rows run the network once on a batch of 2 N, the unconditional half first; other rows on the N conditional
// items. An item's result does not depend on its neighbours, as far as the network keeps them apart.
//
// Rows with `reuse` run a second, shallow network instead. It takes inputs of the first and, under their names, some of
// its outputs: features, which the last row without `reuse` kept. Both networks share the memory of those.
//
// On a device the state never leaves it. A step is enqueued, not waited for, at most Stream::run_ahead steps ahead; from
// its second time on it is a recorded graph, which serves all rows that run the same network on the same batch.
class DenoiseLoop {
 public:
  // Throws InputError if a network lacks one of the ports, if the two do not fit together, or if they run elsewhere than
  // `device`. `reuse` may be null; a null `device` is the CPU.
  DenoiseLoop(std::shared_ptr<Network> network, LoopPorts ports, std::shared_ptr<Network> reuse = nullptr,
              std::shared_ptr<Device> device = nullptr);

  // Throws InputError for wrong arguments, Cancelled, BackendError if the network fails or predicts NaN or infinity,
  // and whatever the callbacks throw.
  LoopResult run(const StepTable& table, const LoopRequest& request);

  // Frees the buffers and graphs that ended runs left for later ones; the device's pool still has the memory. Thread-safe.
  void free_idle() { pool_.free_idle(); }
  // The same, and those in use are freed when their runs end; gives the pool's memory back. Thread-safe.
  void unload();

  const Network& network() const { return *network_; }
  Device& device() const { return pool_.device(); }
  const std::vector<std::string>& features() const { return features_; }

 private:
  std::shared_ptr<Network> network_, reuse_;
  LoopPorts ports_;
  std::vector<std::string> features_;
  WorkspacePool pool_;
};

}  // namespace hoirt

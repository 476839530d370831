// The loop: row by row, with a look at the caller's wishes before each.
#include "engine/denoise_loop.h"

#include <string>
#include <utility>
#include <vector>

#include "engine/loop_run.h"

namespace hoirt {
namespace {

void check_place(const Network& network, const Device& device) {
  if (network.place() == device.place()) return;
  throw InputError("the network runs on " + to_string(network.place()) + ", but the loop on " +
                   to_string(device.place()));
}

}  // namespace

DenoiseLoop::DenoiseLoop(std::shared_ptr<Network> network, LoopPorts ports, std::shared_ptr<Network> reuse,
                         std::shared_ptr<Device> device)
    : network_(std::move(network)),
      reuse_(std::move(reuse)),
      ports_(std::move(ports)),
      pool_(device ? std::move(device) : host_device()) {
  check(*network_, ports_);
  check_place(*network_, pool_.device());
  if (!reuse_) return;
  check_place(*reuse_, pool_.device());
  features_ = kept_features(*network_, *reuse_, ports_);
}

LoopResult DenoiseLoop::run(const StepTable& table, const LoopRequest& request) {
  Device& device = pool_.device();
  const std::vector<ValueCheck> checks = check(request, table, *network_, ports_, reuse_.get(), device.place());
  const WorkspacePool::Lease workspace = pool_.take(workspace_key(table, request, device.place()));
  const LoopParts parts{*network_, reuse_.get(), ports_, features_, device};
  LoopRun run(table, request, checks, parts, *workspace);
  const auto stop_if_asked = [&] {
    if (request.cancel && request.cancel->cancelled()) throw Cancelled("the run was cancelled by its token");
    if (request.poll) request.poll();
  };
  const std::size_t steps = table.rows.size();
  LoopResult result{{}, std::vector<double>(steps), std::vector<double>(steps), 0, {}};
  stop_if_asked();
  run.start();
  for (std::size_t i = 0; i < steps; ++i) {
    stop_if_asked();
    const double seconds = run.step(i);
    if (!request.on_step) continue;
    const StepInfo info{i, steps, table.rows[i].timestep, seconds, run.clean(), &run.stream()};
    if (!request.on_step(info)) {
      throw Cancelled("on_step cancelled the run after step " + std::to_string(i) + " of " + std::to_string(steps));
    }
  }
  result.latents = run.finish();
  for (std::size_t i = 0; i < steps; ++i) {
    result.network_seconds[i] = run.seconds(i, kernels::network_begins, kernels::network_ends);
    result.step_seconds[i] = run.seconds(i, kernels::step_begins, kernels::step_ends);
  }
  result.graphs = run.graphs();
  result.graph_reason = run.graph_reason();
  return result;
}

void DenoiseLoop::unload() {
  pool_.clear();
  pool_.device().trim();
}

}  // namespace hoirt

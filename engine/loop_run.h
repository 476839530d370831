// LoopRun: one run of the denoise loop; buffers are bound once, then a row is one network call and one fused step.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/buffers.h"
#include "engine/loop_request.h"
#include "engine/network.h"
#include "engine/step_table.h"

namespace hoirt {

// What the loop is made of.
struct LoopParts {
  Network& network;
  Network* reuse;  // may be null if no row of the table needs it
  const LoopPorts& ports;
  const std::vector<std::string>& features;
  Device& device;
};

// A workspace that was used for the same key holds buffers and graphs that fit.
Shape workspace_key(const StepTable& table, const LoopRequest& request, Place place);

// The buffers of batch 2 N (N if no row is guided) and the tensors that the networks see of them. The table and the
// request must have passed check(); they and what is left to check outlive the run.
class LoopRun {
  using StepRow = kernels::StepRow;

 public:
  LoopRun(const StepTable& table, const LoopRequest& request, const std::vector<ValueCheck>& checks,
          const LoopParts& parts, Workspace& workspace);
  LoopRun(const LoopRun&) = delete;
  LoopRun& operator=(const LoopRun&) = delete;

  // Enqueues the initial state.
  void start();
  // Enqueues a row, and waits if too many are under way. Throws BackendError if a row that is done gave NaN or infinity,
  // InputError if what was left to check is wrong.
  // Returns the seconds that the row took, or how long this call did where the row is not waited for.
  double step(std::size_t index);
  // Waits for all rows, checks them, and gives the final state.
  Tensor finish();

  const Tensor& clean() const { return clean_; }
  Stream& stream() { return stream_; }
  // Seconds of a row between two points, after finish().
  double seconds(std::size_t index, kernels::StepTime from, kernels::StepTime to) const;
  std::size_t graphs() const { return graphs_; }
  std::string graph_reason() const;

 private:
  // Waits for the stream when the run ends, however it ends: the caller may take back what it reads.
  struct Drain {
    Stream& stream;
    ~Drain();
  };
  struct Call {
    Network* network = nullptr;
    TensorMap inputs, outputs;
  };
  // A network on the batch of 2 N and on the N conditional items.
  struct Calls {
    Call guided, single;

    Call& of(const Row& row) { return row.guided() ? guided : single; }
  };
  // The rows of all steps, (S, ...) or (S, N, ...), and the batch that the network sees.
  struct PerStep {
    Tensor condition, uncondition, batch;
  };

  Shape batched(Shape shape) const;
  Tensor conditional(const Tensor& batch) const;
  Tensor here(const std::string& name, const Tensor& tensor);
  Tensor table_here(const std::string& name, const Tensor& tensor);
  void make_rows();
  void bind_inputs(TensorMap& inputs);
  Tensor fill_condition(const std::string& name, const Tensor& tensor);
  bool are_twins(const std::vector<std::string>& names) const;
  Calls calls(Network& network, const TensorMap& inputs) const;
  void broadcast_mask();
  Call& call_of(std::size_t index);
  bool keeps(std::size_t index) const;
  void enqueue(const Row& row, Call& call);
  void copy_rows(const Tensor& rows, Tensor batch);
  void hand_on(const std::string& name, const Tensor& kept, bool guided);
  GraphCache::Key key_of(const Call& call, bool guided) const;
  kernels::GuidedStep frame();
  StepRow* row() { return reinterpret_cast<StepRow*>(row_.raw()); }
  std::uint64_t* times() { return reinterpret_cast<std::uint64_t*>(times_.raw()); }
  void check_flag() const;

  const StepTable& table_;
  const LoopRequest& request_;
  const std::vector<ValueCheck>& checks_;
  const LoopParts parts_;
  Workspace& workspace_;
  Stream& stream_;
  const bool records_;  // graphs
  std::int64_t items_, unconditional_items_;
  Tensor sample_, prediction_, clean_, strengths_, seeds_, rows_, row_, times_;
  std::optional<Tensor> timestep_, control_, initial_, known_, mask_, noise_;
  std::vector<StepRow> step_rows_;  // the initial state, then the table's rows
  std::vector<PerStep> per_step_;
  std::vector<std::uint64_t> measured_;
  Calls full_, keep_, reuse_;  // keep_: full_ that also gives the features
  std::size_t graphs_ = 0;
  std::string graph_reason_;
  const Drain drain_;  // the last member, so the first that goes: the others may hold the last of what is in use
};

}  // namespace hoirt

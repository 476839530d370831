// Program: one compiled form of a network with its pool of infer requests.
#pragma once

#include <memory>
#include <mutex>
#include <openvino/openvino.hpp>
#include <optional>
#include <vector>

#include "engine/network.h"

namespace hoirt::openvino {

class Program {
 public:
  // halved: marks the inputs of which it takes the first half of the items; none if empty.
  // blob: the memory that an imported program reads its weights from; empty for one compiled in this process.
  explicit Program(ov::CompiledModel compiled, std::vector<bool> halved = {}, ov::Tensor blob = {});

  // Tensors in the order of the ports. An output without memory gets a new tensor, a null one is dropped. Thread-safe.
  void run(const std::vector<const Tensor*>& inputs, const std::vector<Tensor*>& outputs);

  ov::CompiledModel& compiled() { return compiled_; }

 private:
  ov::InferRequest take_request();
  void run_in_place(ov::InferRequest& request, const std::vector<Tensor*>& outputs);
  void run_and_copy(ov::InferRequest& request, const std::vector<Tensor*>& outputs);

  std::vector<bool> halved_;
  ov::Tensor blob_;
  ov::CompiledModel compiled_;
  // Set when every output's shape is known before the run, so that outputs are written straight to the caller.
  std::optional<std::vector<Shape>> output_shapes_;
  std::mutex mutex_;
  std::vector<ov::InferRequest> idle_;
};

}  // namespace hoirt::openvino

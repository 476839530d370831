// OpenVinoNetwork: an ONNX file run by OpenVINO on the CPU, compiled once per set of input shapes.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <openvino/openvino.hpp>
#include <string>
#include <utility>
#include <vector>

#include "csrc/openvino/program.h"
#include "csrc/openvino/twins.h"
#include "engine/network.h"

namespace hoirt::openvino {

// Without shapes in the options, a network with dynamic inputs is compiled for each set of input shapes it meets, on
// the first run with them: OpenVINO runs static shapes 20 to 30 % faster than dynamic ones. A batch whose halves begin
// alike has a program of its own, see twins.h. Which program runs depends on the inputs alone, never on history, so that
// equal calls give equal bits. Shapes given in the options are compiled when the network is opened, and an extent of -1
// among them stays dynamic.
class OpenVinoNetwork final : public Network {
 public:
  // `settings` go to the compiler; `identity` names everything that a compiled blob depends on but the network itself.
  // own_kernels: as read_model takes it.
  OpenVinoNetwork(std::shared_ptr<ov::Core> core, NetworkOptions options, ov::AnyMap settings, std::string identity,
                  bool own_kernels);

  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  void run(const TensorMap& inputs, TensorMap& outputs, void* stream = nullptr) override;

 private:
  using Entry = std::pair<std::string, std::shared_ptr<Program>>;

  std::shared_ptr<ov::Model> model();
  bool load_ports();
  void store_ports() const;
  std::shared_ptr<Program> find(const std::string& signature);
  std::shared_ptr<Program> program_for(const std::vector<Shape>& shapes, const Twins& twins);
  std::shared_ptr<Program> build(const std::string& signature, const std::vector<Shape>& shapes, const Twins& twins);
  std::shared_ptr<ov::Model> shaped_model(const std::string& signature, const std::vector<Shape>& shapes, const Twins& twins);
  ov::AnyMap settings(std::size_t bytes) const;
  static std::string signature_of(const std::vector<Shape>& shapes, const Twins& twins);
  std::string blob_path(const std::string& signature) const;
  std::string blob_key(const std::string& signature) const;
  std::vector<const Tensor*> ordered_inputs(const TensorMap& inputs) const;
  std::vector<Tensor*> ordered_outputs(TensorMap& outputs) const;

  std::shared_ptr<ov::Core> core_;
  NetworkOptions options_;
  ov::AnyMap settings_;
  std::string identity_;
  bool own_kernels_;
  std::vector<Port> inputs_;
  std::vector<Port> outputs_;
  bool specialise_ = false;
  std::size_t capacity_ = 0;
  std::vector<Twins> possible_twins_;

  std::mutex build_mutex_;  // guards model_; one compilation at a time, each uses every core
  std::shared_ptr<ov::Model> model_;
  std::mutex programs_mutex_;
  std::list<Entry> programs_;  // most recently used first
};

}  // namespace hoirt::openvino

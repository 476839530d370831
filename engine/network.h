// Network: the one interface behind which every backend runs a model. Backend: opens networks.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/tensor.h"

namespace hoirt {

struct Port {
  std::string name;
  Shape shape;  // -1 marks an extent that the caller chooses
  DType dtype = DType::f32;
};

// Throws InputError unless the port takes this tensor: dtype, rank and every extent that the port fixes.
void check_port(const Port& port, const Tensor& tensor);
// Named tensors; a map keeps the order independent of who built it.
using TensorMap = std::map<std::string, Tensor>;

// Throws InputError unless `inputs` names exactly `ports`, each with a tensor that it takes.
void check_inputs(const std::vector<Port>& ports, const TensorMap& inputs);

// The port of that name, or null.
const Port* find_port(const std::vector<Port>& ports, const std::string& name);
// "a, b, c", for messages.
std::string port_names(const std::vector<Port>& ports);

class Network {
 public:
  virtual ~Network() = default;
  virtual const std::vector<Port>& inputs() const = 0;
  virtual const std::vector<Port>& outputs() const = 0;
  // Reads every input. An output that comes with memory is filled in place, one that comes without (a default Tensor)
  // is allocated by the network; an output that is not named is not wanted.
  // Safe to call from several threads at once. `stream` is the device's own handle, null on the CPU.
  // Throws InputError for a missing, unknown or wrongly shaped tensor, BackendError if the runtime fails.
  virtual void run(const TensorMap& inputs, TensorMap& outputs, void* stream = nullptr) = 0;
  // Where its inputs and outputs lie. On a device, run() only enqueues on `stream`.
  virtual Place place() const { return {}; }
  // Whether run() may be called once inside of a stream capture, and be replayed from then on.
  virtual bool capturable() const { return true; }
  // Inputs that may come with half of the items, all of them or none, where both halves of the batch are alike in them.
  virtual std::vector<std::string> twins() const { return {}; }
};

struct NetworkOptions {
  std::string path;                              // the ONNX file
  std::string cache_path;                        // compiled blob to read, or to write atomically; empty: no cache
  std::map<std::string, Shape> shapes;           // static shapes to compile for; empty: as in the file
  std::string precision = "fp32";                // fp32 | bf16 | fp16 | int8
  int threads = 0;                               // 0: all cores
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;
  virtual std::string version() const = 0;
  // The precisions that this machine can run, the fastest first; fp32 is always among them.
  virtual std::vector<std::string> precisions() const = 0;
  virtual std::shared_ptr<Network> open(const NetworkOptions& options) = 0;
};

// Every backend is a shared object that exports this symbol with C linkage.
using CreateBackend = Backend* (*)();
inline constexpr const char* create_backend_symbol = "hoirt_create_backend";

}  // namespace hoirt

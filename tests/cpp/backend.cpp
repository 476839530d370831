// A backend in a shared object of its own for the loader's tests: y = 2 x.
#include <memory>

#include "engine/network.h"

namespace {

using namespace hoirt;

class Double final : public Network {
 public:
  const std::vector<Port>& inputs() const override { return inputs_; }
  const std::vector<Port>& outputs() const override { return outputs_; }
  void run(const TensorMap& inputs, TensorMap& outputs, void*) override {
    check_inputs(inputs_, inputs);
    const Tensor& x = inputs.at("x");
    Tensor& y = outputs.at("y");
    if (!y.raw()) y = Tensor(x.shape(), DType::f32);
    for (std::size_t i = 0; i < x.size(); ++i) y.data<float>()[i] = 2 * x.data<float>()[i];
  }

 private:
  std::vector<Port> inputs_{{"x", {-1}, DType::f32}}, outputs_{{"y", {-1}, DType::f32}};
};

class DoubleBackend final : public Backend {
 public:
  std::string name() const override { return "double"; }
  std::string version() const override { return "1"; }
  std::vector<std::string> precisions() const override { return {"fp32"}; }
  std::shared_ptr<Network> open(const NetworkOptions& options) override {
    if (options.path == "missing.onnx") throw BackendError("no such model: " + options.path);
    return std::make_shared<Double>();
  }
};

}  // namespace

extern "C" HOIRT_API Backend* hoirt_create_backend() { return new DoubleBackend(); }

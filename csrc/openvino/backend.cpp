// The OpenVINO backend: the object behind hoirt_create_backend in _backend_openvino.so.
#include <openvino/openvino.hpp>
#include <openvino/runtime/intel_cpu/properties.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "csrc/openvino/convert.h"
#include "csrc/openvino/network.h"
#include "engine/network.h"

namespace hoirt::openvino {
namespace {

class OpenVinoBackend final : public Backend {
 public:
  std::string name() const override { return "openvino"; }
  std::string version() const override { return ov::get_openvino_version().buildNumber; }

  std::shared_ptr<Network> open(const NetworkOptions& options) override {
    const ov::element::Type precision = precision_of(options.precision);
    if (options.threads < 0) {
      throw InputError("threads must be 0 (all cores) or more; got " + std::to_string(options.threads));
    }
    // ACCURACY keeps OpenVINO from lowering anything below the precision that was asked for.
    const auto mode = precision == ov::element::f32 ? ov::hint::ExecutionMode::ACCURACY
                                                    : ov::hint::ExecutionMode::PERFORMANCE;
    ov::AnyMap settings = {
        ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY), ov::hint::inference_precision(precision),
        ov::hint::execution_mode(mode), ov::inference_num_threads(options.threads),
        // Pinned threads of two processes would share the same cores while others idle.
        ov::hint::enable_cpu_pinning(false)};
    const std::string identity = version() + "|" + core_->get_property("CPU", ov::device::full_name) + "|" +
                                 options.precision + "|" + std::to_string(options.threads);
    return std::make_shared<OpenVinoNetwork>(core_, options, std::move(settings), identity);
  }

 private:
  ov::element::Type precision_of(const std::string& name) const {
    if (name == "fp32") return ov::element::f32;
    const auto capabilities = core_->get_property("CPU", ov::device::capabilities);
    const auto can = [&capabilities](const std::string& what) {
      return std::find(capabilities.begin(), capabilities.end(), what) != capabilities.end();
    };
    const bool bf16 = can(ov::device::capability::BF16);
    const bool fp16 = can(ov::device::capability::FP16);
    if (name == "bf16" && bf16) return ov::element::bf16;
    if (name == "fp16" && fp16) return ov::element::f16;
    throw BackendError("precision \"" + name + "\" is not available: OpenVINO on this processor (" +
                       core_->get_property("CPU", ov::device::full_name) + ") runs fp32" + (bf16 ? ", bf16" : "") +
                       (fp16 ? ", fp16" : ""));
  }

  std::shared_ptr<ov::Core> core_ = std::make_shared<ov::Core>();
};

}  // namespace
}  // namespace hoirt::openvino

extern "C" HOIRT_API hoirt::Backend* hoirt_create_backend() {
  try {
    return std::make_unique<hoirt::openvino::OpenVinoBackend>().release();
  } catch (const std::exception& error) {
    throw hoirt::BackendError("OpenVINO could not be started: " + hoirt::openvino::reason(error));
  }
}

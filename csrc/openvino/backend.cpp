// The OpenVINO backend: the object behind hoirt_create_backend in _backend_openvino.so.
#include <openvino/openvino.hpp>
#include <openvino/runtime/intel_cpu/properties.hpp>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "csrc/cpu/bf16.h"
#include "csrc/openvino/attention.h"
#include "csrc/openvino/convert.h"
#include "csrc/openvino/doubled_convolution.h"
#include "csrc/openvino/network.h"
#include "csrc/openvino/norm_convolution.h"
#include "csrc/openvino/norm_projection.h"
#include "engine/network.h"

namespace hoirt::openvino {
namespace {

// Names what model_file.cpp makes of a network before it is compiled; cached programs of other rewrites are not used.
constexpr const char* rewrites = "norms, split projections, upsampling 1, own kernels 7, twins";

// OpenVINO offers bf16 wherever it can emulate it; only with these instructions is it faster than fp32.
bool has_bf16() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

// Where OpenVINO multiplies tiles of matrices, our vector kernels would be slower.
bool has_matrix_tiles() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 22 & 1) != 0;  // AMX-BF16
#else
  return false;
#endif
}

class OpenVinoBackend final : public Backend {
 public:
  OpenVinoBackend() {
    // Compiled networks name our operations; without these the cache could not be read.
    core_->add_extension(std::make_shared<ov::OpExtension<NormConvolution>>());
    core_->add_extension(std::make_shared<ov::OpExtension<DoubledConvolution>>());
    core_->add_extension(std::make_shared<ov::OpExtension<NormProjection>>());
    core_->add_extension(std::make_shared<ov::OpExtension<BlockAttention>>());
  }

  std::string name() const override { return "openvino"; }
  std::string version() const override { return ov::get_openvino_version().buildNumber; }

  std::vector<std::string> precisions() const override {
    const auto capabilities = core_->get_property("CPU", ov::device::capabilities);
    const auto can = [&capabilities](const std::string& what) {
      return std::find(capabilities.begin(), capabilities.end(), what) != capabilities.end();
    };
    std::vector<std::string> names{"fp32"};
    if (can(ov::device::capability::BF16)) names.insert(has_bf16() ? names.begin() : names.end(), "bf16");
    if (can(ov::device::capability::FP16)) names.emplace_back("fp16");
    return names;
  }

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
        ov::hint::execution_mode(mode), ov::inference_num_threads(options.threads)};
    const std::string identity = version() + "|" + rewrites + "|" + core_->get_property("CPU", ov::device::full_name) + "|" +
                                 options.precision + "|" + std::to_string(options.threads);
    const bool own_kernels = precision == ov::element::bf16 && cpu::multiplies_bf16() && !has_matrix_tiles();
    return std::make_shared<OpenVinoNetwork>(core_, options, std::move(settings), identity, own_kernels);
  }

 private:
  ov::element::Type precision_of(const std::string& name) const {
    const std::vector<std::string> possible = precisions();
    if (std::find(possible.begin(), possible.end(), name) == possible.end()) {
      std::string list;
      for (const auto& one : possible) list += (list.empty() ? "" : ", ") + one;
      throw BackendError("precision \"" + name + "\" is not available: OpenVINO on this processor (" +
                         core_->get_property("CPU", ov::device::full_name) + ") runs " + list);
    }
    return name == "bf16" ? ov::element::bf16 : name == "fp16" ? ov::element::f16 : ov::element::f32;
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

// The kernels of csrc/kernels on a CUDA device: asynchronous launches on a stream, device pointers only.
#pragma once

#include <cstdint>
#include <string>

#include "csrc/kernels/guided_step.h"
#include "csrc/kernels/paste.h"
#include "csrc/kernels/philox.h"

namespace hoirt::cuda {

// `stream` is a cudaStream_t; null is the default stream. Each throws BackendError if the launch fails; a fault of the
// kernel itself shows at the caller's next synchronisation, as always with CUDA.
void guided_step(const kernels::GuidedStep& step, void* stream);
void philox_normal(const kernels::PhiloxFill& fill, void* stream);
void paste(const kernels::Paste& kernel, void* stream);

// Devices that the driver shows. Throws BackendError with the driver's reason if it cannot say.
int device_count();

// "13.0": the CUDA runtime that is linked in.
std::string runtime_version();

}  // namespace hoirt::cuda

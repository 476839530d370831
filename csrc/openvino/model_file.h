// Reading an ONNX file into an OpenVINO model, and telling a damaged file from an unsupported one.
#pragma once

#include <map>
#include <memory>
#include <openvino/openvino.hpp>
#include <string>

#include "engine/network.h"

namespace hoirt::openvino {

// Throws PackError unless `path` is a regular file called *.onnx.
void check_model_path(const std::string& path);

// The model with `shapes` set, its normalisations made independent of the thread count, and less to compute.
// own_kernels: run the operations of this folder where they fit; for bfloat16, and only with cpu::multiplies_bf16().
// Throws PackError for a damaged file, BackendError for operations that OpenVINO lacks, InputError for wrong shapes.
std::shared_ptr<ov::Model> read_model(const std::string& path, const std::map<std::string, Shape>& shapes,
                                      bool own_kernels);

// Bytes of all constants: what each compiled form of the model holds at least.
std::size_t weight_bytes(const ov::Model& model);

}  // namespace hoirt::openvino

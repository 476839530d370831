// OpenVinoNetwork: an ONNX file run by OpenVINO on the CPU, compiled once per set of input shapes.
#include "csrc/openvino/network.h"

#ifdef __linux__
#include <sched.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <cstdio>
#include <new>
#include <sstream>
#include <utility>

#include "csrc/openvino/blob_cache.h"
#include "csrc/openvino/convert.h"
#include "csrc/openvino/model_file.h"

namespace hoirt::openvino {
namespace {

constexpr std::size_t program_memory = std::size_t{4} << 30;  // bytes that the programs of one network may share
constexpr std::size_t large = std::size_t{256} << 20;          // bytes of weights

// Whether a network with that many threads (0: all) runs on every core there is.
bool uses_every_core([[maybe_unused]] int threads) {
#ifdef __linux__
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return false;
  const long all = sysconf(_SC_NPROCESSORS_ONLN);
  return CPU_COUNT(&allowed) == all && (threads == 0 || threads == all);
#else
  return false;
#endif
}

// What OpenVINO throws while it compiles or runs, as hoirt's own errors.
template <typename Action>
auto guarded(const std::string& doing, Action&& action) {
  try {
    return action();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw OutOfMemory("out of memory while " + doing);
  } catch (const std::exception& error) {
    throw BackendError("OpenVINO failed while " + doing + ": " + reason(error));
  }
}

void write_ports(std::ostream& out, const std::vector<Port>& ports) {
  out << ports.size() << '\n';
  for (const auto& port : ports) {
    out << port.name.size() << ' ' << port.name << ' ' << static_cast<int>(port.dtype) << ' ' << port.shape.size();
    for (const auto extent : port.shape) out << ' ' << extent;
    out << '\n';
  }
}

// The text was written by write_ports and has passed the blob's hash, so it is taken as it is.
std::vector<Port> read_ports(std::istream& in) {
  std::size_t count = 0;
  in >> count;
  std::vector<Port> ports(count);
  for (auto& port : ports) {
    std::size_t length = 0;
    int dtype = 0;
    in >> length;
    in.get();
    port.name.resize(length);
    in.read(port.name.data(), static_cast<std::streamsize>(length));
    in >> dtype >> length;
    port.dtype = static_cast<DType>(dtype);
    port.shape.resize(length);
    for (auto& extent : port.shape) in >> extent;
  }
  return ports;
}

bool is_static(const std::vector<Port>& ports) {
  return std::all_of(ports.begin(), ports.end(), [](const Port& port) {
    return std::none_of(port.shape.begin(), port.shape.end(), [](auto extent) { return extent < 0; });
  });
}

}  // namespace

OpenVinoNetwork::OpenVinoNetwork(std::shared_ptr<ov::Core> core, NetworkOptions options, ov::AnyMap settings,
                                 std::string identity, bool own_kernels)
    : core_(std::move(core)),
      options_(std::move(options)),
      settings_(std::move(settings)),
      identity_(std::move(identity)),
      own_kernels_(own_kernels) {
  check_model_path(options_.path);
  guarded("opening " + options_.path, [this] {
    if (!options_.cache_path.empty()) {
      for (const auto& [name, shape] : options_.shapes) identity_.append("|").append(name).append(to_string(shape));
      identity_.append("|").append(std::to_string(hash_file(options_.path)));
    }
    if (!load_ports()) {
      const auto model_read = model();
      inputs_ = input_ports(*model_read);
      outputs_ = output_ports(*model_read);
      capacity_ = std::clamp<std::size_t>(program_memory / (weight_bytes(*model_read) + 1), 2, 8);
      possible_twins_ = possible_twins(*model_read);
      store_ports();
    }
    specialise_ = options_.shapes.empty() && !is_static(inputs_);
    if (!specialise_) program_for({}, {});
  });
}

// Read on the first need: a network whose programs all come from the cache never parses its file.
std::shared_ptr<ov::Model> OpenVinoNetwork::model() {
  if (!model_) model_ = read_model(options_.path, options_.shapes, own_kernels_);
  return model_;
}

bool OpenVinoNetwork::load_ports() {
  if (options_.cache_path.empty()) return false;
  const auto blob = load_blob(options_.cache_path, blob_key("ports"));
  if (!blob) return false;
  std::istringstream text(std::string(std::as_const(*blob).data<const char>(), blob->get_byte_size()));
  inputs_ = read_ports(text);
  outputs_ = read_ports(text);
  std::size_t count = 0;
  text >> capacity_ >> count;
  possible_twins_.resize(count, Twins(inputs_.size()));
  for (auto& twins : possible_twins_) {
    for (std::size_t i = 0; i < twins.size(); ++i) {
      int mark = 0;
      text >> mark;
      twins[i] = mark != 0;
    }
  }
  return true;
}

void OpenVinoNetwork::store_ports() const {
  if (options_.cache_path.empty()) return;
  std::ostringstream text;
  write_ports(text, inputs_);
  write_ports(text, outputs_);
  text << capacity_ << ' ' << possible_twins_.size();
  for (const auto& twins : possible_twins_) {
    for (const bool mark : twins) text << ' ' << mark;
  }
  store_blob(options_.cache_path, blob_key("ports"), [&text](std::ostream& file) { file << text.str(); });
}

std::string OpenVinoNetwork::blob_path(const std::string& signature) const {
  char suffix[24];
  std::snprintf(suffix, sizeof suffix, ".%016llx",
                static_cast<unsigned long long>(hash_bytes(signature.data(), signature.size())));
  return options_.cache_path + suffix;
}

std::string OpenVinoNetwork::signature_of(const std::vector<Shape>& shapes, const Twins& twins) {
  std::string signature;
  for (const auto& shape : shapes) signature += to_string(shape);
  if (!twins.empty()) signature += " twins ";
  for (const bool mark : twins) signature += mark ? '1' : '0';
  return signature;
}

std::string OpenVinoNetwork::blob_key(const std::string& signature) const { return identity_ + "|" + signature; }

std::shared_ptr<Program> OpenVinoNetwork::find(const std::string& signature) {
  const std::lock_guard lock(programs_mutex_);
  const auto found = std::find_if(programs_.begin(), programs_.end(),
                                  [&signature](const Entry& entry) { return entry.first == signature; });
  if (found == programs_.end()) return nullptr;
  programs_.splice(programs_.begin(), programs_, found);
  return programs_.front().second;
}

std::shared_ptr<Program> OpenVinoNetwork::program_for(const std::vector<Shape>& shapes, const Twins& twins) {
  const std::string signature = signature_of(shapes, twins);
  if (auto program = find(signature)) return program;
  const std::lock_guard build_lock(build_mutex_);
  if (auto program = find(signature)) return program;  // another thread built it while this one waited
  auto program = build(signature, shapes, twins);
  const std::lock_guard lock(programs_mutex_);
  programs_.emplace_front(signature, program);
  // A program that still runs in another thread lives on until that run ends.
  if (programs_.size() > capacity_) programs_.pop_back();
  return program;
}

// Threads that stay on their cores are woken there, which saves 7 % of a step of Stable Diffusion and nothing of a small
// network. With fewer threads than cores, those of two processes would share some cores while others idle.
ov::AnyMap OpenVinoNetwork::settings(std::size_t bytes) const {
  ov::AnyMap chosen = settings_;
  chosen[ov::hint::enable_cpu_pinning.name()] = bytes >= large && uses_every_core(options_.threads);
  return chosen;
}

// The network for inputs of these shapes.
std::shared_ptr<ov::Model> OpenVinoNetwork::shaped_model(const std::string& signature, const std::vector<Shape>& shapes,
                                                         const Twins& twins) {
  if (shapes.empty()) return model();
  std::vector<ov::PartialShape> given;
  for (const auto& shape : shapes) given.push_back(partial_shape_of(shape));
  try {
    if (!twins.empty()) return share_halves(*model(), given, twins);
    std::map<std::size_t, ov::PartialShape> by_index;
    for (std::size_t i = 0; i < given.size(); ++i) by_index.emplace(i, given[i]);
    auto copy = model()->clone();
    copy->reshape(by_index);
    return copy;
  } catch (const ov::Exception& error) {
    throw InputError("the shapes of the inputs do not fit together, " + signature + " for " + port_names(inputs_) + ": " +
                     reason(error));
  }
}

std::shared_ptr<Program> OpenVinoNetwork::build(const std::string& signature, const std::vector<Shape>& shapes,
                                                const Twins& twins) {
  const bool cached = !options_.cache_path.empty();
  if (cached) {
    if (const auto blob = load_blob(blob_path(signature), blob_key(signature))) {
      try {
        return std::make_shared<Program>(core_->import_model(*blob, "CPU", settings(blob->get_byte_size())), twins, *blob);
      } catch (const std::exception&) {
        // An undamaged blob that this runtime refuses is compiled anew, like a damaged one.
      }
    }
  }
  const auto shaped = shaped_model(signature, shapes, twins);
  if (!shaped) return build(signature_of(shapes, {}), shapes, {});
  auto program = std::make_shared<Program>(core_->compile_model(shaped, "CPU", settings(weight_bytes(*shaped))), twins);
  if (cached) {
    store_blob(blob_path(signature), blob_key(signature),
               [&program](std::ostream& file) { program->compiled().export_model(file); });
  }
  return program;
}

std::vector<const Tensor*> OpenVinoNetwork::ordered_inputs(const TensorMap& inputs) const {
  check_inputs(inputs_, inputs);
  std::vector<const Tensor*> ordered;
  for (const auto& port : inputs_) {
    const Tensor& tensor = inputs.at(port.name);
    if (tensor.empty()) throw InputError(port.name + " must not be empty; got shape " + to_string(tensor.shape()));
    ordered.push_back(&tensor);
  }
  return ordered;
}

std::vector<Tensor*> OpenVinoNetwork::ordered_outputs(TensorMap& outputs) const {
  std::vector<Tensor*> ordered(outputs_.size(), nullptr);
  for (auto& [name, tensor] : outputs) {
    const Port* port = find_port(outputs_, name);
    if (!port) throw InputError("the network has no output '" + name + "'; it has " + port_names(outputs_));
    if (tensor.raw()) check_port(*port, tensor);
    ordered[static_cast<std::size_t>(port - outputs_.data())] = &tensor;
  }
  return ordered;
}

void OpenVinoNetwork::run(const TensorMap& inputs, TensorMap& outputs, void*) {
  const auto given = ordered_inputs(inputs);
  const auto wanted = ordered_outputs(outputs);
  std::vector<Shape> shapes;
  Twins twins;
  if (specialise_) {
    for (const auto* tensor : given) shapes.push_back(tensor->shape());
    twins = find_twins(possible_twins_, given).value_or(Twins{});
  }
  guarded("running " + options_.path, [&] { program_for(shapes, twins)->run(given, wanted); });
}

}  // namespace hoirt::openvino

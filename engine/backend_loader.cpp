// dlopen of backends and devices, and their creation.
#include "engine/backend_loader.h"

#include <dlfcn.h>

#include "engine/device.h"

namespace hoirt {
namespace {

std::string loader_error() {
  const char* text = dlerror();
  return text ? text : "the loader gives no reason";
}

// The function `symbol` of the shared object `path`, which is a `kind`.
void* load_symbol(const std::string& path, const char* symbol, const std::string& kind) {
  // A name without a slash would be looked up in the system's library folders.
  if (path.find('/') == std::string::npos || path.find('\0') != std::string::npos) {
    throw BackendError("a " + kind + " is named by the path of its shared object, not '" + path + "'");
  }
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!library) throw BackendError("cannot load the " + kind + " " + path + ": " + loader_error());
  void* found = dlsym(library, symbol);
  if (!found) {
    throw BackendError(path + " is not a hoirt " + kind + ", it has no symbol " + symbol + ": " + loader_error());
  }
  return found;
}

}  // namespace

std::shared_ptr<Backend> load_backend(const std::string& path) {
  const auto create = reinterpret_cast<CreateBackend>(load_symbol(path, create_backend_symbol, "backend"));
  std::shared_ptr<Backend> backend(create());
  if (!backend) throw BackendError("the backend " + path + " could not be created");
  return backend;
}

std::shared_ptr<Device> load_device(const std::string& path, int index) {
  const auto create = reinterpret_cast<CreateDevice>(load_symbol(path, create_device_symbol, "module of devices"));
  std::shared_ptr<Device> device(create(index));
  if (!device) throw BackendError("the device " + std::to_string(index) + " of " + path + " could not be created");
  return device;
}

}  // namespace hoirt

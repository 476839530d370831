// Loads a backend from its shared object.
#pragma once

#include <memory>
#include <string>

#include "engine/network.h"

namespace hoirt {

// The shared object stays loaded until the process ends: its threads, its thread-local state and exceptions under way
// may outlive every network. Throws BackendError with the loader's own words.
std::shared_ptr<Backend> load_backend(const std::string& path);

}  // namespace hoirt

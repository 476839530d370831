// Place: where memory lives and work runs.
#pragma once

#include <cstdint>
#include <string>

#include "engine/error.h"

namespace hoirt {

struct Place {
  enum class Kind : std::uint8_t { cpu, cuda };
  Kind kind = Kind::cpu;
  int index = 0;

  bool host() const { return kind == Kind::cpu; }
  friend bool operator==(const Place& a, const Place& b) { return a.kind == b.kind && a.index == b.index; }
};

// "cpu" or "cuda:0".
inline std::string to_string(Place place) {
  return place.host() ? std::string("cpu") : "cuda:" + std::to_string(place.index);
}

// Of "cpu", "cuda" (the first one) or "cuda:N"; throws InputError.
inline Place place_from(const std::string& name) {
  if (name == "cpu") return {};
  if (name == "cuda") return {Place::Kind::cuda, 0};
  const std::string number = name.substr(0, 5) == "cuda:" ? name.substr(5) : std::string();
  if (!number.empty() && number.size() <= 4 && number.find_first_not_of("0123456789") == std::string::npos) {
    return {Place::Kind::cuda, std::stoi(number)};
  }
  throw InputError("unknown device '" + name + "'; it must be 'cpu', 'cuda' or 'cuda:N'");
}

}  // namespace hoirt

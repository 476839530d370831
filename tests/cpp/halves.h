// Random values, threads and errors for the tests of kernels in bfloat16 and int8.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <thread>
#include <vector>

#include "csrc/cpu/bf16.h"
#include "csrc/cpu/parallel.h"

namespace hoirt::cpu {

using Values = std::vector<double>;

constexpr double rounding = 0x1p-8;  // of bfloat16

// In `parts` pieces, each on a thread of its own.
inline Parallel threads(std::int64_t parts) {
  return [parts](std::int64_t count, const Range& body) {
    std::vector<std::thread> all;
    for (std::int64_t i = 0; i < parts; ++i) {
      all.emplace_back([=, &body] { body(count * i / parts, count * (i + 1) / parts); });
    }
    for (auto& one : all) one.join();
  };
}

class Random {
 public:
  float value(double mean = 0, double deviation = 1) { return static_cast<float>(mean + deviation * normal_(engine_)); }
  std::vector<float> floats(std::size_t count, double deviation = 1) {
    std::vector<float> values(count);
    for (auto& one : values) one = value(0, deviation);
    return values;
  }
  std::vector<Bf16> halves(std::size_t count, double mean = 0) {
    std::vector<Bf16> values(count);
    for (auto& one : values) one = bf16_of(value(mean));
    return values;
  }

 private:
  std::mt19937 engine_{7};
  std::normal_distribution<double> normal_;
};

// The root mean square of the differences, relative to that of the expected values.
inline double error(const std::vector<Bf16>& found, const Values& expected) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double delta = static_cast<double>(float_of(found[i])) - expected[i];
    difference += delta * delta, size += expected[i] * expected[i];
  }
  return std::sqrt(difference / size);
}

inline std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

}  // namespace hoirt::cpu

// StepTable: a sampler as data, one row of coefficients per denoising step.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

namespace hoirt {

// With network output u (unconditional) and c (conditional), state x and standard normals n, n':
//   out = u + guidance (c - u)          guidance == 1: only c is computed
//   x0  = A x + B out                   clamped to +-clip if clip > 0
//   x'  = C x + D x0 + E x0_prev + F n  x0_prev: x0 of the row before
//   x'  = m x' + (1 - m)(G z + H n')    if known, with known state z and mask m
struct Row {
  double timestep = 0;
  double guidance = 1;
  double control = 1;  // multiplies the caller's control strength
  double A = 0, B = 0, C = 0, D = 0, E = 0, F = 0, G = 0, H = 0;
  double clip = 0;
  bool known = false;
  bool reuse = false;  // runs the shallow network on the features that the last row without reuse kept

  bool guided() const { return guidance != 1; }
};

// The noise level of the known region in the initial state: G z + H n'.
struct KnownLevel {
  double G = 1, H = 0;
};

struct StepTable {
  std::vector<Row> rows;
  // x_init = init_signal * given state + init_noise * n, then the known region at `init_known` if set.
  double init_signal = 0;
  double init_noise = 1;
  std::optional<KnownLevel> init_known;

  bool guided() const;      // some row needs the unconditional half
  bool uses_known() const;  // some blend reads the known state and the mask
  bool reuses() const;      // some row runs the shallow network
  // Normals that a run consumes, in streams of the state's shape: initial, initial known, then per row n and n'.
  std::size_t noise_streams() const;
  // Throws InputError that names row and column.
  void check() const;
};

}  // namespace hoirt

// The rows of a step table as the kernels read them.
#include "engine/loop_rows.h"

#include <cstddef>

namespace hoirt {
namespace {

using kernels::StepRow;

constexpr std::uint32_t initial_stream = 0, initial_known_stream = 0xFFFFFFFEu;

// Gives every draw its Philox stream, and the next slice of the caller's noise if there is any.
class NoiseStreams {
 public:
  NoiseStreams(bool given, std::int64_t state_size) : given_(given), size_(state_size) {}

  void draw(std::uint32_t number, std::uint32_t& stream, std::int64_t& at) {
    stream = number;
    if (given_) at = size_ * drawn_++;
  }

 private:
  bool given_;
  std::int64_t size_;
  std::int64_t drawn_ = 0;
};

}  // namespace

std::vector<StepRow> rows_of(const StepTable& table, bool own_noise, std::int64_t state_size, bool keep_clean) {
  NoiseStreams noise(own_noise, state_size);
  const auto blend = [&](StepRow& to, const KnownLevel& level, std::uint32_t stream) {
    to.known_region = true;
    to.G = level.G, to.H = level.H;
    noise.draw(stream, to.known_stream, to.known_noise_at);
  };
  const std::size_t steps = table.rows.size();
  std::vector<StepRow> rows(steps + 1);
  // The initial state is a step without a network: init_signal * given + init_noise * n, then the known region.
  StepRow& initial = rows.front();
  initial.C = table.init_signal;
  initial.F = table.init_noise;
  initial.copies = table.rows.front().guided();
  noise.draw(initial_stream, initial.noise_stream, initial.noise_at);
  if (table.init_known) blend(initial, *table.init_known, initial_known_stream);
  for (std::size_t i = 0; i < steps; ++i) {
    const Row& row = table.rows[i];
    StepRow& to = rows[i + 1];
    to.guidance = row.guidance;
    to.A = row.A, to.B = row.B, to.C = row.C, to.D = row.D, to.E = row.E, to.F = row.F;
    to.clip = row.clip;
    to.timestep = row.timestep;
    to.control = row.control;
    to.index = static_cast<std::int32_t>(i);
    if (row.F != 0) noise.draw(static_cast<std::uint32_t>(1 + 2 * i), to.noise_stream, to.noise_at);
    if (row.known) blend(to, {row.G, row.H}, static_cast<std::uint32_t>(2 + 2 * i));
    const bool last = i + 1 == steps;
    to.copies = !last && table.rows[i + 1].guided();
    to.keeps_clean = keep_clean || (!last && table.rows[i + 1].E != 0);
  }
  return rows;
}

}  // namespace hoirt

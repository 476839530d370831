// Projections with norms, gates and residuals in bfloat16, against float64 loops.
#include <vector>

#include "csrc/cpu/norm_silu.h"
#include "csrc/cpu/projection_int8.h"
#include "tests/cpp/check.h"
#include "tests/cpp/halves.h"

using namespace hoirt::cpu;

namespace {

double value(Bf16 half) { return static_cast<double>(float_of(half)); }

// The rows after the norm, rounded as the kernel rounds them.
Values normalised(const Projection& job) {
  Values rows(at(job.rows * job.channels_in));
  const auto count = static_cast<double>(job.channels_in);
  for (std::int64_t row = 0; row < job.rows; ++row) {
    const Bf16* from = job.input + row * job.channels_in;
    double mean = 0, variance = 0;
    for (std::int64_t i = 0; i < job.channels_in; ++i) mean += value(from[i]) / count;
    for (std::int64_t i = 0; i < job.channels_in; ++i) variance += (value(from[i]) - mean) * (value(from[i]) - mean) / count;
    for (std::int64_t i = 0; i < job.channels_in; ++i) {
      double x = value(from[i]);
      if (job.norm == Projection::Norm::layer) {
        x = (x - mean) / std::sqrt(variance + static_cast<double>(job.epsilon)) * static_cast<double>(job.scale[i]) +
            static_cast<double>(job.shift[i]);
      } else if (job.norm == Projection::Norm::group) {
        const std::int64_t of_item = row / job.item_rows * job.channels_in + i;
        x = x * static_cast<double>(job.scale[of_item]) + static_cast<double>(job.shift[of_item]);
      }
      rows[at(row * job.channels_in + i)] = value(bf16_of(static_cast<float>(x)));
    }
  }
  return rows;
}

// (rows, channels_out), from weights (channels_in, columns).
Values projected(const Projection& job, const std::vector<float>& weights) {
  const std::int64_t columns = job.channels_out * (job.gated ? 2 : 1);
  const Values rows = normalised(job);
  Values out(at(job.rows * job.channels_out));
  for (std::int64_t row = 0; row < job.rows; ++row) {
    const auto sum = [&](std::int64_t column) {
      double total = static_cast<double>(job.bias[column]);
      for (std::int64_t i = 0; i < job.channels_in; ++i) {
        total += rows[at(row * job.channels_in + i)] * value(bf16_of(weights[at(i * columns + column)]));
      }
      return total;
    };
    for (std::int64_t column = 0; column < job.channels_out; ++column) {
      const std::size_t place = at(row * job.channels_out + column);
      out[place] = sum(column);
      if (job.gated) {
        const double gate = sum(job.channels_out + column);
        out[place] *= gate * 0.5 * std::erfc(-gate * std::sqrt(0.5));
      }
      if (!job.residual) continue;
      const double factor = job.factors ? static_cast<double>(job.factors[row / job.item_rows]) : 1;
      out[place] = out[place] * factor + value(job.residual[place]);
    }
  }
  return out;
}

// Packs weights and multiplies by them, in bfloat16 or in int8.
class Weights {
 public:
  Weights(const std::vector<float>& stored, const Projection& job, bool transposed, bool int8) : int8_(int8) {
    const std::int64_t columns = job.channels_out * (job.gated ? 2 : 1);
    halves_.resize(stored.size()), bytes_.resize(stored.size()), scales_.resize(at(columns)), offsets_.resize(at(columns));
    pack_projection(stored.data(), job.channels_in, columns, transposed, halves_.data(), threads(2));
    pack_projection_int8(stored.data(), job.channels_in, columns, transposed, bytes_.data(), scales_.data(), offsets_.data(),
                         threads(2));
  }

  void project(const Projection& job, std::int64_t count) const {
    if (!int8_) return hoirt::cpu::project(job, halves_.data(), threads(count));
    project_int8(job, {bytes_.data(), scales_.data(), offsets_.data()}, threads(count));
  }

 private:
  bool int8_;
  std::vector<Bf16> halves_;
  std::vector<std::int8_t> bytes_;
  std::vector<float> scales_;
  std::vector<std::int32_t> offsets_;
};

// Runs the job on one and on three threads, in as many parts as it says.
void compare(Projection job, bool transposed, bool int8) {
  Random random;
  const std::int64_t columns = job.channels_out * (job.gated ? 2 : 1);
  const auto input = random.halves(at(job.rows * job.channels_in), 2), residual = random.halves(at(job.rows * job.channels_out));
  auto weights = random.floats(at(job.channels_in * columns));
  const auto bias = random.floats(at(columns)), factors = random.floats(at(job.rows));
  const auto scale = random.floats(at(job.rows * job.channels_in)), shift = random.floats(at(job.rows * job.channels_in));
  for (auto& weight : weights) weight /= std::sqrt(static_cast<float>(job.channels_in));
  auto stored = weights;
  for (std::int64_t i = 0; transposed && i < job.channels_in * columns; ++i) {
    stored[at(i % columns * job.channels_in + i / columns)] = weights[at(i)];
  }
  const Weights packed(stored, job, transposed, int8);
  job.input = input.data(), job.bias = bias.data();
  job.scale = scale.data(), job.shift = shift.data(), job.epsilon = 1e-5F;
  if (job.residual) job.residual = residual.data();
  if (job.factors) job.factors = factors.data();
  const std::int64_t width = job.channels_out / job.parts;
  std::vector<Bf16> first(at(job.rows * job.channels_out)), second(first.size());
  for (auto [count, out] : {std::pair(1, &first), std::pair(3, &second)}) {
    for (std::int64_t part = 0; part < job.parts; ++part) job.outputs[at(part)] = out->data() + part * job.rows * width;
    packed.project(job, count);
  }
  CHECK(first == second);
  std::vector<Bf16> together(first.size());
  for (std::int64_t i = 0; i < job.rows * job.channels_out; ++i) {
    const std::int64_t row = i / job.channels_out, column = i % job.channels_out;
    together[at(i)] = first[at((column / width * job.rows + row) * width + column % width)];
  }
  CHECK(error(together, projected(job, weights)) < (int8 ? 0.03 : rounding));
}

// Rows around the twelve of a product and the blocks of a task.
void compare_all(bool int8) {
  const Bf16 given = 0;
  const float number = 0;
  for (const std::int64_t rows : {1, 11, 12, 30, 400}) {
    for (const bool transposed : {false, true}) {
      Projection job;
      job.rows = rows, job.channels_in = 64, job.channels_out = 96;
      compare(job, transposed, int8);
      job.parts = 3;
      compare(job, transposed, int8);
      job.parts = 1, job.gated = true;
      compare(job, transposed, int8);
      job.norm = Projection::Norm::layer;
      compare(job, transposed, int8);
      job.gated = false, job.residual = &given;
      compare(job, transposed, int8);
      job.norm = Projection::Norm::group, job.item_rows = rows % 2 == 0 ? rows / 2 : rows;
      compare(job, transposed, int8);
      job.factors = &number;
      compare(job, transposed, int8);
    }
  }
}

}  // namespace

TEST(projection_equals_the_formula) {
  if (multiplies_bf16()) compare_all(false);
}

TEST(projection_in_int8_equals_the_formula) {
  if (multiplies_int8()) compare_all(true);
}

TEST(projection_of_no_rows) {
  if (!multiplies_bf16()) return;
  Projection job;
  job.channels_in = job.channels_out = 32;
  project(job, nullptr, threads(2));
}

// Weights of a row beyond the cache: blocks of 48 rows.
TEST(projection_of_wide_rows) {
  if (!multiplies_bf16()) return;
  Projection job;
  job.rows = 50, job.channels_in = 8192, job.channels_out = 32;
  compare(job, false, false);
  if (multiplies_int8()) compare(job, false, true);
}

TEST(rows_of_zeros_and_without_numbers_in_int8) {
  if (!multiplies_int8()) return;
  Projection job;
  job.rows = 4, job.channels_in = 32, job.channels_out = 32;
  std::vector<Bf16> input(4 * 32, bf16_of(1.0F)), output(4 * 32);
  std::fill_n(input.begin(), 32, bf16_of(0.0F));
  input[32] = bf16_of(std::nanf("")), input[64] = bf16_of(INFINITY);
  const std::vector<float> bias(32, 0.5F), weights(32 * 32, 0.25F);
  job.input = input.data(), job.bias = bias.data(), job.outputs[0] = output.data();
  Weights(weights, job, false, true).project(job, 1);
  CHECK(value(output[0]) == 0.5);
  CHECK(!std::isfinite(value(output[32])));
  CHECK(!std::isfinite(value(output[64])));
  CHECK(std::abs(value(output[96]) - 8.5) < 0.05);
}

TEST(gates_far_from_zero) {
  if (!multiplies_bf16()) return;
  Random random;
  Projection job;
  job.rows = 8, job.channels_in = 32, job.channels_out = 32, job.gated = true;
  const std::vector<Bf16> input(8 * 32, bf16_of(0.0F));
  std::vector<Bf16> weights(32 * 64, bf16_of(0.0F)), output(8 * 32);
  std::vector<float> bias(64, 1.0F);
  const float gates[] = {-1e30F, -100, -8.5F, -5, -0.5F, 0, 0.5F, 5, 8.5F, 100, 1e30F};
  for (std::size_t i = 0; i < std::size(gates); ++i) bias[32 + i] = gates[i];
  job.input = input.data(), job.bias = bias.data(), job.outputs[0] = output.data();
  project(job, weights.data(), threads(1));
  for (std::size_t i = 0; i < std::size(gates); ++i) {
    const double gate = static_cast<double>(gates[i]), expected = gate * 0.5 * std::erfc(-gate * std::sqrt(0.5));
    CHECK(std::abs(value(output[i]) - expected) <= 1e-4 + std::abs(expected) / 256);
  }
  bias[32] = std::nanf("");
  project(job, weights.data(), threads(1));
  CHECK(std::isnan(value(output[0])));
}

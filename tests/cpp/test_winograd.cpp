// Winograd's convolutions in bfloat16 and int8 against float64 loops.
#include <utility>
#include <vector>

#include "csrc/cpu/winograd_conv.h"
#include "csrc/cpu/winograd_int8.h"
#include "tests/cpp/check.h"
#include "tests/cpp/halves.h"

namespace {

using namespace hoirt::cpu;

// Of the picture that is convolved: doubled, activated.
double pixel(const WinogradJob& job, std::int64_t item, std::int64_t y, std::int64_t x, std::int64_t channel) {
  if (y < 0 || x < 0 || y >= job.height || x >= job.width) return 0;
  const std::int64_t step = job.doubled ? 2 : 1, height = job.height / step, width = job.width / step;
  const auto value = static_cast<double>(
      float_of(job.input[((item * height + y / step) * width + x / step) * job.channels_in + channel]));
  if (!job.factors) return value;
  const std::int64_t of = item * job.channels_in + channel;
  const double z = value * static_cast<double>(job.factors[of]) + static_cast<double>(job.offsets[of]);
  return z / (1 + std::exp(-z));
}

Values convolved(const WinogradJob& job, const std::vector<float>& weights) {
  Values out;
  for (std::int64_t i = 0; i < job.batch * job.height * job.width; ++i) {
    const std::int64_t n = i / (job.height * job.width), y = i / job.width % job.height, x = i % job.width;
    Values patch;
    for (std::int64_t from = 0; from < job.channels_in; ++from) {
      for (std::int64_t tap = 0; tap < 9; ++tap) patch.push_back(pixel(job, n, y + tap / 3 - 1, x + tap % 3 - 1, from));
    }
    for (std::int64_t to = 0; to < job.channels_out; ++to) {
      auto sum = static_cast<double>(job.bias[(job.bias_per_item ? n * job.channels_out : 0) + to]);
      if (job.residual) sum += static_cast<double>(float_of(job.residual[i * job.channels_out + to]));
      const float* kernel = weights.data() + to * job.channels_in * 9;
      for (std::size_t k = 0; k < patch.size(); ++k) sum += patch[k] * static_cast<double>(kernel[k]);
      out.push_back(sum);
    }
  }
  return out;
}

struct Case {
  std::int64_t batch, height, width, in, out;
  bool doubled = false, activated = false, per_item = false, residual = false;
};

// The last two have more tiles than are kept at once: bands of rows, and tasks cut short.
constexpr Case cases[] = {
    {1, 1, 1, 32, 32},   {2, 7, 10, 64, 96},         {1, 2, 3, 96, 32},
    {3, 16, 5, 32, 64},  {2, 6, 10, 64, 32, true},   {1, 2, 2, 32, 32, true},
    {2, 7, 9, 64, 32, false, true, true, true},      {3, 1, 8, 32, 32, false, true},
    {1, 8, 6, 32, 64, true, true, false, true},      {2, 12, 12, 32, 32, false, false, true, true},
    {1, 98, 98, 128, 32, false, true},               {2, 52, 54, 128, 32, true, true},
};

// Runs the kernel on one thread and on three; bits must agree, and the error stay below `bound`.
template <typename Kernel>
void compare(std::int64_t tile, double bound, const Kernel& kernel) {
  for (const Case& one : cases) {
    if (one.doubled && tile == 4) continue;
    Random random;
    WinogradJob job{.batch = one.batch, .height = one.height, .width = one.width};
    job.tile = tile;
    job.channels_in = one.in, job.channels_out = one.out, job.doubled = one.doubled;
    const std::int64_t pixels = one.batch * one.height * one.width;
    const auto input = random.halves(at((one.doubled ? pixels / 4 : pixels) * one.in));
    const auto weights = random.floats(at(one.out * one.in * 9), 1 / std::sqrt(9.0 * static_cast<double>(one.in)));
    const auto bias = random.floats(at(one.batch * one.out));
    const auto factors = random.floats(at(one.batch * one.in)), offsets = random.floats(at(one.batch * one.in));
    const auto residual = random.halves(at(pixels * one.out));
    job.input = input.data(), job.bias = bias.data(), job.bias_per_item = one.per_item;
    if (one.activated) job.factors = factors.data(), job.offsets = offsets.data();
    if (one.residual) job.residual = residual.data();
    std::vector<Bf16> first(at(pixels * one.out)), second(first.size());
    job.output = first.data();
    kernel(job, weights, threads(1));
    job.output = second.data();
    kernel(job, weights, threads(3));
    CHECK(error(first, convolved(job, weights)) < bound);
    CHECK(first == second);
  }
}

}  // namespace

TEST(winograd_in_bf16_equals_the_sum_over_nine_taps) {
  if (!multiplies_bf16()) return;
  for (const auto& [tile, bound] : {std::pair<std::int64_t, double>{2, 2 * rounding}, {4, 3.5 * rounding}}) {
    compare(tile, bound, [](const WinogradJob& job, const std::vector<float>& weights, const Parallel& parallel) {
      std::vector<Bf16> packed(winograd_weight_count(job.channels_out, job.channels_in, job.tile));
      pack_winograd_weights(weights.data(), job.channels_out, job.channels_in, job.tile, packed.data(), parallel);
      winograd_conv(job, packed.data(), parallel);
    });
  }
}

TEST(winograd_in_int8_equals_the_sum_over_nine_taps) {
  if (!multiplies_int8()) return;
  compare(2, 0.03, [](const WinogradJob& job, const std::vector<float>& weights, const Parallel& parallel) {
    std::vector<std::int8_t> values(winograd_weight_count(job.channels_out, job.channels_in));
    std::vector<float> scales(at(16 * job.channels_out));
    std::vector<std::int32_t> offsets(scales.size());
    pack_winograd_int8(weights.data(), job.channels_out, job.channels_in, values.data(), scales.data(), offsets.data(), parallel);
    winograd_int8(job, {values.data(), scales.data(), offsets.data()}, parallel);
  });
}

// Products of small whole numbers lose nothing: weights that are multiples of four stay whole in the taps.
TEST(winograd_in_int8_is_exact_where_bytes_hold_the_taps) {
  if (!multiplies_int8()) return;
  WinogradJob job{.batch = 1, .height = 4, .width = 4, .channels_in = 32, .channels_out = 32};
  std::vector<Bf16> input(at(16 * 32)), output(input.size());
  for (std::size_t i = 0; i < input.size(); i += 32) input[i] = bf16_of(i % 64 == 0 ? 1.0F : 0.0F);
  std::vector<float> weights(at(32 * 32 * 9)), bias(32);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = i % (32 * 9) == 4 ? 4.0F : 0.0F;  // the middle of channel 0
  job.input = input.data(), job.bias = bias.data(), job.output = output.data();
  std::vector<std::int8_t> values(winograd_weight_count(32, 32));
  std::vector<float> scales(at(16 * 32));
  std::vector<std::int32_t> offsets(scales.size());
  pack_winograd_int8(weights.data(), 32, 32, values.data(), scales.data(), offsets.data(), threads(1));
  winograd_int8(job, {values.data(), scales.data(), offsets.data()}, threads(1));
  for (std::size_t i = 0; i < output.size(); ++i) CHECK(float_of(output[i]) == 4 * float_of(input[i / 32 * 32]));
}

TEST(winograd_in_int8_takes_zeros_and_keeps_infinity) {
  if (!multiplies_int8()) return;
  WinogradJob job{.batch = 1, .height = 2, .width = 2, .channels_in = 32, .channels_out = 32};
  std::vector<Bf16> input(at(4 * 32)), output(input.size());
  std::vector<float> weights(at(32 * 32 * 9), 1.0F), bias(32, 2.0F), scales(at(16 * 32));
  std::vector<std::int8_t> values(winograd_weight_count(32, 32));
  std::vector<std::int32_t> offsets(scales.size());
  job.input = input.data(), job.bias = bias.data(), job.output = output.data();
  pack_winograd_int8(weights.data(), 32, 32, values.data(), scales.data(), offsets.data(), threads(1));
  const WinogradInt8 packed{values.data(), scales.data(), offsets.data()};
  winograd_int8(job, packed, threads(1));
  for (const Bf16 one : output) CHECK(float_of(one) == 2.0F);
  for (const float bad : {INFINITY, std::nanf("")}) {
    input[5] = bf16_of(bad);
    winograd_int8(job, packed, threads(1));
    CHECK(!std::isfinite(float_of(output[0])));
  }
}

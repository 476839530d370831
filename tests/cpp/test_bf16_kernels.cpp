// Winograd's convolution, group norm with SiLU, and attention in bfloat16, against float64 loops.
#include <cmath>
#include <random>
#include <thread>
#include <vector>

#include "csrc/cpu/attention.h"
#include "csrc/cpu/norm_silu.h"
#include "csrc/cpu/winograd_conv.h"
#include "tests/cpp/check.h"

namespace {

using namespace hoirt::cpu;
using Values = std::vector<double>;

constexpr double rounding = 0x1p-8;  // of bfloat16

// In `parts` pieces, each on a thread of its own.
Parallel threads(std::int64_t parts) {
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
double error(const std::vector<Bf16>& found, const Values& expected) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double delta = static_cast<double>(float_of(found[i])) - expected[i];
    difference += delta * delta, size += expected[i] * expected[i];
  }
  return std::sqrt(difference / size);
}

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

Values convolved(const WinogradConv& conv, const std::vector<float>& weights) {
  Values out;
  for (std::int64_t i = 0; i < conv.batch * conv.height * conv.width; ++i) {
    const std::int64_t n = i / (conv.height * conv.width), y = i / conv.width % conv.height, x = i % conv.width;
    for (std::int64_t to = 0; to < conv.channels_out; ++to) {
      double sum = static_cast<double>(conv.bias[to]);
      for (std::int64_t tap = 0; tap < 9; ++tap) {
        const std::int64_t row = y + tap / 3 - 1, column = x + tap % 3 - 1;
        if (row < 0 || column < 0 || row >= conv.height || column >= conv.width) continue;
        const Bf16* pixel = conv.input + ((n * conv.height + row) * conv.width + column) * conv.channels_in;
        for (std::int64_t from = 0; from < conv.channels_in; ++from) {
          sum += static_cast<double>(float_of(pixel[from])) *
                 static_cast<double>(weights[at((to * conv.channels_in + from) * 9 + tap)]);
        }
      }
      out.push_back(sum);
    }
  }
  return out;
}

}  // namespace

TEST(bf16_rounds_to_nearest_even) {
  CHECK(float_of(bf16_of(1.0F)) == 1.0F);
  CHECK(float_of(bf16_of(1.0F + 0x1p-8F)) == 1.0F);
  CHECK(float_of(bf16_of(1.0F + 0x1.8p-7F)) == 1.0F + 0x1p-6F);
  CHECK(std::isnan(float_of(bf16_of(std::nanf("")))));
  CHECK(std::isinf(float_of(bf16_of(INFINITY))));
}

TEST(winograd_convolution_equals_the_sum_over_nine_taps) {
  if (!multiplies_bf16()) return;
  const std::int64_t sizes[][5] = {{1, 1, 1, 32, 32}, {2, 7, 10, 64, 96}, {1, 2, 3, 96, 32}, {3, 16, 5, 32, 64}, {1, 40, 40, 32, 32}};
  for (const auto& [batch, height, width, in, out] : sizes) {
    Random random;
    const auto input = random.halves(at(batch * height * width * in));
    const auto weights = random.floats(at(out * in * 9), 1 / std::sqrt(9.0 * static_cast<double>(in)));
    const auto bias = random.floats(at(out));
    std::vector<Bf16> packed(winograd_weight_count(out, in));
    pack_winograd_weights(weights.data(), out, in, packed.data(), threads(2));
    WinogradConv conv{batch, height, width, in, out, input.data(), packed.data(), bias.data(), nullptr};
    std::vector<Bf16> first(at(batch * height * width * out)), second(first.size());
    conv.output = first.data();
    winograd_conv(conv, threads(1));
    conv.output = second.data();
    winograd_conv(conv, threads(3));
    CHECK(error(first, convolved(conv, weights)) < 2 * rounding);
    CHECK(first == second);
  }
}

TEST(norm_silu_equals_the_formula) {
  if (!multiplies_bf16()) return;
  const std::int64_t sizes[][4] = {{1, 1, 16, 2}, {2, 150, 64, 8}, {1, 1000, 96, 32}};
  for (const auto& [batch, pixels, channels, groups] : sizes) {
    Random random;
    const auto input = random.halves(at(batch * pixels * channels), 20);  // a mean far above the deviation
    const auto scale = random.floats(at(channels)), shift = random.floats(at(channels));
    std::vector<Bf16> first(input.size()), second(input.size());
    NormSilu norm{batch, pixels, channels, groups, 1e-5F, input.data(), scale.data(), shift.data(), first.data()};
    norm_silu(norm, threads(1));
    norm.output = second.data();
    norm_silu(norm, threads(4));
    CHECK(first == second);
    Values expected(input.size());
    const std::int64_t width = channels / groups;
    for (std::int64_t item = 0; item < batch * groups; ++item) {
      const std::int64_t start = item / groups * pixels * channels + item % groups * width;
      const auto value = [&](std::int64_t i) {
        return static_cast<double>(float_of(input[at(start + i / width * channels + i % width)]));
      };
      double mean = 0, variance = 0;
      for (std::int64_t i = 0; i < pixels * width; ++i) mean += value(i) / static_cast<double>(pixels * width);
      for (std::int64_t i = 0; i < pixels * width; ++i) {
        variance += (value(i) - mean) * (value(i) - mean) / static_cast<double>(pixels * width);
      }
      for (std::int64_t i = 0; i < pixels * width; ++i) {
        const std::size_t channel = at(item % groups * width + i % width);
        const double z = (value(i) - mean) / std::sqrt(variance + 1e-5) * static_cast<double>(scale[channel]) +
                         static_cast<double>(shift[channel]);
        expected[at(start + i / width * channels + i % width)] = z / (1 + std::exp(-z));
      }
    }
    CHECK(error(first, expected) < rounding);
  }
}

TEST(attention_equals_softmax) {
  if (!multiplies_bf16()) return;
  // Lengths around the blocks of 32 queries and 64 keys; a scale that makes some keys win by far.
  const std::int64_t sizes[][5] = {{1, 1, 1, 1, 8}, {2, 45, 77, 2, 40}, {1, 64, 64, 3, 16}, {1, 33, 129, 1, 160}};
  for (const float scale : {0.1F, 4.0F}) {
    for (const auto& [batch, queries, keys, heads, size] : sizes) {
      Random random;
      const std::int64_t width = heads * size;
      const auto q = random.halves(at(batch * queries * width)), k = random.halves(at(batch * keys * width)),
                 v = random.halves(at(batch * keys * width));
      std::vector<Bf16> first(q.size()), second(q.size());
      Attention job{batch, queries, keys, heads, size, scale, q.data(), k.data(), v.data(), first.data()};
      attention(job, threads(1));
      job.output = second.data();
      attention(job, threads(3));
      CHECK(first == second);
      Values expected(q.size());
      for (std::int64_t i = 0; i < batch * queries * heads; ++i) {
        const std::int64_t item = i / (queries * heads), head = i % heads, row = i / heads;
        Values weights(at(keys));
        double most = -1e300, total = 0;
        for (std::int64_t key = 0; key < keys; ++key) {
          for (std::int64_t j = 0; j < size; ++j) {
            weights[at(key)] += static_cast<double>(scale) * static_cast<double>(float_of(q[at(row * width + head * size + j)])) *
                                static_cast<double>(float_of(k[at((item * keys + key) * width + head * size + j)]));
          }
          most = std::max(most, weights[at(key)]);
        }
        for (auto& one : weights) total += one = std::exp(one - most);
        for (std::int64_t key = 0; key < keys; ++key) {
          for (std::int64_t j = 0; j < size; ++j) {
            expected[at(row * width + head * size + j)] +=
                weights[at(key)] / total * static_cast<double>(float_of(v[at((item * keys + key) * width + head * size + j)]));
          }
        }
      }
      CHECK(error(first, expected) < rounding);
    }
  }
}

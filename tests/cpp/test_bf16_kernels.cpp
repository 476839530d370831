// Group norm with SiLU, and attention, in bfloat16 and int8, against float64 loops.
#include <vector>

#include "csrc/cpu/attention.h"
#include "csrc/cpu/attention_int8.h"
#include "csrc/cpu/norm_silu.h"
#include "csrc/cpu/winograd_int8.h"
#include "tests/cpp/check.h"
#include "tests/cpp/halves.h"

using namespace hoirt::cpu;

TEST(bf16_rounds_to_nearest_even) {
  CHECK(float_of(bf16_of(1.0F)) == 1.0F);
  CHECK(float_of(bf16_of(1.0F + 0x1p-8F)) == 1.0F);
  CHECK(float_of(bf16_of(1.0F + 0x1.8p-7F)) == 1.0F + 0x1p-6F);
  CHECK(std::isnan(float_of(bf16_of(std::nanf("")))));
  CHECK(std::isinf(float_of(bf16_of(INFINITY))));
}

TEST(norm_silu_equals_the_formula) {
  if (!multiplies_bf16()) return;
  const std::int64_t sizes[][4] = {{1, 1, 16, 2}, {2, 150, 64, 8}, {1, 1000, 96, 32}};
  for (const auto& [batch, pixels, channels, groups] : sizes) {
    Random random;
    const auto input = random.halves(at(batch * pixels * channels), 20);  // a mean far above the deviation
    const auto scale = random.floats(at(channels)), shift = random.floats(at(channels));
    std::vector<Bf16> first(input.size()), second(input.size());
    const GroupNorm norm{batch, pixels, channels, groups, 1e-5F, input.data(), scale.data(), shift.data()};
    for (auto [parts, out] : {std::pair(1, &first), std::pair(4, &second)}) {
      std::vector<float> factors(at(batch * channels)), offsets(factors.size());
      norm_coefficients(norm, factors.data(), offsets.data(), threads(parts));
      for (std::int64_t item = 0; item < batch; ++item) {
        const std::int64_t from = item * channels, start = from * pixels;
        silu(input.data() + start, pixels, channels, factors.data() + from, offsets.data() + from, out->data() + start);
      }
    }
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

namespace {

Values attended(const Attention& job) {
  const std::int64_t width = job.heads * job.size;
  Values out(at(job.batch * job.queries * width));
  for (std::int64_t i = 0; i < job.batch * job.queries * job.heads; ++i) {
    const std::int64_t item = i / (job.queries * job.heads), head = i % job.heads, row = i / job.heads;
    const auto place = [&](std::int64_t token, std::int64_t j) { return token * width + head * job.size + j; };
    Values weights(at(job.keys));
    double most = -1e300, total = 0;
    for (std::int64_t key = 0; key < job.keys; ++key) {
      for (std::int64_t j = 0; j < job.size; ++j) {
        weights[at(key)] += static_cast<double>(job.scale) * static_cast<double>(float_of(job.q[place(row, j)])) *
                            static_cast<double>(float_of(job.k[place(item * job.keys + key, j)]));
      }
      most = std::max(most, weights[at(key)]);
    }
    for (auto& one : weights) total += one = std::exp(one - most);
    for (std::int64_t key = 0; key < job.keys; ++key) {
      for (std::int64_t j = 0; j < job.size; ++j) {
        out[at(place(row, j))] +=
            weights[at(key)] / total * static_cast<double>(float_of(job.v[place(item * job.keys + key, j)]));
      }
    }
  }
  return out;
}

// Lengths around the blocks of 32 queries, and of 64 and 128 keys; a scale that makes some keys win by far. Keys have a
// mean, as real ones do. Bits must not depend on the threads.
template <typename Kernel>
void compare(Kernel kernel, double bound, double sharp_bound) {
  const std::int64_t sizes[][5] = {{1, 1, 1, 1, 8}, {2, 45, 77, 2, 40}, {1, 64, 64, 3, 16}, {1, 33, 129, 1, 160}, {1, 40, 300, 2, 24}};
  for (const float scale : {0.1F, 4.0F}) {
    for (const auto& [batch, queries, keys, heads, size] : sizes) {
      Random random;
      const std::int64_t width = heads * size;
      const auto q = random.halves(at(batch * queries * width)), k = random.halves(at(batch * keys * width), 3),
                 v = random.halves(at(batch * keys * width));
      std::vector<Bf16> first(q.size()), second(q.size());
      Attention job{batch, queries, keys, heads, size, scale / std::sqrt(static_cast<float>(size)),
                    q.data(), k.data(), v.data(), first.data()};
      kernel(job, threads(1));
      job.output = second.data();
      kernel(job, threads(3));
      CHECK(first == second);
      CHECK(error(first, attended(job)) < (scale > 1 ? sharp_bound : bound));
    }
  }
}

}  // namespace

TEST(attention_equals_softmax) {
  if (multiplies_bf16()) compare(attention, rounding, rounding);
}

TEST(attention_in_int8_equals_softmax) {
  if (multiplies_int8()) compare(attention_int8, 0.01, 0.06);
}

// Scores of -800 for seven keys: a maximum taken of the padding, which is far higher, would leave no weights.
TEST(attention_takes_scores_far_below_zero) {
  constexpr std::int64_t keys = 7, size = 8;
  Random random;
  const auto v = random.halves(at(keys * size));
  std::vector<Bf16> q(size, bf16_of(10.0F)), k(at(keys * size), bf16_of(-10.0F)), out(size);
  const Attention job{1, 1, keys, 1, size, 1.0F, q.data(), k.data(), v.data(), out.data()};
  if (multiplies_bf16()) {
    attention(job, threads(1));
    CHECK(error(out, attended(job)) < rounding);
  }
  if (multiplies_int8()) {
    attention_int8(job, threads(1));
    CHECK(error(out, attended(job)) < 0.01);
  }
}

// One key of weight 1 among many of 1/1000: together these weigh more, though none is worth half of a 255th.
TEST(attention_in_int8_sees_many_small_weights) {
  if (!multiplies_int8()) return;
  constexpr std::int64_t keys = 4096, size = 8;
  std::vector<Bf16> q(size, bf16_of(1.0F)), k(at(keys * size), bf16_of(0.0F)), v(at(keys * size), bf16_of(1.0F)), out(size);
  for (std::int64_t j = 0; j < size; ++j) k[at(j)] = bf16_of(std::log(1000.0F) / size), v[at(j)] = bf16_of(-1.0F);
  const Attention job{1, 1, keys, 1, size, 1.0F, q.data(), k.data(), v.data(), out.data()};
  attention_int8(job, threads(1));
  for (std::size_t j = 0; j < at(size); ++j) CHECK(std::abs(float_of(out[j]) - (4095.0F - 1000) / (4095 + 1000)) < 0.06F);
}

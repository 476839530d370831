// The functors: Philox against published vectors, the guided step and paste against formulas written out here.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "csrc/cpu/launchers.h"
#include "csrc/kernels/philox.h"
#include "tests/cpp/check.h"

using namespace hoirt;
using kernels::PhiloxWords;

// Known-answer vectors published with the generator (Random123, kat_vectors, philox4x32 10 rounds).
TEST(philox_known_answers) {
  struct Known {
    PhiloxWords counter;
    std::uint32_t key[2];
    PhiloxWords words;
  };
  const std::vector<Known> vectors{
      {{{0, 0, 0, 0}}, {0, 0}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
      {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
       {0xffffffff, 0xffffffff},
       {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       {0xa4093822, 0x299f31d0},
       {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
  };
  for (const Known& known : vectors) {
    const PhiloxWords words = kernels::philox4x32(known.counter, known.key[0], known.key[1]);
    for (int k = 0; k < 4; ++k) CHECK(words.word[k] == known.words.word[k]);
  }
}

TEST(philox_normals_use_the_documented_counter) {
  const std::uint64_t seed = 0x0123456789abcdefu;
  const Tensor normals = cpu::philox_normal(seed, 5, {11});
  for (std::uint32_t block = 0; block < 3; ++block) {
    const PhiloxWords words = kernels::philox4x32({{block, 0, 5, 0}}, 0x89abcdefu, 0x01234567u);
    for (std::uint32_t k = 0; k < 4 && 4 * block + k < 11; ++k) {
      const double u = (words.word[k / 2 * 2] + 0.5) / 4294967296.0;
      const double v = (words.word[k / 2 * 2 + 1] + 0.5) / 4294967296.0;
      const double angle = 2.0 * std::acos(-1.0) * v;
      const double wanted = std::sqrt(-2.0 * std::log(u)) * (k % 2 ? std::sin(angle) : std::cos(angle));
      CHECK(std::abs(normals.data<float>()[4 * block + k] - wanted) < 1e-6);
    }
  }
}

TEST(philox_normals_stay_finite_at_the_extreme_words) {
  for (const std::uint32_t word : {0u, 0xffffffffu}) {
    const auto pair = kernels::box_muller(word, word);
    CHECK(std::isfinite(pair.first) && std::isfinite(pair.second));
  }
}

// Both ends, both sides of one half, every eighth of a turn, and words from everywhere.
TEST(radius_and_angle_are_as_exact_as_float32_allows) {
  const auto checked = [](std::uint32_t word) {
    const long double u = (word + 0.5L) * 0x1p-32L, angle = 2 * std::acos(-1.0L) * u;
    const long double radius = std::sqrt(-2 * std::log(u)), sine = std::sin(angle), cosine = std::cos(angle);
    const auto [sin, cos] = kernels::sin_cos_of(word);
    CHECK(std::abs(kernels::radius_of(word) - radius) <= 1.6e-7L * radius);
    CHECK(std::abs(sin - sine) <= 2e-7L * std::abs(sine) && std::abs(cos - cosine) <= 2e-7L * std::abs(cosine));
  };
  for (std::uint32_t eighth = 0; eighth < 8; ++eighth) {
    for (std::uint32_t k = 0; k < 40'000; ++k) checked(0x20000000U * eighth + k - 20'000);
  }
  for (std::uint32_t k = 0; k < 400'000; ++k) checked(2654435761U * k);
  for (std::uint32_t bits = 0; bits < 32; ++bits) checked(1U << bits), checked(~(1U << bits));
}

TEST(roots_on_cuda_are_rounded_once) {
  for (std::uint32_t bits = 0x3F800000U; bits < 0x40800000U; bits += 7) {  // 1..4; other exponents are the same
    const auto value = __builtin_bit_cast(float, bits);
    const auto inverse = static_cast<float>(1.0 / std::sqrt(static_cast<double>(value)));
    CHECK(kernels::corrected_root(value, inverse) == std::sqrt(value));
  }
}

TEST(vector_code_of_the_normals_is_the_functor) {
  const std::int64_t size = 4 * 256 * 2 + 7;  // two whole runs and a part
  const Tensor fast = cpu::philox_normal(0x123456789abcdefu, 11, {size});
  for (const std::size_t shift : {0u, 1u}) {  // with stores of 16 bytes, and without
    Tensor slow({size + 1}, DType::f32);
    const kernels::PhiloxFill fill{0x123456789abcdefu, 11, slow.data<float>() + shift, size};
    for (std::int64_t block = 0; 4 * block < size; ++block) fill(block);
    CHECK(std::memcmp(fast.raw(), slow.data<float>() + shift, fast.bytes()) == 0);
  }
}

// Every combination of what a row may leave out, over two chunks and a part; noise given and drawn.
TEST(vector_code_of_the_guided_step_is_the_functor) {
  const std::int64_t items = 2, size = 2 * 1024 + 3;
  const std::size_t all = static_cast<std::size_t>(items * size);
  const auto field = [all](std::uint32_t stream) {
    std::vector<float> values(all);
    std::memcpy(values.data(), cpu::philox_normal(5, stream, {static_cast<std::int64_t>(all)}).raw(), 4 * all);
    return values;
  };
  const auto x = field(0), u = field(1), c = field(2), p = field(3), z = field(4), n = field(5), k = field(6);
  auto m = field(7);
  for (float& value : m) value = value < -0.5f ? 0.0f : value > 0.5f ? 1.0f : value + 0.5f;
  const std::vector<std::uint64_t> seeds{7, 8};
  for (unsigned bits = 0; bits < 512; ++bits) {
    kernels::GuidedStep step;
    step.guidance = 2.5, step.A = 1.1, step.B = -0.4, step.C = 0.3, step.D = 0.8, step.E = bits & 1 ? -0.2 : 0.0;
    step.F = bits & 2 ? 0.5 : 0.0, step.G = 0.7, step.H = bits & 4 ? 0.6 : 0.0, step.clip = bits & 8 ? 1.2 : 0.0;
    step.items = items, step.item_size = size;
    step.state = bits & 16 ? x.data() : nullptr;
    step.conditional = bits & 32 ? c.data() : nullptr;
    step.unconditional = bits & 64 ? u.data() : nullptr;
    step.previous_clean = bits & 1 ? p.data() : nullptr;
    if (bits & 128) step.mask = m.data(), step.known = z.data();
    const bool given = bits & 256;
    step.noise = {given ? n.data() : nullptr, seeds.data(), 3};
    step.known_noise = {given ? k.data() : nullptr, seeds.data(), 4};
    std::vector<float> next(all), copy(all), clean(all), wanted(all), wanted_clean(all);
    step.next = wanted.data(), step.clean = wanted_clean.data();
    for (std::int64_t item = 0; item < items; ++item) {
      for (std::int64_t block = 0; block < step.spans(); ++block) step(item, block);
    }
    step.next = next.data(), step.clean = bits & 16 ? clean.data() : nullptr, step.copy = copy.data();
    cpu::guided_step(step);
    CHECK(next == wanted && copy == wanted);
    CHECK(!step.clean || clean == wanted_clean);
  }
}

TEST(guided_step_is_its_formula) {
  const std::size_t size = 7;  // not a multiple of four
  std::vector<float> x(2 * size), u(2 * size), c(2 * size), p(2 * size), m(2 * size), z(2 * size), n(2 * size), k(2 * size);
  for (std::size_t i = 0; i < 2 * size; ++i) {
    const auto t = static_cast<float>(i);
    x[i] = std::sin(t), u[i] = std::cos(t), c[i] = std::sin(2 * t), p[i] = std::cos(3 * t);
    m[i] = i % 3 == 0 ? 0.0f : i % 3 == 1 ? 1.0f : 0.25f;
    z[i] = t / 10, n[i] = std::sin(5 * t), k[i] = std::cos(7 * t);
  }
  kernels::GuidedStep step;
  step.guidance = 3, step.A = 1.5, step.B = -0.7, step.C = 0.2, step.D = 0.6, step.E = -0.1, step.F = 0.3;
  step.G = 0.9, step.H = 0.4, step.clip = 1.1;
  std::vector<float> next(2 * size), copy(2 * size), clean(2 * size);
  step.state = x.data(), step.unconditional = u.data(), step.conditional = c.data(), step.previous_clean = p.data();
  step.mask = m.data(), step.known = z.data(), step.noise.given = n.data(), step.known_noise.given = k.data();
  step.next = next.data(), step.copy = copy.data(), step.clean = clean.data();
  step.items = 2, step.item_size = size;
  cpu::guided_step(step);
  for (std::size_t i = 0; i < 2 * size; ++i) {
    const double out = u[i] + 3.0 * (double{c[i]} - u[i]);
    const double x0 = std::fmin(std::fmax(1.5 * x[i] - 0.7 * out, -1.1), 1.1);
    const double free = 0.2 * x[i] + 0.6 * x0 - 0.1 * p[i] + 0.3 * n[i];
    const double wanted = m[i] * free + (1.0 - m[i]) * (0.9 * z[i] + 0.4 * k[i]);
    CHECK(std::abs(next[i] - wanted) < 1e-6);
    CHECK(std::abs(clean[i] - x0) < 1e-6);
    CHECK(copy[i] == next[i]);
  }
}

TEST(paste_cuts_at_every_border) {
  const std::int64_t huge = INT64_MAX;
  Tensor picture({4, 5, 3}, DType::u8), patch({3, 3, 3}, DType::f32), alpha({3, 3}, DType::f32);
  for (std::size_t i = 0; i < patch.size(); ++i) patch.data<float>()[i] = 200.0f;
  for (std::size_t i = 0; i < alpha.size(); ++i) alpha.data<float>()[i] = 1.0f;
  for (const std::int64_t top : {INT64_MIN, -huge, std::int64_t{-4}, std::int64_t{-2}, std::int64_t{2}, std::int64_t{9}, huge}) {
    for (const std::int64_t left : {INT64_MIN, std::int64_t{-1}, std::int64_t{3}, huge}) {
      const Tensor out = cpu::paste(picture, patch, alpha, top, left);
      for (std::int64_t y = 0; y < 4; ++y) {
        for (std::int64_t x = 0; x < 5; ++x) {
          const bool inside = y >= top && x >= left && y - 3 < top && x - 3 < left;
          CHECK(out.data<std::uint8_t>()[3 * (5 * y + x)] == (inside ? 200 : 0));
        }
      }
    }
  }
}

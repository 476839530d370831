// Half precision, packed accesses and their tails, copies and broadcasts: the arithmetic and branches that CUDA runs.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "csrc/cpu/launchers.h"
#include "csrc/kernels/pictures.h"
#include "tests/cpp/check.h"

using namespace hoirt;
using kernels::BFloat;
using kernels::Half;

namespace {

// The value of a float16, from its definition.
double value_of(Half half) {
  const int exponent = half.bits >> 10 & 31, mantissa = half.bits & 1023;
  const double sign = half.bits & 0x8000 ? -1 : 1;
  if (exponent == 31) return mantissa ? NAN : sign * HUGE_VAL;
  return sign * (exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24));
}

template <typename T>
std::vector<T> random_values(std::size_t count, std::uint32_t stream) {
  const Tensor normals = cpu::philox_normal(11, stream, {static_cast<std::int64_t>(count)});
  std::vector<T> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = kernels::from_float<T>(normals.data<float>()[i]);
  return values;
}

}  // namespace

TEST(half_precision_is_exact) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Half half{static_cast<std::uint16_t>(bits)};
    const double wanted = value_of(half);
    const float got = kernels::to_float(half);
    CHECK(std::isnan(wanted) ? std::isnan(got) : got == wanted && std::signbit(got) == std::signbit(wanted));
    const Half again = kernels::from_float<Half>(got);
    CHECK(std::isnan(wanted) ? std::isnan(value_of(again)) : again.bits == half.bits);
    // What lies between it and the next one goes to the nearer, a tie to the even one.
    const Half next{static_cast<std::uint16_t>(bits + 1)};
    if ((bits & 0x7FFF) >= 0x7BFF) continue;
    const double middle = (wanted + value_of(next)) / 2;
    const auto tie = static_cast<float>(middle);
    CHECK(kernels::from_float<Half>(tie).bits == (bits & 1 ? next.bits : half.bits));
    CHECK(kernels::from_float<Half>(std::nextafter(tie, got)).bits == half.bits);
    CHECK(kernels::from_float<Half>(std::nextafter(tie, static_cast<float>(value_of(next)))).bits == next.bits);
  }
  CHECK(kernels::from_float<Half>(65519.996f).bits == 0x7BFF && kernels::from_float<Half>(65520.0f).bits == 0x7C00);
  CHECK(kernels::from_float<Half>(-HUGE_VALF).bits == 0xFC00 && kernels::from_float<Half>(1e-30f).bits == 0);
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const BFloat value{static_cast<std::uint16_t>(bits)};
    const float wide = kernels::to_float(value);
    if (std::isnan(wide)) {
      CHECK(std::isnan(kernels::to_float(kernels::from_float<BFloat>(wide))));
      continue;
    }
    CHECK(kernels::from_float<BFloat>(wide).bits == bits);
    const auto tie = __builtin_bit_cast(float, bits << 16 | 0x8000U);
    if (!std::isnan(tie)) CHECK(kernels::from_float<BFloat>(tie).bits == bits + (bits & 1));
  }
}

// Packed and element by element, at every alignment, against the whole formula on floats; terms that are neutral may be
// left out, but not a bit may change, nor the sign of a zero.
template <typename T>
void check_steps(bool history, bool region) {
  constexpr std::int64_t span = kernels::GuidedStepOf<T>::span;
  const std::vector<std::uint64_t> seeds{3, 4};
  for (const std::int64_t size : {span * 5, span * 5 + 3, std::int64_t{1}}) {
    for (const std::size_t shift : {0u, 1u}) {
      const auto all = static_cast<std::size_t>(2 * size);
      std::vector<std::vector<T>> fields;
      for (std::uint32_t i = 0; i < 6; ++i) fields.push_back(random_values<T>(all + 16, i));
      for (auto& field : fields) std::fill_n(field.begin() + 8, 4, kernels::from_float<T>(-0.0F));
      // Memory that begins at a multiple of 16, or an element behind one.
      const auto at = [shift](std::vector<T>& values) {
        auto address = reinterpret_cast<std::uintptr_t>(values.data());
        return reinterpret_cast<T*>((address + 15) / 16 * 16) + shift;
      };
      std::vector<T> next(all + 16), copy(all + 16), clean(all + 16);
      kernels::GuidedStepOf<T> step;
      step.guidance = 2, step.A = 1.1, step.B = -0.4, step.C = 0.3, step.D = 0.8, step.E = 0.1, step.F = 0.2;
      step.G = 0.7, step.H = 0.6, step.clip = 1.5;
      step.items = 2, step.item_size = size;
      step.state = at(fields[0]), step.unconditional = at(fields[1]), step.conditional = at(fields[2]);
      step.previous_clean = at(fields[3]), step.mask = at(fields[4]), step.known = at(fields[5]);
      step.noise = {nullptr, seeds.data(), 5}, step.known_noise = {nullptr, seeds.data(), 6};
      if (!history) step.previous_clean = nullptr, step.E = step.F = 0;
      if (!region) step.mask = step.known = nullptr;
      step.next = at(next), step.copy = at(copy), step.clean = at(clean);
      CHECK(step.packs() == (shift == 0 && size % span == 0));
      for (const bool vectors : {true, false}) {
        std::fill(next.begin(), next.end(), T{});
        if (vectors) cpu::guided_step(step);
        for (std::int64_t i = 0; !vectors && i < 2 * step.spans(); ++i) {
          const std::int64_t item = i / step.spans(), span_of_item = i % step.spans();
          if (step.packs()) step.template operator()<true>(item, span_of_item);
          else step(item, span_of_item);
        }
        for (std::int64_t item = 0; item < 2; ++item) {
          const Tensor n = cpu::philox_normal(seeds[static_cast<std::size_t>(item)], 5, {size});
          const Tensor k = cpu::philox_normal(seeds[static_cast<std::size_t>(item)], 6, {size});
          for (std::int64_t i = 0; i < size; ++i) {
            const auto value = [&](const T* from, double absent = 0) {
              return from ? static_cast<double>(kernels::to_float(from[item * size + i])) : absent;
            };
            const auto out = step.formula({value(step.state), value(step.unconditional), value(step.conditional),
                                           value(step.previous_clean), history ? n.data<float>()[i] : 0, value(step.mask, 1),
                                           value(step.known), region ? k.data<float>()[i] : 0},
                                          step.limit());
            const auto same = [&](const T* got, float wanted) {
              const T rounded = kernels::from_float<T>(wanted);
              return std::memcmp(got + item * size + i, &rounded, sizeof(T)) == 0;
            };
            CHECK(same(step.next, out.next) && same(step.copy, out.next) && same(step.clean, out.clean));
          }
        }
      }
    }
  }
}

TEST(guided_steps_in_every_precision_and_alignment) {
  for (const bool history : {true, false}) {
    for (const bool region : {true, false}) {
      check_steps<float>(history, region);
      check_steps<Half>(history, region);
      check_steps<BFloat>(history, region);
    }
  }
}

TEST(guided_step_says_what_is_not_finite) {
  std::vector<Half> state(8, kernels::from_float<Half>(60000.0f)), next(8);
  kernels::GuidedStepOf<Half> step;
  step.items = 1, step.item_size = 8, step.C = 1, step.state = state.data(), step.next = next.data();
  CHECK(step(0, 0));
  step.C = 1.2;  // above the largest float16
  CHECK(!step(0, 0));
}

TEST(a_step_takes_its_row_from_memory) {
  std::vector<float> x{1, 2, 3, 4, 5}, y(5), z(5, 7), m{1, 0, 1, 0, 0.5f}, noise(20, 0.5f), other(5), clean(5);
  kernels::StepRow row;
  row.A = 1, row.C = 0.5, row.F = 1, row.G = 1, row.noise_at = 5;
  kernels::GuidedStep frame;
  frame.items = 1, frame.item_size = 5, frame.state = x.data(), frame.next = y.data(), frame.copy = other.data();
  frame.clean = clean.data(), frame.previous_clean = clean.data(), frame.mask = m.data(), frame.known = z.data();
  frame.noise.given = frame.known_noise.given = noise.data();
  noise[5] = 2;
  kernels::GuidedStep step = frame;
  step.take(row);
  CHECK(step.mask == nullptr && step.copy == nullptr && step.clean == nullptr && step.previous_clean == nullptr);
  CHECK(step.noise.given == noise.data() + 5 && step.known_noise.given == nullptr);
  cpu::guided_step(step);
  CHECK(y == (std::vector<float>{2.5f, 1.5f, 2.0f, 2.5f, 3.0f}) && other[0] == 0 && clean[0] == 0);
  row.known_region = row.copies = row.keeps_clean = true, row.F = 0, row.noise_at = -1;
  step = frame;
  step.take(row);
  cpu::guided_step(step);
  CHECK(y == (std::vector<float>{0.5f, 7.0f, 1.5f, 7.0f, 4.75f}) && other == y && clean == x);
}

TEST(copies_of_items_at_every_width) {
  std::vector<std::byte> source(4096), target(4096), wanted(4096);
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 7 + i / 256);
  const auto aligned = [](std::vector<std::byte>& bytes) {
    return reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(bytes.data()) + 63) / 64 * 64);
  };
  int widths = 0;
  for (const std::int64_t item_bytes : {1, 2, 4, 6, 8, 15, 16, 20, 48, 100}) {
    for (const std::int64_t items : {1, 3}) {
      for (const std::int64_t shift : {0, 1, 2, 4, 8}) {
        for (const bool each : {false, true}) {
          kernels::StepRow row;
          row.index = 2;
          kernels::CopyItems copy{aligned(source) + shift, aligned(target) + shift, items, item_bytes,
                                  each ? item_bytes : 0,   &row,                    items * item_bytes};
          std::fill(target.begin(), target.end(), std::byte{0});
          cpu::copy_items(copy);
          wanted = target;
          std::fill(target.begin(), target.end(), std::byte{0});
          const int width = copy.width();
          widths |= width;
          const auto run = [&]<int bytes>() {
            for (std::int64_t item = 0; item < items; ++item) {
              for (std::int64_t piece = 0; piece < copy.pieces(bytes); ++piece) copy.template operator()<bytes>(item, piece);
            }
          };
          if (width == 16) run.operator()<16>();
          else if (width == 8) run.operator()<8>();
          else if (width == 4) run.operator()<4>();
          else if (width == 2) run.operator()<2>();
          else run.operator()<1>();
          CHECK(target == wanted);
          CHECK(std::memcmp(copy.to, copy.from + 2 * copy.row_bytes, static_cast<std::size_t>(item_bytes)) == 0);
        }
      }
    }
  }
  CHECK(widths == 31);
}

TEST(broadcast_is_counted_and_divided_the_same) {
  const std::vector<float> source{1, 2, 3, 4, 5, 6};
  std::vector<float> counted(48), divided(48);
  kernels::Broadcast broadcast{source.data(), counted.data(), 48, 4, {2, 4, 3, 2}, {3, 0, 1, 0}};
  cpu::broadcast(broadcast);
  broadcast.to = divided.data();
  for (std::int64_t i = 0; i < 48; ++i) broadcast(i);
  CHECK(counted == divided && counted[0] == 1 && counted[2] == 2 && counted[24] == 4 && counted[47] == 6);
}

TEST(colours_of_half_precision_planes) {
  const std::int64_t area = 12;
  const auto planes = random_values<BFloat>(2 * 3 * 12 + 16, 1);
  for (const std::int64_t shift : {0, 1}) {
    std::vector<float> out(2 * 3 * 12 + 16);
    std::int32_t flag = 1;
    cpu::colours({planes.data() + shift, out.data(), DType::bf16, 2, area, 127.5f, 127.5f, &flag});
    for (std::int64_t n = 0; n < 2; ++n) {
      for (std::int64_t i = 0; i < area; ++i) {
        for (std::int64_t c = 0; c < 3; ++c) {
          const float value = kernels::to_float(planes[static_cast<std::size_t>(shift + (3 * n + c) * area + i)]);
          CHECK(out[static_cast<std::size_t>(3 * (n * area + i) + c)] == std::fmin(std::fmax(value * 127.5f + 127.5f, 0), 255));
        }
      }
    }
    CHECK(flag == 1);
  }
}

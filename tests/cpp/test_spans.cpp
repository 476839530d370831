// The picture kernels in spans of 16 bytes, as CUDA runs them, against the CPU's way: every alignment, head and tail.
#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "csrc/cpu/launchers.h"
#include "csrc/kernels/picture_plan.h"
#include "tests/cpp/check.h"

using namespace hoirt;
using kernels::BFloat;
using kernels::Filter;
using kernels::Half;

namespace {

// What CUDA does with the plans, thread after thread.
class WideRunner : public kernels::HostLaunches {
 public:
  static constexpr bool wide = true;
  void* scratch(std::size_t bytes) { return memory_.emplace_back(Shape{static_cast<std::int64_t>(bytes)}, DType::u8).raw(); }
  void copy(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }

 private:
  std::vector<Tensor> memory_;
};

// Memory that begins `shift` elements behind a multiple of 16 bytes and ends where the allocation does, so that the
// sanitizer sees who reads or writes beyond it. Before it lie bytes that nobody may change.
template <typename T>
class Array {
 public:
  Array(std::int64_t size, std::int64_t shift)
      : size_(static_cast<std::size_t>(size)), shift_(static_cast<std::size_t>(shift)), memory_(new T[size_ + shift_]) {
    std::memset(static_cast<void*>(memory_.get()), 0x5A, (size_ + shift_) * sizeof(T));
  }
  T* data() { return memory_.get() + shift_; }
  std::size_t size() const { return size_; }
  bool same(const Array& other) const {
    return std::memcmp(memory_.get() + shift_, other.memory_.get() + other.shift_, size_ * sizeof(T)) == 0;
  }
  bool untouched_before() const {
    const auto* bytes = reinterpret_cast<const unsigned char*>(memory_.get());
    for (std::size_t i = 0; i < shift_ * sizeof(T); ++i) {
      if (bytes[i] != 0x5A) return false;
    }
    return true;
  }

 private:
  std::size_t size_, shift_;
  std::unique_ptr<T[]> memory_;
};

std::uint32_t random_bits(std::uint32_t i) {
  const std::uint32_t mixed = (i + 1) * 2654435761u;
  return mixed ^ mixed >> 15;
}

Array<std::uint8_t> bytes(std::int64_t size, std::int64_t shift, std::uint32_t most = 255) {
  Array<std::uint8_t> made(size, shift);
  for (std::uint32_t i = 0; i < made.size(); ++i) made.data()[i] = static_cast<std::uint8_t>(random_bits(i) % (most + 1));
  return made;
}

// Values of low..high.
template <typename T = float>
Array<T> values(std::int64_t size, std::int64_t shift, float low = 0, float high = 255) {
  Array<T> made(size, shift);
  for (std::uint32_t i = 0; i < made.size(); ++i) {
    const float part = static_cast<float>(random_bits(i + 77) >> 8) / static_cast<float>(1 << 24);
    made.data()[i] = kernels::from_float<T>(low + (high - low) * part);
  }
  return made;
}

template <typename T>
constexpr std::int64_t elements_of_16_bytes = 16 / sizeof(T);

// Runs `wide` and `plain` with an output each; both must write the same and nothing else.
template <typename T, typename Wide, typename Plain>
void check_same(std::int64_t size, std::int64_t shift, const Wide& wide, const Plain& plain) {
  Array<T> got(size, shift), wanted(size, 0);
  WideRunner run;
  wide(run, got.data());
  plain(wanted.data());
  CHECK(got.same(wanted) && got.untouched_before());
}

template <typename T, int channels, int byte_count = 16>
void check_tiling() {
  using Spans = kernels::Spans<T, channels, byte_count>;
  Array<T> memory(16 * 100, 0);
  for (std::int64_t shift = 0; shift < 16; ++shift) {
    for (std::int64_t size = 0; size < 70; ++size) {
      const T* row = memory.data() + shift;
      std::int64_t next = 0;
      for (std::int64_t i = 0; i < Spans::most(size); ++i) {
        const kernels::Span span = Spans::at(row, size, i);
        if (span.count == 0) continue;
        CHECK(span.first == next && span.count <= Spans::width);
        CHECK(span.count < Spans::width || kernels::aligned_to(byte_count, row + span.first * channels));
        // Only the ends are shorter.
        CHECK(span.count == Spans::width || span.first == 0 || span.first + span.count == size);
        next = span.first + span.count;
      }
      CHECK(next == size);
    }
  }
}

}  // namespace

TEST(spans_cover_a_row_once_in_whole_pieces) {
  check_tiling<std::uint8_t, 1>();
  check_tiling<std::uint8_t, 3>();
  check_tiling<std::uint8_t, 3, 4>();
  check_tiling<Half, 1>();
  check_tiling<BFloat, 3>();
  check_tiling<float, 1>();
  check_tiling<float, 3>();
}

TEST(readers_give_every_element_at_every_alignment) {
  const auto check = []<typename T>(Array<T> array) {
    kernels::Reader<T> forward(array.data(), static_cast<std::int64_t>(array.size()));
    kernels::Reader<T> jumping = forward;
    const auto same = [](T a, T b) { return std::memcmp(&a, &b, sizeof(T)) == 0; };
    const auto check_run = [&]<int n>(std::size_t i, std::integral_constant<int, n>) {
      T run[n] = {};
      const int count = static_cast<int>(std::min<std::size_t>(n, array.size() - i));
      forward.template run<n>(array.data() + i, count, run);
      for (int k = 0; k < count; ++k) CHECK(same(run[k], array.data()[i + static_cast<std::size_t>(k)]));
    };
    for (std::size_t i = 0; i < array.size(); ++i) {
      const std::size_t far = i * 29 % array.size();
      CHECK(same(forward(array.data() + i), array.data()[i]) && same(jumping(array.data() + far), array.data()[far]));
      check_run(i, std::integral_constant<int, 4>());
      check_run(i, std::integral_constant<int, 12>());
      check_run(i, std::integral_constant<int, 16>());
    }
  };
  for (std::int64_t shift = 0; shift < 16; ++shift) {
    for (const std::int64_t size : {1, 15, 16, 40, 41, 90}) {
      check(bytes(size, shift));
      check(values<Half>(size, shift));
      check(values<float>(size, shift));
    }
  }
}

TEST(pictures_are_padded_in_spans) {
  for (const std::int64_t channels : {1, 3, 4}) {
    for (const std::int64_t width : {1, 7, 32, 45}) {
      for (const std::int64_t left : {0, 5, 16}) {
        for (const std::int64_t shift : {0, 1, 7}) {
          auto from = bytes(3 * width * channels, 2 * shift);
          const std::int64_t out_width = left + width + 9, size = 7 * out_width * channels;
          kernels::PadEdge pad{from.data(), nullptr, 3, width, 7, out_width, channels, 2, left};
          check_same<std::uint8_t>(
              size, shift, [&](auto& run, std::uint8_t* to) { pad.to = to, kernels::run_pad_edge(run, pad); },
              [&](std::uint8_t* to) { pad.to = to, cpu::pad_edge(pad); });
        }
      }
    }
  }
}

TEST(patches_are_pasted_in_spans) {
  for (const std::int64_t width : {5, 32, 53}) {
    for (const std::int64_t patch_width : {1, 16, 40}) {
      for (const std::int64_t left : {-50, -3, 0, 1, 16, 30, 60}) {
        for (const std::int64_t top : {-2, 3}) {
          for (const std::int64_t shift : {0, 1, 6}) {
            auto patch = values(4 * patch_width * 3, shift, -20, 280), alpha = values(4 * patch_width, 2 * shift, 0, 1);
            for (std::uint32_t i = 0; i < alpha.size(); ++i) {
              if (i / 20 % 2 || random_bits(i) % 4 == 0) alpha.data()[i] = 0;  // runs of it, and here and there
            }
            const auto below = [](std::uint8_t* to, std::int64_t size) {
              for (std::int64_t i = 0; i < size; ++i) to[i] = static_cast<std::uint8_t>(random_bits(static_cast<std::uint32_t>(i)));
            };
            const std::int64_t size = 6 * width * 3;
            kernels::Paste paste{nullptr, patch.data(), alpha.data(), 6, width, 4, patch_width, top, left};
            check_same<std::uint8_t>(
                size, shift,
                [&](auto& run, std::uint8_t* to) { below(to, size), paste.picture = to, kernels::run_paste(run, paste); },
                [&](std::uint8_t* to) { below(to, size), paste.picture = to, cpu::paste(paste); });
          }
        }
      }
    }
  }
}

TEST(posteriors_are_sampled_in_spans) {
  for (const std::int64_t size : {0, 1, 3, 16, 50}) {
    for (const std::int64_t shift : {0, 1, 2, 3}) {
      for (const bool noisy : {false, true}) {
        auto mean = values(size, 0, -3, 3), logvar = values(size, 1, -4, 1), noise = values(size, shift, -2, 2);
        kernels::SamplePosterior sample{mean.data(), logvar.data(), noisy ? noise.data() : nullptr, nullptr, size, 0.7f, 1.3f};
        check_same<float>(
            size, shift, [&](auto& run, float* to) { sample.out = to, kernels::run_sample_posterior(run, sample); },
            [&](float* to) { sample.out = to, cpu::sample_posterior(sample); });
        // In place.
        auto same = values(size, shift, -3, 3);
        Array<float> wanted(size, 0);
        sample.mean = same.data(), sample.out = wanted.data(), cpu::sample_posterior(sample);
        WideRunner run;
        sample.out = same.data(), kernels::run_sample_posterior(run, sample);
        CHECK(same.same(wanted));
      }
    }
  }
}

TEST(pictures_become_planes_and_colours_in_spans) {
  const auto check = []<typename T>(T, DType dtype) {
    for (const std::int64_t area : {1, 5, 16, 43, 64}) {
      for (std::int64_t shift = 0; shift < elements_of_16_bytes<T>; ++shift) {
        for (const std::int64_t channels : {1, 3}) {
          for (const bool with_holes : {false, true}) {
            auto pixels = bytes(2 * area * channels, shift);
            auto holes = bytes(2 * area, 3 - shift % 4, 1);
            NormaliseJob job{pixels.data(), with_holes ? holes.data() : nullptr, nullptr, dtype, 2, area, channels, 3, 127.5f, 1};
            check_same<T>(
                2 * 3 * area, shift, [&](auto& run, T* to) { job.planes = to, kernels::run_normalise(run, job); },
                [&](T* to) { job.planes = to, cpu::normalise(job); });
          }
        }
        auto planes = values<T>(2 * 3 * area, shift, -1.2f, 1.2f);
        for (const bool finite : {true, false}) {
          if (!finite) planes.data()[planes.size() - 1] = kernels::from_float<T>(HUGE_VALF);
          std::int32_t wide_flag = 1, flag = 1;
          check_same<float>(
              2 * area * 3, shift % 4,
              [&](auto& run, float* to) {
                kernels::run_colours(run, {planes.data(), to, dtype, 2, area, 127.5f, 127.5f, &wide_flag});
              },
              [&](float* to) { cpu::colours({planes.data(), to, dtype, 2, area, 127.5f, 127.5f, &flag}); });
          CHECK(flag == (finite ? 1 : 0) && wide_flag == flag);
        }
      }
    }
  };
  check(float{}, DType::f32);
  check(Half{}, DType::f16);
  check(BFloat{}, DType::bf16);
}

// What CUDA computes instead, for every byte; and where it would not be exact, it is not taken.
TEST(quotients_of_bytes_are_rounded_once) {
  std::vector<float> divisors{127.5f, 255, 1, 3, 0x1.fffffep0f, 0x1.000002p0f, 0x1p-99f, 0x1.fffffep99f};
  for (std::uint32_t i = 0; i < 20'000; ++i) {
    const std::uint32_t bits = random_bits(i);  // any sign and fraction, exponents -99..99
    divisors.push_back(__builtin_bit_cast(float, (bits & 0x807FFFFFU) | (28 + random_bits(i + 1) % 199) << 23));
  }
  for (const float divisor : divisors) {
    kernels::NormaliseTo<float> to{.divisor = divisor};
    CHECK(to.inverse != 0.0f);
    for (int byte = 0; byte < 256; ++byte) {
      CHECK(to.corrected_quotient(static_cast<std::uint8_t>(byte)) == static_cast<float>(byte) / divisor);
    }
  }
  for (const float divisor : {HUGE_VALF, -HUGE_VALF, NAN, 1e-44f, 3e38f}) {
    CHECK(kernels::NormaliseTo<float>{.divisor = divisor}.inverse == 0.0f);
  }
}

namespace {

template <typename T>
void check_resize(DType dtype) {
  const std::int64_t in_rows = 9, in_columns = 23;
  for (const std::int64_t channels : {1, 2, 3, 16}) {
    for (const auto& [rows, columns] : {std::pair{9, 23}, {9, 50}, {20, 23}, {31, 47}, {4, 6}, {1, 1}}) {
      for (const Filter filter : {Filter::nearest, Filter::bilinear, Filter::bicubic}) {
        for (const bool part : {false, true}) {
          for (const std::int64_t shift : {0, 1, 3}) {
            Array<T> from(0, 0);
            if constexpr (sizeof(T) == 1) from = bytes(in_rows * in_columns * channels, shift);
            else from = values(in_rows * in_columns * channels, shift);
            ResizeJob job{from.data(), nullptr, dtype, channels, {in_rows, rows, 0, in_rows, filter},
                          {in_columns, columns, 0, in_columns, filter}};
            if (part) job.rows.low = 2.5f, job.rows.high = 7.25f, job.columns.low = 3.1f, job.columns.high = 19.8f;
            check_same<T>(
                rows * columns * channels, 2 * shift, [&](auto& run, T* to) { job.to = to, kernels::run_resize(run, job); },
                [&](T* to) { job.to = to, cpu::resize(job); });
          }
        }
      }
    }
  }
}

}  // namespace

TEST(pictures_are_resized_in_spans) {
  check_resize<std::uint8_t>(DType::u8);
  check_resize<float>(DType::f32);
}

TEST(colours_are_matched_in_spans) {
  for (const auto& [height, width] : {std::pair{1, 1}, {4, 4}, {13, 22}, {32, 48}}) {
    for (const std::int64_t shift : {0, 1, 2, 3}) {
      for (const int holes : {0, 1, 2}) {  // none, some, nothing else
        const std::int64_t area = std::int64_t{height} * width;
        auto colours = values(3 * area, shift);
        auto original = bytes(3 * area, 2 * shift), hole = bytes(area, shift, 1);
        if (holes != 1) std::memset(hole.data(), holes, hole.size());
        ColourJob job{colours.data(), original.data(), hole.data(), nullptr, height, width};
        check_same<float>(
            3 * area, (shift + 1) % 4, [&](auto& run, float* to) { job.out = to, kernels::match_colours(run, job); },
            [&](float* to) { job.out = to, cpu::match_colours(job); });
      }
    }
  }
}

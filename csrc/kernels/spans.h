// Arrays in accesses of 16 bytes, wherever they begin and end. What is written divides into spans, one per thread: whole
// ones between multiples of 16 bytes, and what is left at both ends. What is read comes through a Reader.
#pragma once

#include <cstdint>

#include "csrc/kernels/element.h"
#include "csrc/kernels/host_device.h"

namespace hoirt::kernels {

// What n elements are read or written in: 16 bytes, or less if they are no multiple of 16.
template <typename T, int n>
struct Access {
  static constexpr int bytes = n * sizeof(T) % 16 == 0 ? 16 : static_cast<int>((n * sizeof(T)) & (~(n * sizeof(T)) + 1));
  static constexpr int width = bytes / static_cast<int>(sizeof(T));
  using Piece = Pack<T, width>;
};

// `count` elements, at most n. Wide if there are n and the address allows it, else one by one; a fixed number of rounds
// keeps `out` in registers.
template <int n, typename T>
HOIRT_HD void load(const T* from, int count, T* out) {
  using A = Access<T, n>;
  if (count == n && aligned_to(A::bytes, from)) {
    HOIRT_UNROLL
    for (int p = 0; p < n / A::width; ++p) {
      const auto piece = *reinterpret_cast<const typename A::Piece*>(from + p * A::width);
      for (int k = 0; k < A::width; ++k) out[p * A::width + k] = piece.values[k];
    }
    return;
  }
  HOIRT_UNROLL
  for (int k = 0; k < n; ++k) {
    if (k < count) out[k] = from[k];
  }
}
template <int n, typename T>
HOIRT_HD void store(T* to, int count, const T* values) {
  using A = Access<T, n>;
  if (count == n && aligned_to(A::bytes, to)) {
    HOIRT_UNROLL
    for (int p = 0; p < n / A::width; ++p) {
      typename A::Piece piece;
      for (int k = 0; k < A::width; ++k) piece.values[k] = values[p * A::width + k];
#ifdef __CUDA_ARCH__  // the compiler takes some of these stores apart otherwise
      if constexpr (A::bytes == 16) {
        __stwb(reinterpret_cast<uint4*>(to + p * A::width), __builtin_bit_cast(uint4, piece));
        continue;
      }
#endif
      *reinterpret_cast<typename A::Piece*>(to + p * A::width) = piece;
    }
    return;
  }
  HOIRT_UNROLL
  for (int k = 0; k < n; ++k) {
    if (k < count) to[k] = values[k];
  }
}

// Items of a row.
struct Span {
  std::int64_t first;
  int count;
};

// The spans of rows of items of so many elements each. A whole span begins at a multiple of `byte_count` and takes as many
// bytes per channel: 16, or fewer where what is read for them is so wide that a GPU's threads would lie far apart.
template <typename Element, int channel_count = 1, int byte_count = 16>
struct Spans {
  using T = Element;
  static constexpr int channels = channel_count, width = byte_count / sizeof(T), elements = width * channels;
  static_assert(channels % 2 == 1, "some item must begin at a multiple of a span's bytes, wherever the row begins");

  // How many spans `size` items make at most.
  HOIRT_HD static std::int64_t most(std::int64_t size) { return size > 0 ? (size + 2 * width - 2) / width : 0; }
  // The span `i` of a row of `size` items; it may be empty.
  HOIRT_HD static Span at(const T* row, std::int64_t size, std::int64_t i) {
    // How many items before the row's first the whole span begins: modulo 16 (and its divisors), channels^3 is the inverse
    // of channels.
    constexpr int inverse = channels * channels * channels % width;
    const auto offset = static_cast<int>(reinterpret_cast<std::uintptr_t>(row) / sizeof(T) % width);
    const std::int64_t begin = i * width - offset * inverse % width, end = begin + width < size ? begin + width : size;
    const std::int64_t first = begin < 0 ? 0 : begin;
    return {first, end > first ? static_cast<int>(end - first) : 0};
  }
  HOIRT_HD static void load(const T* row, Span span, T* out) {
    kernels::load<elements>(row + span.first * channels, span.count * channels, out);
  }
  HOIRT_HD static void store(T* row, Span span, const T* values) {
    kernels::store<elements>(row + span.first * channels, span.count * channels, values);
  }
};

// The elements of an array that nobody else writes meanwhile, in pieces of 16 bytes, of which the last stays in
// registers: neighbours cost one access, at any alignment. Where a piece would reach beyond the array, single elements.
template <typename T>
class Reader {
 public:
  HOIRT_HD Reader(const T* from, std::int64_t size)
      : begin_(reinterpret_cast<std::uintptr_t>(from)), end_(reinterpret_cast<std::uintptr_t>(from + size)) {}

  HOIRT_HD T operator()(const T* from) {
    const auto address = reinterpret_cast<std::uintptr_t>(from);
    const auto at = static_cast<int>(address % bytes);
    const std::uintptr_t piece = address - static_cast<std::uintptr_t>(at);
    if (piece != piece_) {
      if (piece < begin_ || piece + bytes > end_) return *from;
      words_ = __builtin_bit_cast(Words, *reinterpret_cast<const Pack<T, width>*>(from - at / static_cast<int>(sizeof(T))));
      piece_ = piece;
    }
    const std::uint64_t word = at < 8 ? words_.low : words_.high;
    return __builtin_bit_cast(T, static_cast<Bits>(word >> (8 * (at % 8))));
  }

  // `count` neighbours, at most n. All accesses are under way together.
  template <int n>
  HOIRT_HD void run(const T* from, int count, T* out) const {
    if (count == n && aligned_to(Access<T, n>::bytes, from)) return load<n>(from, n, out);
    constexpr int pieces = (n + 2 * width - 2) / width;  // that n neighbours may touch
    const auto address = reinterpret_cast<std::uintptr_t>(from);
    const std::uintptr_t first = address - address % bytes;
    if (count == n && first >= begin_ && first + pieces * bytes <= end_) return shifted<n, pieces>(from, out);
    HOIRT_UNROLL
    for (int k = 0; k < n; ++k) {
      if (k < count) out[k] = from[k];
    }
  }

 private:
  static constexpr int width = 16 / sizeof(T);
  static constexpr std::uintptr_t bytes = 16;
  template <int size, typename = void>
  struct BitsOf {
    using Type = std::uint8_t;
  };
  template <typename Unused>
  struct BitsOf<2, Unused> {
    using Type = std::uint16_t;
  };
  template <typename Unused>
  struct BitsOf<4, Unused> {
    using Type = std::uint32_t;
  };
  using Bits = typename BitsOf<sizeof(T)>::Type;
  static_assert(sizeof(Bits) == sizeof(T), "elements have 1, 2 or 4 bytes");
  struct Quad {
    std::uint32_t words[4];
  };

  // n neighbours out of the aligned pieces around them; every index is known when it is compiled, so all stay in registers.
  template <int n, int pieces>
  HOIRT_HD static void shifted(const T* from, T* out) {
    constexpr int count = n * static_cast<int>(sizeof(T)) / 4;  // words
    static_assert(n * sizeof(T) % 4 == 0 && count + 4 <= 4 * pieces);
    const auto at = static_cast<int>(reinterpret_cast<std::uintptr_t>(from) % bytes);
    const T* begin = from - at / static_cast<int>(sizeof(T));
    std::uint32_t words[4 * pieces];
    HOIRT_UNROLL
    for (int p = 0; p < pieces; ++p) {
      const Quad quad = __builtin_bit_cast(Quad, *reinterpret_cast<const Pack<T, width>*>(begin + p * width));
      for (int k = 0; k < 4; ++k) words[4 * p + k] = quad.words[k];
    }
    HOIRT_UNROLL
    for (int k = 0; k < count + 2; ++k) words[k] = at & 8 ? words[k + 2] : words[k];
    HOIRT_UNROLL
    for (int k = 0; k < count + 1; ++k) words[k] = at & 4 ? words[k + 1] : words[k];
    HOIRT_UNROLL
    for (int k = 0; k < count; ++k) {
      const std::uint64_t both = std::uint64_t{words[k + 1]} << 32 | words[k];
      words[k] = static_cast<std::uint32_t>(both >> (8 * (at & 3)));
    }
    constexpr int per_word = 4 / static_cast<int>(sizeof(T));
    HOIRT_UNROLL
    for (int k = 0; k < n; ++k) {
      const std::uint32_t word = words[k / per_word] >> (8 * static_cast<int>(sizeof(T)) * (k % per_word));
      out[k] = __builtin_bit_cast(T, static_cast<Bits>(word));
    }
  }
  struct Words {
    std::uint64_t low, high;
  };

  std::uintptr_t begin_, end_, piece_ = 1;  // no multiple of 16: nothing is read yet
  Words words_{};
};

}  // namespace hoirt::kernels

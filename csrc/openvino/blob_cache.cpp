// Files of the compiled-network cache: a key, a length and a hash guard every payload.
#include "csrc/openvino/blob_cache.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <fstream>
#include <system_error>
#include <type_traits>

namespace hoirt::openvino {
namespace {

// OpenVINO reads weights straight from the mapping, so the payload starts on a page.
constexpr std::size_t payload_alignment = 4096;
constexpr std::array<char, 16> magic = {'h', 'o', 'i', 'r', 't', '-', 'o', 'p', 'e', 'n', 'v', 'i', 'n', 'o', ' ', '1'};

struct Header {
  std::array<char, 16> magic;
  std::uint64_t key_bytes;
  std::uint64_t key_hash;
  std::uint64_t payload_bytes;
  std::uint64_t payload_hash;
};
static_assert(std::is_trivially_copyable_v<Header>);

std::size_t payload_offset(std::size_t key_bytes) {
  return (sizeof(Header) + key_bytes + payload_alignment - 1) / payload_alignment * payload_alignment;
}

std::string temporary_name(const std::filesystem::path& path) {
  static std::atomic<unsigned> serial{0};
  return path.string() + "." + std::to_string(getpid()) + "." + std::to_string(serial++) + ".tmp";
}

// To be kept const: a mapped tensor refuses to give a writable pointer.
ov::Tensor mapped(const std::filesystem::path& path, std::size_t offset) {
  return ov::read_tensor_data(path, ov::element::u8, ov::PartialShape::dynamic(1), offset);
}

}  // namespace

std::uint64_t hash_bytes(const void* data, std::size_t size) {
  // Four independent lanes of multiply and rotate: the memory, not the arithmetic, sets the pace.
  constexpr std::uint64_t odd = 0x9E3779B97F4A7C15U;
  std::array<std::uint64_t, 4> lanes = {1, 2, 3, 4};
  const auto* bytes = static_cast<const unsigned char*>(data);
  const auto mix = [](std::uint64_t lane, std::uint64_t word) { return std::rotl((lane ^ word) * odd, 29); };
  std::size_t at = 0;
  for (; at + 32 <= size; at += 32) {
    std::array<std::uint64_t, 4> words;
    std::memcpy(words.data(), bytes + at, 32);
    for (std::size_t i = 0; i < 4; ++i) lanes[i] = mix(lanes[i], words[i]);
  }
  std::uint64_t hash = mix(size, odd);
  for (const auto lane : lanes) hash = mix(hash, lane);
  for (; at < size; ++at) hash = mix(hash, bytes[at]);
  return hash ^ (hash >> 31);
}

std::uint64_t hash_file(const std::filesystem::path& path) {
  const ov::Tensor content = ov::read_tensor_data(path);
  return hash_bytes(content.data(), content.get_byte_size());
}

std::optional<ov::Tensor> load_blob(const std::filesystem::path& path, std::string_view key) {
  try {
    std::ifstream file(path, std::ios::binary);
    Header header{};
    if (!file.read(reinterpret_cast<char*>(&header), sizeof header) || header.magic != magic) return std::nullopt;
    if (header.key_bytes != key.size() || header.key_hash != hash_bytes(key.data(), key.size())) return std::nullopt;
    const std::size_t offset = payload_offset(key.size());
    if (std::filesystem::file_size(path) - offset != header.payload_bytes) return std::nullopt;
    const ov::Tensor payload = mapped(path, offset);
    if (payload.get_byte_size() != header.payload_bytes) return std::nullopt;
    if (hash_bytes(payload.data(), payload.get_byte_size()) != header.payload_hash) return std::nullopt;
    return payload;
  } catch (const std::exception&) {
    return std::nullopt;  // unreadable is the same as missing: the network is compiled anew
  }
}

bool store_blob(const std::filesystem::path& path, std::string_view key,
                const std::function<void(std::ostream&)>& write) noexcept {
  std::error_code failure;
  try {
    const std::filesystem::path temporary = temporary_name(path);
    try {
      if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), failure);
      std::string head(payload_offset(key.size()), '\0');
      std::ofstream file(temporary, std::ios::binary);
      file.write(head.data(), static_cast<std::streamsize>(head.size()));
      write(file);
      file.flush();
      const ov::Tensor payload = mapped(temporary, head.size());
      const Header header = {magic, key.size(), hash_bytes(key.data(), key.size()), payload.get_byte_size(),
                             hash_bytes(payload.data(), payload.get_byte_size())};
      std::memcpy(head.data(), &header, sizeof header);
      key.copy(head.data() + sizeof header, key.size());
      file.seekp(0);
      file.write(head.data(), static_cast<std::streamsize>(head.size()));
      file.close();
      if (file) std::filesystem::rename(temporary, path, failure);
      if (file && !failure) return true;
    } catch (const std::exception&) {
      // fall through: a full disk or a strange path only costs the cache
    }
    std::filesystem::remove(temporary, failure);
  } catch (const std::exception&) {
    // not even memory for the name
  }
  return false;
}

}  // namespace hoirt::openvino

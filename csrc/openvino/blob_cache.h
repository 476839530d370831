// Files of the compiled-network cache: a key, a length and a hash guard every payload.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <iosfwd>
#include <openvino/runtime/tensor.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace hoirt::openvino {

// Not cryptographic: it detects damage, not malice.
std::uint64_t hash_bytes(const void* data, std::size_t size);
// Of a whole file; throws std::exception if it cannot be read.
std::uint64_t hash_file(const std::filesystem::path& path);

// The payload (memory mapped), or nothing when the file is missing, damaged, or was written under another key.
std::optional<ov::Tensor> load_blob(const std::filesystem::path& path, std::string_view key);

// Writes to a temporary name in the same folder, then renames. A cache that cannot be written is no failure of the
// network, so the result says whether it worked, and nothing is left behind if not. `write` puts the payload straight
// into the file: that of a large network would not fit into memory a second time.
bool store_blob(const std::filesystem::path& path, std::string_view key,
                const std::function<void(std::ostream&)>& write) noexcept;

}  // namespace hoirt::openvino

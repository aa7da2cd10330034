// SPDX-License-Identifier: Apache-2.0
#pragma once
// SecretBytes: key material. Lives in one locked arena (mlock where the limit allows, never dumped into a core file),
// is zeroed on release, moves but does not copy silently. Any thread; one object by one thread at a time.

#include <cstddef>
#include <cstdint>

#include "base/bytes.h"

namespace limpet {

class SecretBytes {
 public:
  SecretBytes() = default;
  explicit SecretBytes(size_t size);       // zero-filled
  explicit SecretBytes(BytesView source);  // copies; the caller zeroes its own copy (see wipe)
  SecretBytes(SecretBytes&& other) noexcept;
  SecretBytes& operator=(SecretBytes&& other) noexcept;
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  ~SecretBytes();

  [[nodiscard]] SecretBytes clone() const { return SecretBytes(view()); }
  [[nodiscard]] BytesView view() const { return {data_, size_}; }
  [[nodiscard]] uint8_t* data() { return data_; }
  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  // Shrinks, zeroing what is cut off.
  void truncate(size_t size);

 private:
  uint8_t* data_ = nullptr;
  size_t size_ = 0;
  size_t taken_ = 0;  // the size asked of the arena; truncate() leaves it
};

// Zeroes memory in a way the compiler keeps.
void wipe(void* data, size_t size);
inline void wipe(Bytes& bytes) {
  wipe(bytes.data(), bytes.size());
  bytes.clear();
}

}  // namespace limpet

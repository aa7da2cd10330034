// SPDX-License-Identifier: Apache-2.0
// The arena behind SecretBytes: anonymous mappings, locked where the limit allows, kept out of core files. Small blocks
// come in power-of-two sizes from free lists, large ones have a mapping of their own. Blocks are zero while free.
#include "base/secret.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace limpet {
namespace {

constexpr size_t kSmallest = 32;
constexpr size_t kLargest = 4096;
constexpr size_t kChunk = 16384;  // small: a locked chunk is resident whole, and RLIMIT_MEMLOCK may be 64 kB
constexpr size_t kClasses = std::bit_width(kLargest / kSmallest);

struct FreeBlock {
  FreeBlock* next;
};

uint8_t* map_locked(size_t size) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();  // as operator new does without exceptions
  (void)mlock(memory, size);               // best effort: the limit may be lower, and running beats not running
  (void)madvise(memory, size, MADV_DONTDUMP);
  return static_cast<uint8_t*>(memory);
}

size_t whole_pages(size_t size) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (size + page - 1) / page * page;
}

size_t class_of(size_t size) {
  return size <= kSmallest ? 0 : static_cast<size_t>(std::bit_width((size - 1) / kSmallest));
}

class Arena {
 public:
  uint8_t* take(size_t size) {
    if (size > kLargest) return map_locked(whole_pages(size));
    const size_t index = class_of(size);
    const std::lock_guard lock(mutex_);
    if (FreeBlock* block = free_[index]; block != nullptr) {
      free_[index] = block->next;
      block->next = nullptr;
      return reinterpret_cast<uint8_t*>(block);
    }
    return carve(kSmallest << index);
  }

  // `size` is the one given to take().
  void give_back(uint8_t* data, size_t size) {
    wipe(data, size);
    if (size > kLargest) {
      munmap(data, whole_pages(size));
      return;
    }
    const size_t index = class_of(size);
    const std::lock_guard lock(mutex_);
    auto* block = reinterpret_cast<FreeBlock*>(data);
    block->next = free_[index];
    free_[index] = block;
  }

 private:
  uint8_t* carve(size_t size) {
    if (left_ < size) {
      hand_out_rest();
      next_ = map_locked(kChunk);
      left_ = kChunk;
    }
    uint8_t* block = next_;
    next_ += size;
    left_ -= size;
    return block;
  }

  // The end of a chunk that is too small for the size asked becomes free blocks of smaller sizes.
  void hand_out_rest() {
    for (size_t index = kClasses; index-- > 0;) {
      const size_t size = kSmallest << index;
      if (left_ < size) continue;
      auto* block = reinterpret_cast<FreeBlock*>(next_);
      block->next = free_[index];
      free_[index] = block;
      next_ += size;
      left_ -= size;
      index++;
    }
  }

  std::mutex mutex_;
  std::array<FreeBlock*, kClasses> free_{};
  uint8_t* next_ = nullptr;
  size_t left_ = 0;
};

constinit Arena arena;  // process-wide because memory is; trivially destroyed, so secrets may die at any time

}  // namespace

SecretBytes::SecretBytes(size_t size) : data_(size == 0 ? nullptr : arena.take(size)), size_(size), taken_(size) {}

SecretBytes::SecretBytes(BytesView source) : SecretBytes(source.size()) {
  if (size_ != 0) std::memcpy(data_, source.data(), size_);
}

SecretBytes::SecretBytes(SecretBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      taken_(std::exchange(other.taken_, 0)) {}

SecretBytes& SecretBytes::operator=(SecretBytes&& other) noexcept {
  if (this == &other) return *this;
  if (data_ != nullptr) arena.give_back(data_, taken_);
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  taken_ = std::exchange(other.taken_, 0);
  return *this;
}

SecretBytes::~SecretBytes() {
  if (data_ != nullptr) arena.give_back(data_, taken_);
}

void SecretBytes::truncate(size_t size) {
  if (size >= size_) return;
  wipe(data_ + size, size_ - size);
  size_ = size;
}

void wipe(void* data, size_t size) {
  if (size != 0) explicit_bzero(data, size);
}

}  // namespace limpet

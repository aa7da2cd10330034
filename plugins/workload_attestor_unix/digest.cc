// SPDX-License-Identifier: Apache-2.0
// Hashing executables in pieces: a mapping would kill the process if the file were cut short meanwhile.
#include "workload_attestor_unix/digest.h"

#include <mbedtls/sha256.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/bytes.h"

namespace limpet::workload_attestor_unix {
namespace {

constexpr size_t kMaxKnown = 256;
constexpr size_t kPiece = 64u << 10;
// File times tick with the kernel's clock interrupt: content changed twice within one tick looks the same. Only files
// that have been left alone for this long are remembered.
constexpr int64_t kSettledNs = 2'000'000'000;

int64_t ns(const timespec& t) { return static_cast<int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec; }

int64_t now_ns() {
  timespec t = {};
  ::clock_gettime(CLOCK_REALTIME, &t);
  return ns(t);
}

struct Sha256 {
  Sha256() { mbedtls_sha256_init(&context); }
  ~Sha256() { mbedtls_sha256_free(&context); }
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  mbedtls_sha256_context context;
};

Result<std::string> read_and_hash(int fd, const std::atomic<bool>& cancelled) {
  Sha256 sha;
  uint8_t sum[32];
  const auto piece = std::make_unique<uint8_t[]>(kPiece);
  bool ok = mbedtls_sha256_starts(&sha.context, 0) == 0;
  for (off_t at = 0;;) {
    if (cancelled) return fail(Code::cancelled, "hashing the executable was cancelled");
    const ssize_t got = ::pread(fd, piece.get(), kPiece, at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(Code::internal, std::string("read the executable: ") + std::strerror(errno));
    if (got == 0) break;
    ok = ok && mbedtls_sha256_update(&sha.context, piece.get(), static_cast<size_t>(got)) == 0;
    at += got;
  }
  ok = ok && mbedtls_sha256_finish(&sha.context, sum) == 0;
  if (!ok) return fail(Code::internal, "SHA-256 is not available");
  return hex_encode(sum);
}

}  // namespace

Digests::Identity Digests::identity_of(const struct stat& file) {
  return {file.st_dev, file.st_ino, file.st_size, ns(file.st_mtim), ns(file.st_ctim)};
}

bool Digests::recall(const struct stat& file, std::string& out) {
  const std::lock_guard lock(mutex_);
  const auto place = known_.find(identity_of(file));
  if (place == known_.end()) return false;
  out = place->second;
  return true;
}

Result<std::string> Digests::hash(int fd, const std::atomic<bool>& cancelled) {
  struct stat before = {};
  struct stat after = {};
  if (::fstat(fd, &before) != 0)
    return fail(Code::internal, std::string("examine the executable: ") + std::strerror(errno));
  TRY_ASSIGN(std::string digest, read_and_hash(fd, cancelled));
  const bool same = ::fstat(fd, &after) == 0 && identity_of(before) == identity_of(after);
  if (!same || now_ns() - ns(after.st_ctim) < kSettledNs) return digest;
  const std::lock_guard lock(mutex_);
  if (known_.size() >= kMaxKnown) known_.clear();
  known_[identity_of(after)] = digest;
  return digest;
}

}  // namespace limpet::workload_attestor_unix

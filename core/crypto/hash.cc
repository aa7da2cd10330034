// SPDX-License-Identifier: Apache-2.0
// Hashes and random bytes.

#include <mbedtls/sha1.h>
#include <mbedtls/sha256.h>
#include <mbedtls/sha512.h>
#include <sys/random.h>

#include <cerrno>
#include <cstdlib>

#include "crypto/key.h"
#include "crypto/mbed.h"

namespace limpet {

Bytes sha1(BytesView data) {
  Bytes out(20);
  mbedtls_sha1(data.data(), data.size(), out.data());
  return out;
}

Bytes sha256(BytesView data) {
  Bytes out(32);
  mbedtls_sha256(data.data(), data.size(), out.data(), 0);
  return out;
}

Bytes hash(HashAlg alg, BytesView data) {
  if (alg == HashAlg::sha256) return sha256(data);
  Bytes out(64);
  mbedtls_sha512(data.data(), data.size(), out.data(), alg == HashAlg::sha384 ? 1 : 0);
  if (alg == HashAlg::sha384) out.resize(48);
  return out;
}

void random_bytes(void* out, size_t size) {
  auto* at = static_cast<uint8_t*>(out);
  while (size > 0) {
    const ssize_t got = getrandom(at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) std::abort();  // no kernel that we run on lacks it; going on without would mean guessable keys
    at += got;
    size -= static_cast<size_t>(got);
  }
}

namespace {
// Sets version and variant of 16 random bytes.
std::string uuid_of(Bytes bytes) {
  bytes[6] = static_cast<uint8_t>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<uint8_t>((bytes[8] & 0x3f) | 0x80);
  std::string out = hex_encode(bytes);
  for (size_t at : {8u, 13u, 18u, 23u}) out.insert(at, 1, '-');
  return out;
}
}  // namespace

Bytes random_bytes(size_t size) {
  Bytes out(size);
  random_bytes(out.data(), out.size());
  return out;
}

std::string random_uuid() { return uuid_of(random_bytes(16)); }

std::string ordered_uuid(uint64_t order) {
  Bytes bytes = random_bytes(16);
  for (size_t i = 0; i < 6; ++i) bytes[i] = static_cast<uint8_t>(order >> (40 - 8 * i));
  return uuid_of(std::move(bytes));
}

int mbed_random(void* /*unused*/, unsigned char* out, size_t size) {
  random_bytes(out, size);
  return 0;
}

}  // namespace limpet

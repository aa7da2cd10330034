// SPDX-License-Identifier: Apache-2.0
#pragma once
// Keys: private ones held in memory, public ones, and the Signer through which anything is signed, wherever its key
// lives. Every P-256 operation ends in the seam of crypto/ecdsa.h. Signing and verifying burn CPU (0.7 and 2.6 ms for
// P-256): call them on a worker. Objects are immutable once made and may be used by any thread.

#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/secret.h"
#include "loop/done.h"

namespace limpet {

// The numbers are those of SPIRE's plugin SDK and of our ABI.
enum class KeyType : uint32_t { ec_p256 = 1, ec_p384 = 2, rsa_2048 = 3, rsa_4096 = 4 };
enum class HashAlg : uint32_t { sha256 = 5, sha384 = 6, sha512 = 7 };

Result<KeyType> parse_key_type(
    std::string_view name);  // "ec-p256", "ec-p384", "rsa-2048", "rsa-4096"; INVALID_ARGUMENT
std::string_view key_type_name(KeyType type);
// The hash that X.509 signatures use with this key: SHA-256, or SHA-384 for P-384.
HashAlg hash_for(KeyType type);

Bytes sha1(BytesView data);    // 20 bytes; only for key identifiers
Bytes sha256(BytesView data);  // 32 bytes
Bytes hash(HashAlg alg, BytesView data);
void random_bytes(void* out, size_t size);  // from the kernel; aborts if it has none
Bytes random_bytes(size_t size);
std::string random_uuid();  // version 4, lower case
// One whose first 48 bits are those of `order`, the other 74 free ones random: sorts by `order`.
std::string ordered_uuid(uint64_t order);

class PublicKey {
 public:
  // DER SubjectPublicKeyInfo; P-256, P-384, RSA 2048..8192 only. INVALID_ARGUMENT otherwise.
  static Result<PublicKey> from_spki(BytesView spki_der);
  [[nodiscard]] const Bytes& spki() const { return spki_; }
  [[nodiscard]] bool is_rsa() const { return rsa_; }
  [[nodiscard]] uint32_t bits() const { return bits_; }
  // SHA-1 of the subjectPublicKey BIT STRING: the X.509 key identifier.
  [[nodiscard]] Bytes key_id() const;
  // ECDSA (ASN.1 signature) or RSA PKCS#1 v1.5 over a digest. INVALID_ARGUMENT "signature does not match".
  [[nodiscard]] Result<void> verify(HashAlg alg, BytesView digest, BytesView signature) const;
  bool operator==(const PublicKey& other) const { return spki_ == other.spki_; }

 private:
  Bytes spki_;
  bool rsa_ = false;
  uint32_t bits_ = 0;
};

class PrivateKey {
 public:
  static Result<PrivateKey> generate(KeyType type);
  static Result<PrivateKey> from_pkcs8(BytesView der);  // unencrypted; SEC1 and PKCS#1 DER are taken too
  [[nodiscard]] SecretBytes pkcs8() const;
  [[nodiscard]] const PublicKey& public_key() const;
  [[nodiscard]] KeyType type() const;
  [[nodiscard]] Result<Bytes> sign(HashAlg alg, BytesView digest) const;  // ASN.1 ECDSA, or RSA PKCS#1 v1.5

  PrivateKey(PrivateKey&&) noexcept;
  PrivateKey& operator=(PrivateKey&&) noexcept;
  ~PrivateKey();
  struct Impl;  // for crypto's and wire's own use (TLS): see crypto/mbed.h
  [[nodiscard]] const Impl& impl() const { return *impl_; }

 private:
  explicit PrivateKey(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Something that signs with one key: in memory, or through a key manager. Loop thread only; `done` per DESIGN
// section 2.
class Signer {
 public:
  virtual ~Signer() = default;
  [[nodiscard]] virtual KeyType type() const = 0;
  [[nodiscard]] virtual const PublicKey& public_key() const = 0;
  virtual void sign(HashAlg alg, Bytes digest, Done<Bytes> done) = 0;
};

}  // namespace limpet

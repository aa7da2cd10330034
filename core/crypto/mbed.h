// SPDX-License-Identifier: Apache-2.0
#pragma once
// For crypto's and wire's own use: RAII around mbedTLS contexts, its random source, what a PrivateKey holds, and the
// inner side of the ECDSA seam. One struct per context type: initialised in the constructor, freed in the destructor,
// neither copied nor moved. Any thread, one object by one thread at a time (PrivateKey::Impl excepted, see there).

#include <mbedtls/ecdsa.h>
#include <mbedtls/ecp.h>
#include <mbedtls/md.h>
#include <mbedtls/pk.h>
#include <mbedtls/rsa.h>

#include <string>
#include <utility>

#include "crypto/key.h"

namespace limpet {

template <class T, void (*Init)(T*), void (*Free)(T*)>
class Mbed {
 public:
  Mbed() { Init(&value_); }
  ~Mbed() { Free(&value_); }
  Mbed(const Mbed&) = delete;
  Mbed& operator=(const Mbed&) = delete;
  T* get() { return &value_; }
  [[nodiscard]] const T* get() const { return &value_; }
  T* operator->() { return &value_; }
  const T* operator->() const { return &value_; }
  T& operator*() { return value_; }
  const T& operator*() const { return value_; }

 private:
  T value_;
};
using MbedPk = Mbed<mbedtls_pk_context, mbedtls_pk_init, mbedtls_pk_free>;
using MbedMpi = Mbed<mbedtls_mpi, mbedtls_mpi_init, mbedtls_mpi_free>;
using MbedKeypair = Mbed<mbedtls_ecp_keypair, mbedtls_ecp_keypair_init, mbedtls_ecp_keypair_free>;

// Starts PSA (TLS 1.3 needs it), once for the process however often it is called. Any thread.
void mbed_start();
// mbedTLS's random callback, straight from the kernel; needs no state and no lock.
int mbed_random(void* unused, unsigned char* out, size_t size);
// "<what>: mbedTLS error -0x4e80".
Error mbed_error(std::string_view what, int code);
mbedtls_md_type_t mbed_hash(HashAlg alg);

// Filled once, then only read: mbedTLS's sign functions leave an EC key alone and lock an RSA key's blinding values.
struct PrivateKey::Impl {
  mutable MbedPk pk;
  KeyType type = KeyType::ec_p256;
  PublicKey public_key;
};

// Copies the key into a freshly initialised context, for mbedtls_ssl_conf_own_cert.
Result<void> load_pk(mbedtls_pk_context& out, const PrivateKey& key);
// The same for a key that lives elsewhere: its public point and a scalar that stands for "not here". Signatures come
// from the RemoteKey registered for that point; without one they fail. EC only: FAILED_PRECONDITION for RSA.
Result<void> load_remote_pk(mbedtls_pk_context& out, const PublicKey& key);
// The public key, for verification.
Result<void> load_public_pk(mbedtls_pk_context& out, const PublicKey& key);

// The inner side of the seam: all ECDSA arithmetic of our own and of mbedTLS's TLS goes through these three, so that a
// faster provider needs to be put into one place only. mbedTLS's return codes.
namespace ecdsa_seam {
int generate(mbedtls_ecp_group_id curve, mbedtls_ecp_keypair* out);
int sign(mbedtls_ecdsa_context* key, mbedtls_md_type_t hash, BytesView digest, std::span<uint8_t> out, size_t* size);
int verify(mbedtls_ecdsa_context* key, BytesView digest, BytesView signature);
}  // namespace ecdsa_seam

}  // namespace limpet

// SPDX-License-Identifier: Apache-2.0
#include "crypto/ecdsa.h"

#include <mbedtls/error.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "crypto/der.h"
#include "crypto/mbed.h"

// The linker turns mbedTLS's own calls of these two functions into calls of the __wrap_ names (see the root
// meson.build). mbedTLS implements both as one call of the _restartable function without a restart context, which is
// what the default path below calls: so nothing here depends on the __real_ names.
extern "C" {
int __wrap_mbedtls_ecdsa_write_signature(mbedtls_ecdsa_context* ctx, mbedtls_md_type_t md_alg,
                                         const unsigned char* hash, size_t hlen, unsigned char* sig, size_t sig_size,
                                         size_t* slen, mbedtls_f_rng_t* f_rng, void* p_rng);
int __wrap_mbedtls_ecdsa_read_signature(mbedtls_ecdsa_context* ctx, const unsigned char* hash, size_t hlen,
                                        const unsigned char* sig, size_t slen);
}

namespace limpet {

namespace {

using SignerRef = std::shared_ptr<const BlockingSigner>;

// The one table that mbedTLS's C callbacks force on us: they get no pointer of ours, only the key. It maps a public
// point to the signers registered for it, the latest last. Owned by the process; every RemoteKey removes its own entry.
struct Registry {
  std::mutex mutex;
  std::map<Bytes, std::vector<std::pair<const RemoteKey*, SignerRef>>> signers;
  std::atomic<size_t> count = 0;  // so that a process without remote keys pays no lock
};

Registry& registry() {
  static Registry* const instance = new Registry;  // never destroyed: worker threads may outlive main's statics
  return *instance;
}

Bytes point_of(const mbedtls_ecp_keypair* key) {
  Bytes out(MBEDTLS_ECP_MAX_PT_LEN);
  size_t size = 0;
  if (mbedtls_ecp_point_write_binary(&key->MBEDTLS_PRIVATE(grp), &key->MBEDTLS_PRIVATE(Q), MBEDTLS_ECP_PF_UNCOMPRESSED,
                                     &size, out.data(), out.size()) != 0)
    size = 0;
  out.resize(size);
  return out;
}

SignerRef find_signer(const mbedtls_ecp_keypair* key) {
  Registry& all = registry();
  if (all.count.load(std::memory_order_acquire) == 0) return nullptr;
  const Bytes point = point_of(key);
  const std::lock_guard lock(all.mutex);
  const auto found = all.signers.find(point);
  return found == all.signers.end() ? nullptr : found->second.back().second;
}

Result<HashAlg> hash_of_size(size_t size) {
  if (size == 32) return HashAlg::sha256;
  if (size == 48) return HashAlg::sha384;
  if (size == 64) return HashAlg::sha512;
  return fail(Code::invalid_argument, "digest of unknown size");
}

int sign_remotely(const BlockingSigner& signer, BytesView digest, std::span<uint8_t> out, size_t* size) {
  const Result<HashAlg> alg = hash_of_size(digest.size());
  if (!alg) return MBEDTLS_ERR_ECP_BAD_INPUT_DATA;
  const Result<Bytes> signature = signer.sign(*alg, digest);
  if (!signature) return MBEDTLS_ERR_PLATFORM_HW_ACCEL_FAILED;
  if (signature->empty() || signature->size() > out.size()) return MBEDTLS_ERR_ECP_BUFFER_TOO_SMALL;
  std::memcpy(out.data(), signature->data(), signature->size());
  *size = signature->size();
  return 0;
}

// The point of an EC SubjectPublicKeyInfo; the PublicKey was checked when it was made.
Bytes point_of_spki(const PublicKey& key) {
  const Result<der::Element> spki = der::single(key.spki(), der::kSequence);
  if (!spki || key.is_rsa()) return {};
  der::Reader reader(spki->content);
  if (!reader.next()) return {};
  const Result<der::Element> bits = reader.next();
  return bits && bits->content.size() > 1 ? to_bytes(bits->content.subspan(1)) : Bytes();
}

}  // namespace

RemoteKey::RemoteKey(const PublicKey& key, std::shared_ptr<const BlockingSigner> signer) : point_(point_of_spki(key)) {
  if (point_.empty()) return;  // an RSA key: never asked for
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.signers[point_].emplace_back(this, std::move(signer));
  all.count.fetch_add(1, std::memory_order_release);
}

RemoteKey::~RemoteKey() {
  if (point_.empty()) return;
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto found = all.signers.find(point_);
  std::erase_if(found->second, [this](const auto& entry) { return entry.first == this; });
  if (found->second.empty()) all.signers.erase(found);
  all.count.fetch_sub(1, std::memory_order_release);
}

namespace ecdsa_seam {

int generate(mbedtls_ecp_group_id curve, mbedtls_ecp_keypair* out) {
  return mbedtls_ecp_gen_key(curve, out, mbed_random, nullptr);
}

int sign(mbedtls_ecdsa_context* key, mbedtls_md_type_t hash, BytesView digest, std::span<uint8_t> out, size_t* size) {
  // Only the stand-in scalar of load_remote_pk asks for the registered signer. A key manager in this process has the
  // real scalar of the same public point, and must not be led back to itself.
  if (mbedtls_mpi_cmp_int(&key->MBEDTLS_PRIVATE(d), 1) == 0) {
    if (const SignerRef signer = find_signer(key)) return sign_remotely(*signer, digest, out, size);
    return MBEDTLS_ERR_ECP_INVALID_KEY;  // its key manager is gone
  }
  return mbedtls_ecdsa_write_signature_restartable(key, hash, digest.data(), digest.size(), out.data(), out.size(),
                                                   size, mbed_random, nullptr, nullptr);
}

int verify(mbedtls_ecdsa_context* key, BytesView digest, BytesView signature) {
  return mbedtls_ecdsa_read_signature_restartable(key, digest.data(), digest.size(), signature.data(), signature.size(),
                                                  nullptr);
}

}  // namespace ecdsa_seam

}  // namespace limpet

int __wrap_mbedtls_ecdsa_write_signature(mbedtls_ecdsa_context* ctx, mbedtls_md_type_t md_alg,
                                         const unsigned char* hash, size_t hlen, unsigned char* sig, size_t sig_size,
                                         size_t* slen, mbedtls_f_rng_t* /*f_rng*/, void* /*p_rng*/) {
  if (ctx == nullptr || hash == nullptr || sig == nullptr || slen == nullptr) return MBEDTLS_ERR_ECP_BAD_INPUT_DATA;
  return limpet::ecdsa_seam::sign(ctx, md_alg, {hash, hlen}, {sig, sig_size}, slen);
}

int __wrap_mbedtls_ecdsa_read_signature(mbedtls_ecdsa_context* ctx, const unsigned char* hash, size_t hlen,
                                        const unsigned char* sig, size_t slen) {
  if (ctx == nullptr || hash == nullptr || sig == nullptr) return MBEDTLS_ERR_ECP_BAD_INPUT_DATA;
  return limpet::ecdsa_seam::verify(ctx, {hash, hlen}, {sig, slen});
}

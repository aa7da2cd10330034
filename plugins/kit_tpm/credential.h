// SPDX-License-Identifier: Apache-2.0
#pragma once
// TPM2_MakeCredential without a TPM (TCG Library Part 1, 24 and annexes B and C): a secret wrapped so that only the TPM
// that holds the endorsement key AND a key of the given name gives it back. Pure but for random bytes; burns CPU.

#include "kit_tpm/structures.h"

namespace limpet::tpm_wire {

// What wraps: an endorsement key as its template has it.
struct Protector {
  PublicKey key;
  HashAlg hash = HashAlg::sha256;  // its name algorithm
  uint16_t aes_bits = 128;

  static Result<Protector> of(const Public& ek);  // INVALID_ARGUMENT: not a restricted decryption key
  // Where only the key is known: the TCG's default templates, SHA-256 and AES-128, or SHA-384 and AES-256 for P-384,
  // RSA 3072 and 4096.
  static Result<Protector> of(const PublicKey& ek);
};

// Both without the TPM2B's length in front.
struct Credential {
  Bytes id_object;
  Bytes secret;
};
// `name` is the activated key's, `secret` at most as long as the hash. INVALID_ARGUMENT.
Result<Credential> make_credential(const Protector& ek, BytesView name, BytesView secret);

// A seed that only the holder of the key gets out of `secret`, TPM2B_ENCRYPTED_SECRET without its length (Part 1, B.10
// and C.6). The label says what for: "IDENTITY", or "SECRET" for a session's salt.
struct WrappedSeed {
  Bytes seed;
  Bytes secret;
};
Result<WrappedSeed> wrap_seed(const Protector& key, std::string_view label);

// In a time that does not tell where they differ.
bool same_secret(BytesView a, BytesView b);

// The two key derivations (Part 1, 11.4.10.2 and 11.4.10.3); `bytes` is the size of the result.
Bytes kdf_a(HashAlg hash, BytesView key, std::string_view label, BytesView u, BytesView v, size_t bytes);
Bytes kdf_e(HashAlg hash, BytesView z, std::string_view label, BytesView u, BytesView v, size_t bytes);

// RSA 2048 to 4096, P-256 or P-384. INVALID_ARGUMENT.
Result<void> check_ek_size(const PublicKey& ek);

}  // namespace limpet::tpm_wire

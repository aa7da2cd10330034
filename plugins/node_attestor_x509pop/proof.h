// SPDX-License-Identifier: Apache-2.0
#pragma once
// The three messages of x509pop and the proof in them: both sides give 32 random bytes, the agent signs the SHA-256 of
// both with its key (RSA-PSS, or ECDSA with r and s apart), taken as the digest itself. Pure functions, any thread.

#include <functional>
#include <string>
#include <vector>

#include "crypto/x509.h"

namespace limpet::x509pop {

inline constexpr size_t kNonceBytes = 32;

std::string encode_payload(const std::vector<Certificate>& chain);
Result<std::vector<Bytes>> decode_payload(BytesView json);

std::string encode_challenge(const PublicKey& key, BytesView nonce);

// What signs the SHA-256 of both nonces: RSA-PSS, or ECDSA as ASN.1.
using Prover = std::function<Result<Bytes>(BytesView digest)>;
Prover prover_of(const PrivateKey& key);  // `key` must live as long
// The agent's answer to a challenge, with a fresh nonce of its own.
Result<std::string> answer_challenge(const PublicKey& key, const Prover& prove, BytesView challenge_json);
struct Answer {
  bool rsa = false;    // the RSA member was there
  bool ecdsa = false;  // the ECDSA member was there
  Bytes nonce;
  Bytes signature;  // RSA
  Bytes r;
  Bytes s;
};
// Reads the member that fits the key. INVALID_ARGUMENT.
Result<Answer> decode_answer(BytesView json, bool rsa);
Result<void> verify_answer(const PublicKey& key, BytesView nonce, const Answer& answer);

}  // namespace limpet::x509pop

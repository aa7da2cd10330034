// SPDX-License-Identifier: Apache-2.0
#pragma once
// Public areas (TPMT_PUBLIC) that keys are made from, and what a public area and a TPMT_SIGNATURE mean to the rest of
// the world. Pure functions; parse() checks every length of what a TPM or a file says.

#include <cstdint>

#include "base/bytes.h"
#include "crypto/key.h"

namespace limpet::tpm {

inline constexpr uint16_t kAlgRsa = 0x0001;
inline constexpr uint16_t kAlgSha1 = 0x0004;
inline constexpr uint16_t kAlgSha256 = 0x000b;
inline constexpr uint16_t kAlgSha384 = 0x000c;
inline constexpr uint16_t kAlgSha512 = 0x000d;
inline constexpr uint16_t kAlgEcc = 0x0023;
inline constexpr uint16_t kCurveP256 = 0x0003;
inline constexpr uint16_t kCurveP384 = 0x0004;

// TPMA_OBJECT (Part 2, 8.3)
inline constexpr uint32_t kFixedTpm = 1u << 1;
inline constexpr uint32_t kFixedParent = 1u << 4;
inline constexpr uint32_t kSensitiveDataOrigin = 1u << 5;
inline constexpr uint32_t kUserWithAuth = 1u << 6;
inline constexpr uint32_t kAdminWithPolicy = 1u << 7;
inline constexpr uint32_t kNoDa = 1u << 10;
inline constexpr uint32_t kRestricted = 1u << 16;
inline constexpr uint32_t kDecrypt = 1u << 17;
inline constexpr uint32_t kSign = 1u << 18;

// Storage root keys, H-1 and H-2 of the provisioning guidance; the `unique` field is empty.
Bytes srk_rsa();
Bytes srk_ecc();
// The EK templates L-1 and L-2; `nonce` is what the manufacturer left in NV, mostly nothing.
Bytes ek_rsa(BytesView nonce = {});
Bytes ek_ecc(BytesView nonce = {});
// Attestation key: restricted signing, RSA-2048 RSASSA or P-256 ECDSA, SHA-256. `no_da`: outside the lockout counter.
Bytes ak_rsa(bool no_da);
Bytes ak_ecc(bool no_da);
// A signing key without a scheme of its own. P-256, P-384 and RSA-2048; RSA-4096 where the TPM has it.
Bytes signing_key(KeyType type);
// Sealed data; with a policy it opens by that alone, else by its password.
Bytes sealed_data(BytesView policy = {});

// The key in a public area: P-256, P-384 or RSA. INVALID_ARGUMENT for anything else or anything malformed.
Result<PublicKey> public_key_of(BytesView public_area);
// An RSA-2048 or P-256 ... key's own type; UNIMPLEMENTED for a size that Limpet has no name for.
Result<KeyType> key_type_of(BytesView public_area);
// TPMT_SIGNATURE as X.509 has it: DER ECDSA, or the bytes of RSASSA. INVALID_ARGUMENT.
Result<Bytes> plain_signature(BytesView signature);

}  // namespace limpet::tpm

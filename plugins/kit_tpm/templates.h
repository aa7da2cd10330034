// SPDX-License-Identifier: Apache-2.0
#pragma once
// Public areas (TPMT_PUBLIC) that keys are made from, and what a public area and a TPMT_SIGNATURE mean to the rest of
// the world. Pure functions; parse() checks every length of what a TPM or a file says.

#include <cstdint>

#include "base/bytes.h"
#include "crypto/key.h"
#include "kit_tpm/structures.h"

namespace limpet::tpm {

using tpm_wire::kAlgEcc;
using tpm_wire::kAlgRsa;
using tpm_wire::kAlgSha1;
using tpm_wire::kAlgSha256;
using tpm_wire::kAlgSha384;
using tpm_wire::kAlgSha512;
using tpm_wire::kCurveP256;
using tpm_wire::kCurveP384;

// TPMA_OBJECT (Part 2, 8.3)
using tpm_wire::kDecrypt;
using tpm_wire::kFixedParent;
using tpm_wire::kFixedTpm;
using tpm_wire::kRestricted;
using tpm_wire::kSensitiveDataOrigin;
using tpm_wire::kSign;
inline constexpr uint32_t kUserWithAuth = 1u << 6;
inline constexpr uint32_t kAdminWithPolicy = 1u << 7;
inline constexpr uint32_t kNoDa = 1u << 10;

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

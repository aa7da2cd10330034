// SPDX-License-Identifier: Apache-2.0
#pragma once
// A TPM 2.0 as the plugins use it. A Device knows where the TPM is and holds nothing open; open() gives a Tpm, one
// connection for one piece of work, which is closed at its end. So several plugins and programs share a TPM, also one
// without a resource manager, and a TPM that went away is found again by the next piece of work.
//
// Every structure crosses this header in the TPM's own encoding, without the 2-byte size in front (TPMT_PUBLIC, the
// contents of TPM2B_PRIVATE, ...). Calls block; one thread at a time. Errors name the command, the TPM's response code
// and the next step:
//   UNAVAILABLE          no TPM, one too many, no answer, busy for longer than the bounded retries, or switched off
//                        in the firmware: try again later
//   FAILED_PRECONDITION  for good: another TPM, a cleared one, or other PCRs than the policy asks for
//   PERMISSION_DENIED    wrong password, or no right to open the device
//   UNIMPLEMENTED        this TPM lacks the algorithm or the command
//   NOT_FOUND            no such object, NV index or key

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/secret.h"
#include "crypto/key.h"
#include "kit_tpm/response_code.h"
#include "kit_tpm/templates.h"
#include "kit_tpm/transport.h"

namespace limpet::tpm {

struct DeviceSettings {
  Address address;
  SecretBytes owner_auth = {};  // passwords of the hierarchies; empty as TPMs are shipped
  SecretBytes endorsement_auth = {};
  int64_t answer_ms = 60'000;  // for one command: some TPMs take long to make an RSA key
  int64_t busy_ms = 5'000;     // how long a command is repeated while the TPM answers that it is busy
};

enum class Hierarchy { owner, endorsement, null };

// A key at rest: the TPM alone can use it, under the parent it was made with.
struct KeyBlob {
  Bytes public_area;   // TPMT_PUBLIC
  Bytes private_area;  // contents of TPM2B_PRIVATE
};

struct Created {
  KeyBlob blob;
  Bytes creation_data;    // TPMS_CREATION_DATA
  Bytes creation_hash;    // digest
  Bytes creation_ticket;  // TPMT_TK_CREATION
};

struct Attested {
  Bytes attest;     // TPMS_ATTEST
  Bytes signature;  // TPMT_SIGNATURE
};

// PCRs of one bank; bit i of `mask` is PCR i.
struct PcrSelection {
  uint16_t bank = kAlgSha256;
  uint32_t mask = 0;
};

struct Info {
  std::string manufacturer;  // "IFX"
  std::string model;         // vendor string, "SLB9670"
  std::string firmware;      // "7.85.4555.0"
};

enum class EkKind { rsa_2048, ecc_p256 };
std::string ek_certificate_index(EkKind kind);  // NV index of its certificate: "0x01c00002"

class Tpm;

// A loaded object; flushed when it dies. The Tpm outlives it.
class Object {
 public:
  Object(Object&& other) noexcept;
  Object& operator=(Object&& other) noexcept;
  ~Object();

  [[nodiscard]] uint32_t handle() const { return handle_; }
  [[nodiscard]] const Bytes& public_area() const { return public_area_; }  // TPMT_PUBLIC
  [[nodiscard]] const Bytes& name() const { return name_; }                // nameAlg and digest

 private:
  friend class Tpm;
  Object(Tpm* tpm, uint32_t handle, Bytes public_area, Bytes name, BytesView auth)
      : tpm_(tpm), handle_(handle), public_area_(std::move(public_area)), name_(std::move(name)), auth_(auth) {}
  Tpm* tpm_;
  uint32_t handle_;
  Bytes public_area_;
  Bytes name_;
  SecretBytes auth_;
};

class Tpm {
 public:
  ~Tpm();  // flushes what is still loaded
  Tpm(const Tpm&) = delete;
  Tpm& operator=(const Tpm&) = delete;

  // ---- the TPM itself ----
  Result<Info> info();
  Result<bool> has_curve(uint16_t curve);
  Result<std::vector<uint16_t>> pcr_banks();                       // those with all of PCR 0 to 23
  Result<std::vector<Bytes>> read_pcrs(PcrSelection pcrs);         // by rising index
  Result<Bytes> read_nv(uint32_t index);                           // NOT_FOUND; at most 16 KiB
  Result<void> extend_pcr(uint32_t pcr, BytesView sha256_digest);  // for tests

  // ---- objects ----
  // `area` is a template of templates.h, or any TPMT_PUBLIC.
  Result<Object> create_primary(Hierarchy hierarchy, BytesView area, BytesView auth = {});
  // `sensitive`: the data of a sealed object, which crosses the bus encrypted for `parent`.
  Result<Created> create(const Object& parent, BytesView area, BytesView auth = {}, BytesView sensitive = {});
  Result<Object> load(const Object& parent, const KeyBlob& blob, BytesView auth = {});
  Result<Object> read_persistent(uint32_t handle, BytesView auth = {});  // NOT_FOUND; not flushed
  // The endorsement key from its standard template (EK Credential Profile L-1, L-2), transient. `with_nonce`: honour
  // the nonce in NV 0x01c00003 or 0x01c0000b, as go-attestation does and SPIRE's tpm_devid does not.
  Result<Object> create_ek(EkKind kind, bool with_nonce);
  // Its certificate, DER, cut to its own length; NOT_FOUND where the manufacturer left none. Other errors name the
  // index: UNAVAILABLE when the TPM did not answer, else what is there cannot be read or is no certificate.
  Result<Bytes> ek_certificate(EkKind kind);
  // A loaded object as it is, to be loaded again without its parent: one command in place of two or three. Dies with
  // the next reset of the TPM: load_saved then gives FAILED_PRECONDITION.
  Result<Bytes> save(const Object& object);
  Result<Object> load_saved(BytesView saved, Bytes public_area, Bytes name, BytesView auth = {});

  // ---- signing ----
  // As X.509 has it: DER ECDSA, or PKCS#1 v1.5. The key has no scheme of its own, or this one; not restricted.
  Result<Bytes> sign(const Object& key, HashAlg alg, BytesView digest);
  // RSASSA-PSS, with MGF1 of the same hash. How long the salt is, is the TPM's choice (Part 1, B.7): the digest's
  // length, or the longest that fits.
  Result<Bytes> sign_pss(const Object& key, HashAlg alg, BytesView digest);
  // The TPM makes the digest (at most 1,024 bytes of message), so a restricted key signs it too.
  Result<Bytes> sign_message(const Object& key, HashAlg alg, BytesView message);
  Result<Attested> certify_creation(const Object& object, const Object& signer, const Created& created,
                                    BytesView qualifying = {});
  Result<Attested> certify(const Object& object, const Object& signer, BytesView qualifying = {});
  // Over the PCRs of up to 16 banks, in the order given.
  Result<Attested> quote(const Object& signer, BytesView qualifying, std::span<const PcrSelection> pcrs);

  // ---- secrets ----
  // `credential`: contents of TPM2B_ID_OBJECT; `secret`: contents of TPM2B_ENCRYPTED_SECRET. The EK is one of
  // create_ek: its policy is PolicySecret(endorsement).
  Result<SecretBytes> activate_credential(const Object& object, const Object& ek, BytesView credential,
                                          BytesView secret);
  // The authPolicy of an object that only opens while these PCRs have these values, as read_pcrs gives them.
  Result<Bytes> pcr_policy(PcrSelection pcrs, const std::vector<Bytes>& values);
  // mask 0: by its password. The answer crosses the bus encrypted, by a session salted with `parent`, any storage key
  // of this TPM; one that was changed on its way is UNAVAILABLE, as is a machine whose PCRs are extended all the while.
  Result<SecretBytes> unseal(const Object& object, const Object& parent, PcrSelection pcrs = {});

  // The response code of the last command: 0, the TPM's, or kRcNoAnswer.
  [[nodiscard]] uint32_t last_rc() const { return last_rc_; }
  [[nodiscard]] const char* last_command() const { return last_command_; }  // "TPM2_Load"; at first ""

 private:
  friend class Device;
  friend class Object;
  friend class SecretSession;
  struct Impl;
  explicit Tpm(std::unique_ptr<Impl> impl);
  void flush(uint32_t handle);

  std::unique_ptr<Impl> impl_;
  uint32_t last_rc_ = 0;
  const char* last_command_ = "";
};

class Device {
 public:
  explicit Device(DeviceSettings settings) : settings_(std::move(settings)) {}
  // The Device outlives the Tpm. `answer_ms`: in place of the setting, for somebody who has less time.
  Result<std::unique_ptr<Tpm>> open(int64_t answer_ms = INT64_MAX) const;
  [[nodiscard]] const DeviceSettings& settings() const { return settings_; }

 private:
  DeviceSettings settings_;
};

}  // namespace limpet::tpm

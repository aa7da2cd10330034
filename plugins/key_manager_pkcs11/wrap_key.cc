// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/wrap_key.h"

#include "crypto/key.h"
#include "key_manager_pkcs11/ck.h"

namespace limpet::pkcs11 {
namespace {

constexpr uint8_t kVersion = 1;
constexpr size_t kObjectIdBytes = 16;
constexpr size_t kNonceBytes = 12;
constexpr size_t kTagBytes = 16;
constexpr size_t kHeadBytes = 1 + kObjectIdBytes;
constexpr CK_ULONG kTagBits = 8 * kTagBytes;

std::unexpected<Error> never(const std::string& why) { return fail(Code::failed_precondition, why); }

// AES-GCM with its parameters, which point at what is given.
struct Gcm {
  Gcm(Bytes nonce_bytes, BytesView head, BytesView context) : nonce(std::move(nonce_bytes)), bound(to_bytes(head)) {
    append(bound, context);
    params.iv_ptr = nonce.data();
    params.iv_len = nonce.size();
    params.iv_bits = 8 * nonce.size();
    params.aad_ptr = bound.data();
    params.aad_len = bound.size();
    params.tag_bits = kTagBits;
    mechanism = {CKM_AES_GCM, &params, sizeof params};
  }
  Gcm(const Gcm&) = delete;
  Gcm& operator=(const Gcm&) = delete;
  Bytes nonce;
  Bytes bound;
  CK_GCM_PARAMS params = {};
  CK_MECHANISM mechanism = {};
};

bool works(Session& session, CK_OBJECT_HANDLE key) {
  Gcm gcm(random_bytes(kNonceBytes), {}, {});
  uint8_t plain[kTagBytes] = {};
  uint8_t cipher[2 * kTagBytes] = {};
  CK_ULONG size = sizeof cipher;
  return session.calls.C_EncryptInit(session.handle, &gcm.mechanism, key) == CKR_OK &&
         session.calls.C_Encrypt(session.handle, plain, sizeof plain, cipher, &size) == CKR_OK;
}

}  // namespace

// The key of this CKA_ID, or with an empty one any; a handle of 0: there is none.
Result<WrapKey::Key> WrapKey::find(Session& session, BytesView object_id) {
  Template wanted;
  wanted.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_AES).bytes(CKA_LABEL, as_bytes(label_));
  if (!object_id.empty()) wanted.bytes(CKA_ID, object_id);
  TRY_ASSIGN(const std::vector<CK_OBJECT_HANDLE> found, find_objects(session, wanted));
  Key key;
  if (found.empty()) return key;
  TRY_ASSIGN(const std::optional<Bytes> shown, read_attribute(session, found[0], CKA_ID));
  if (!shown || shown->size() != kObjectIdBytes)
    return fail(Code::internal, "the key \"" + label_ + "\" has no CKA_ID of 16 bytes: it was not made here");
  key.handle = found[0];
  key.object_id = *shown;
  return key;
}

Result<WrapKey::Key> WrapKey::find_or_make(Session& session) {
  TRY_ASSIGN(Key key, find(session, {}));
  if (key.handle != 0) return key;
  key.object_id = random_bytes(kObjectIdBytes);
  Template wanted;
  wanted.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_AES).number(CKA_VALUE_LEN, 32);
  wanted.flag(CKA_TOKEN, true).flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, true).flag(CKA_EXTRACTABLE, false);
  wanted.flag(CKA_ENCRYPT, true).flag(CKA_DECRYPT, true);
  wanted.bytes(CKA_LABEL, as_bytes(label_)).bytes(CKA_ID, key.object_id);
  CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, nullptr, 0};
  TRY(session.check("C_GenerateKey", session.calls.C_GenerateKey(session.handle, &mechanism, wanted.data(),
                                                                 wanted.size(), &key.handle)));
  return key;
}

Result<Bytes> WrapKey::seal(BytesView plain, BytesView context) {
  return token_.with_session([&](Session& session) -> Result<Bytes> {
    TRY_ASSIGN(const Key key, find_or_make(session));
    Bytes out{kVersion};
    append(out, key.object_id);
    Gcm gcm(random_bytes(kNonceBytes), out, context);
    append(out, gcm.nonce);
    const size_t start = out.size();
    CK_ULONG size = plain.size() + kTagBytes;
    out.resize(start + size);
    SecretBytes input(plain);
    TRY(session.check("C_EncryptInit", session.calls.C_EncryptInit(session.handle, &gcm.mechanism, key.handle)));
    TRY(session.check("C_Encrypt",
                      session.calls.C_Encrypt(session.handle, input.data(), input.size(), out.data() + start, &size)));
    if (size != plain.size() + kTagBytes) return fail(Code::internal, "the token's ciphertext has an odd size");
    return out;
  });
}

Result<SecretBytes> WrapKey::unseal(BytesView blob, BytesView context) {
  if (blob.size() <= kHeadBytes + kNonceBytes + kTagBytes || blob[0] != kVersion)
    return never("the blob is too short, or of a format that is not known");
  return token_.with_session([&](Session& session) -> Result<SecretBytes> {
    TRY_ASSIGN(const Key key, find(session, blob.subspan(1, kObjectIdBytes)));
    if (key.handle == 0) return never("the key that sealed it, \"" + label_ + "\", is not in this token");
    Gcm gcm(to_bytes(blob.subspan(kHeadBytes, kNonceBytes)), blob.first(kHeadBytes), context);
    Bytes cipher = to_bytes(blob.subspan(kHeadBytes + kNonceBytes));
    SecretBytes out(cipher.size());  // some tokens want room for the tag too
    CK_ULONG size = out.size();
    TRY(session.check("C_DecryptInit", session.calls.C_DecryptInit(session.handle, &gcm.mechanism, key.handle)));
    const CK_RV rv = session.calls.C_Decrypt(session.handle, cipher.data(), cipher.size(), out.data(), &size);
    // What a wrong tag is called differs from token to token; some say what others say when the device is broken.
    if (rv != CKR_OK && (!is_lost(rv) || works(session, key.handle)))
      return never(ck_error("C_Decrypt", rv).message + ": another context, or the blob was changed");
    TRY(session.check("C_Decrypt", rv));
    if (size != cipher.size() - kTagBytes) return never("what was opened has an odd size");
    out.truncate(size);
    return out;
  });
}

}  // namespace limpet::pkcs11

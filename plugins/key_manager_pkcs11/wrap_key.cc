// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/wrap_key.h"

#include <algorithm>

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

// Whether the token refused the blob, and not the work. What a wrong tag is called differs from token to token; some
// say what others say when the device is broken, or a number of the vendor's: then the key is tried. Memory and PINs
// stay what they are, though: a piece smaller than the blob may well be encrypted.
bool refuses_the_blob(Session& session, CK_OBJECT_HANDLE key, CK_RV rv) {
  if (rv == CKR_ENCRYPTED_DATA_INVALID || rv == CKR_ENCRYPTED_DATA_LEN_RANGE) return true;
  const Code code = ck_error("", rv).code;
  return code != Code::resource_exhausted && code != Code::permission_denied && works(session, key);
}

// A blob of at least head, nonce and tag.
Result<SecretBytes> open_blob(Session& session, CK_OBJECT_HANDLE key, BytesView blob, BytesView context) {
  Gcm gcm(to_bytes(blob.subspan(kHeadBytes, kNonceBytes)), blob.first(kHeadBytes), context);
  Bytes cipher = to_bytes(blob.subspan(kHeadBytes + kNonceBytes));
  SecretBytes out(cipher.size());  // some tokens want room for the tag too
  CK_ULONG size = out.size();
  TRY(session.check("C_DecryptInit", session.calls.C_DecryptInit(session.handle, &gcm.mechanism, key)));
  const CK_RV rv = session.calls.C_Decrypt(session.handle, cipher.data(), cipher.size(), out.data(), &size);
  if (rv != CKR_OK && refuses_the_blob(session, key, rv))
    return never(ck_error("C_Decrypt", rv).message + ": another context, or the blob was changed");
  TRY(session.check("C_Decrypt", rv));
  if (size != cipher.size() - kTagBytes) return never("what was opened has an odd size");
  out.truncate(size);
  return out;
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

// Some tokens (FIPS 140 wants it so) take no nonce of ours: they write one of theirs where ours stood. What they do
// with it is theirs to know, so each blob is opened before it is given away: whoever seals destroys the plain text
// after it.
Result<Bytes> WrapKey::seal(BytesView plain, BytesView context) {
  return token_.with_session([&](Session& session) -> Result<Bytes> {
    TRY_ASSIGN(const Key key, find_or_make(session));
    Bytes out{kVersion};
    append(out, key.object_id);
    Gcm gcm(random_bytes(kNonceBytes), out, context);
    Bytes cipher(plain.size() + kTagBytes);
    CK_ULONG size = cipher.size();
    SecretBytes input(plain);
    TRY(session.check("C_EncryptInit", session.calls.C_EncryptInit(session.handle, &gcm.mechanism, key.handle)));
    TRY(session.check("C_Encrypt",
                      session.calls.C_Encrypt(session.handle, input.data(), input.size(), cipher.data(), &size)));
    if (size != cipher.size()) return fail(Code::internal, "the token's ciphertext has an odd size");
    append(out, gcm.nonce);
    append(out, cipher);
    const auto opened = open_blob(session, key.handle, out, context);
    if (opened && std::ranges::equal(opened->view(), plain)) return out;
    if (!opened && opened.error().code != Code::failed_precondition) return fail(opened.error());
    return fail(Code::internal, "what the token sealed does not open again" +
                                    (opened ? std::string(" to what it was") : ": " + opened.error().message));
  });
}

Result<SecretBytes> WrapKey::unseal(BytesView blob, BytesView context) {
  if (blob.size() <= kHeadBytes + kNonceBytes + kTagBytes || blob[0] != kVersion)
    return never("the blob is too short, or of a format that is not known");
  return token_.with_session([&](Session& session) -> Result<SecretBytes> {
    TRY_ASSIGN(const Key key, find(session, blob.subspan(1, kObjectIdBytes)));
    if (key.handle == 0) return never("the key that sealed it, \"" + label_ + "\", is not in this token");
    return open_blob(session, key.handle, blob, context);
  });
}

}  // namespace limpet::pkcs11

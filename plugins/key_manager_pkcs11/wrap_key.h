// SPDX-License-Identifier: Apache-2.0
#pragma once
// The sealer's AES-256 key in the token, "limpet:<namespace>:sealer", made at the first sealing; it never leaves the
// token. Blob: 1 byte version, 16 bytes CKA_ID of the key, 12 bytes nonce, ciphertext, 16 bytes tag (AES-GCM; version,
// CKA_ID and context are bound). Used by the instance's thread.

#include "base/secret.h"
#include "key_manager_pkcs11/objects.h"

namespace limpet::pkcs11 {

class WrapKey {
 public:
  WrapKey(Token& token, const std::string& name_space) : token_(token), label_("limpet:" + name_space + ":sealer") {}
  // INTERNAL: the token does not open what it just sealed.
  Result<Bytes> seal(BytesView plain, BytesView context);
  // FAILED_PRECONDITION: the key is not in this token, or the blob is not what was sealed.
  Result<SecretBytes> unseal(BytesView blob, BytesView context);

 private:
  struct Key {
    CK_OBJECT_HANDLE handle = 0;
    Bytes object_id;
  };
  Result<Key> find(Session& session, BytesView object_id);
  Result<Key> find_or_make(Session& session);

  Token& token_;
  const std::string label_;
};

}  // namespace limpet::pkcs11

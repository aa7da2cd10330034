// SPDX-License-Identifier: Apache-2.0
#include "plugin/key_csr.h"

#include <utility>

#include "crypto/x509.h"

namespace limpet {

void KeyCsrFlow::start(CsrWish wish, Done<KeyAndCsr> done) {
  wish_ = std::move(wish);
  done_ = std::move(done);
  if (wish_.keep) return keys_.list(listed_.then<&KeyCsrFlow::on_listed>(this));
  generate();
}

void KeyCsrFlow::generate() { keys_.generate(wish_.key_id, wish_.type, generated_.then<&KeyCsrFlow::on_key>(this)); }

void KeyCsrFlow::on_listed(Result<std::vector<ManagedKey>> keys) {
  if (!keys) return end(fail(std::move(keys).error().within("list the keys of key manager " + keys_.name())));
  for (ManagedKey& key : *keys) {
    if (key.id != wish_.key_id) continue;
    if (key.type == wish_.type) return on_key(std::move(key));
    return end(fail(Code::failed_precondition, "key " + key.id + " is there already, as " +
                                                   std::string(key_type_name(key.type)) +
                                                   "; ask for that type, or have it replaced"));
  }
  generate();
}

void KeyCsrFlow::on_key(Result<ManagedKey> key) {
  if (!key) return end(fail(std::move(key).error().within("generate key " + wish_.key_id)));
  key_ = std::move(*key);
  info_ = encode_csr_info({wish_.subject, key_.key.spki(), {}, wish_.dns_names});
  const HashAlg alg = hash_for(key_.type);
  keys_.sign(key_, alg, hash(alg, info_), signed_.then<&KeyCsrFlow::on_signed>(this));
}

void KeyCsrFlow::on_signed(Result<Bytes> signature) {
  if (!signature) return end(fail(std::move(signature).error().within("sign a CSR with key " + wish_.key_id)));
  Bytes csr = seal_csr(info_, key_.type, hash_for(key_.type), *signature);
  end(KeyAndCsr{key_, std::move(csr)});
}

void KeyCsrFlow::end(Result<KeyAndCsr> result) {
  Done<KeyAndCsr> done = std::move(done_);  // its call may destroy this
  done(std::move(result));
}

}  // namespace limpet

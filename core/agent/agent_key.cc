// SPDX-License-Identifier: Apache-2.0
#include "agent/agent_key.h"

#include <utility>

#include "crypto/x509.h"

namespace limpet::agent {

void NewAgentKey::start(const std::string& id, Done<KeyAndCsr> done) {
  done_ = std::move(done);
  keys_.generate(id, KeyType::ec_p256, generated_.then<&NewAgentKey::on_generated>(this));
}

void NewAgentKey::on_generated(Result<ManagedKey> key) {
  if (!key) {
    Done<KeyAndCsr> done = std::move(done_);
    return done(fail(std::move(key).error().within("generate the agent's key")));
  }
  key_ = std::move(*key);
  info_ = encode_csr_info({encode_name({{kOidCountry, "US"}, {kOidOrganization, "SPIRE"}}), key_.key.spki(), {}, {}});
  keys_.sign(key_, HashAlg::sha256, hash(HashAlg::sha256, info_), signed_.then<&NewAgentKey::on_signed>(this));
}

void NewAgentKey::on_signed(Result<Bytes> signature) {
  Done<KeyAndCsr> done = std::move(done_);  // its call may destroy this
  if (!signature) return done(fail(std::move(signature).error().within("sign the agent's CSR")));
  Bytes csr = seal_csr(info_, KeyType::ec_p256, HashAlg::sha256, *signature);
  done(KeyAndCsr{key_, std::move(csr)});
}

}  // namespace limpet::agent

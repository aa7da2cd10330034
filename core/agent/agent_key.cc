// SPDX-License-Identifier: Apache-2.0
#include "agent/agent_key.h"

#include "crypto/x509.h"

namespace limpet::agent {

CsrWish agent_csr(const std::string& key_id) {
  return {key_id, KeyType::ec_p256, encode_name({{kOidCountry, "US"}, {kOidOrganization, "SPIRE"}})};
}

}  // namespace limpet::agent

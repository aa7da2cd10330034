// SPDX-License-Identifier: Apache-2.0
#include "server/ttl_warnings.h"

#include <algorithm>

namespace limpet::server {

std::vector<std::string> ttl_warnings(const ServerConfig& config) {
  constexpr int64_t kLongest = 7 * 24 * 3600;
  const int64_t kept = std::min(config.ca_ttl_s / 6, kLongest);
  struct Ttl {
    const char* key;
    int64_t seconds;
  };
  std::vector<std::string> warnings;
  for (const Ttl& ttl :
       {Ttl{"default_x509_svid_ttl", config.default_x509_svid_ttl_s},
        Ttl{"default_jwt_svid_ttl", config.default_jwt_svid_ttl_s}, Ttl{"agent_ttl", config.agent_ttl_s}}) {
    if (ttl.seconds <= kept) continue;
    std::string text = std::string(ttl.key) + " is too long for ca_ttl: some SVIDs will live shorter. Set it to " +
                       std::to_string(kept) + "s or less";
    if (ttl.seconds <= kLongest) text += ", or ca_ttl to " + std::to_string(ttl.seconds * 6) + "s or more";
    warnings.push_back(std::move(text));
  }
  return warnings;
}

}  // namespace limpet::server

// SPDX-License-Identifier: Apache-2.0
#pragma once
// The server half's configuration, read and checked, and what it trusts: made anew for each configuration, immutable.

#include <limpet_plugin.h>

#include <string>
#include <vector>

#include "crypto/x509.h"
#include "node_attestor_tpm/policies.h"

namespace limpet::tpm_attestor {

struct Settings {
  std::string hash_path;                 // directory of files named by hash; empty: none
  std::vector<Certificate> authorities;  // from ca_path: who may sign endorsement key certificates
  bool require_enrollment = false;       // a certificate alone does not let an agent in
  std::string policy_path;               // PCR policies; empty: none
  std::vector<PcrPolicy> policies;       // as they were in it
  bool require_policy = false;           // an agent that matches no policy is refused
  bool event_log = false;                // tpm:secureboot

  [[nodiscard]] bool wants_quote() const { return !policy_path.empty() || event_log; }
};

// Loads ca_path. INVALID_ARGUMENT names key and file. Blocks.
Result<Settings> read_settings(const limpet_config& config);

}  // namespace limpet::tpm_attestor

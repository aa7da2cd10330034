// SPDX-License-Identifier: Apache-2.0
#pragma once
// The agent's own key: always P-256, with a CSR of subject C=US, O=SPIRE and no SAN, as SPIRE's agent makes it. Pure
// functions.

#include "plugin/key_csr.h"

namespace limpet::agent {

// The two key slots take turns, so that the key in use is never the one being replaced.
inline constexpr const char* kKeyA = "agent-svid-A";
inline constexpr const char* kKeyB = "agent-svid-B";
inline const char* other_key(std::string_view id) { return id == kKeyA ? kKeyB : kKeyA; }

CsrWish agent_csr(const std::string& key_id);

}  // namespace limpet::agent

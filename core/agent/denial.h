// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a server means when it refuses an agent: the reason in the status details (wire notes, section 3). Pure, any
// thread.

#include "base/result.h"

namespace limpet::agent {

enum class Denial {
  none,      // not a refusal of this agent
  reattest,  // expired, not attested, not active or told to: attest anew
  banned,    // an operator banned it: only an operator can change that
};
Denial denial_of(const Error& error);

}  // namespace limpet::agent

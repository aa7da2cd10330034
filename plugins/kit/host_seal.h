// SPDX-License-Identifier: Apache-2.0
#pragma once
// The host's sealer for a BLOCKING plugin (limpet.seal/1). On the plugin's thread. `context` has at most 32 bytes.

#include "base/bytes.h"
#include "base/secret.h"
#include "kit/host_wait.h"

namespace limpet::kit {

[[nodiscard]] bool host_seals(const limpet_host* host);  // it has a sealer
Result<Bytes> seal_with_host(HostWait& host, const SecretBytes& plain, std::string_view context);
// FAILED_PRECONDITION: this machine or token cannot open it.
Result<SecretBytes> unseal_with_host(HostWait& host, BytesView blob, std::string_view context);

}  // namespace limpet::kit

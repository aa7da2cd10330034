// SPDX-License-Identifier: Apache-2.0
#pragma once
// A workload's SVID as a row of the table agent_svids; its key is sealed in it. Pure functions; loop thread only.

#include <memory>

#include "agent/identity_cache.h"

namespace limpet::agent {

// FAILED_PRECONDITION: another seal key, or damaged. DATA_LOSS.
Result<std::unique_ptr<CachedSvid>> decode_svid_row(const SecretBytes& seal_key, BytesView id, BytesView row);
Result<Bytes> encode_svid_row(const SecretBytes& seal_key, BytesView id, const CachedSvid& svid);

}  // namespace limpet::agent

// SPDX-License-Identifier: Apache-2.0
#pragma once
// The header of the PROXY protocol, versions 1 (text) and 2 (binary), by which a load balancer tells whom it forwards.
// Pure, any thread.

#include <optional>

#include "base/bytes.h"
#include "base/result.h"
#include "loop/stream.h"

namespace limpet::wire {

struct ProxyHeader {
  size_t size = 0;                      // its bytes; 0: the connection begins without one
  std::optional<StreamAddress> source;  // nullopt: the proxy speaks for itself, or of what is no TCP connection
};

// What a connection begins with. nullopt: more bytes are needed to tell. INVALID_ARGUMENT: it begins as a header and is
// none, or one larger than limits::kProxyHeaderBytes.
Result<std::optional<ProxyHeader>> read_proxy_header(BytesView bytes);

}  // namespace limpet::wire

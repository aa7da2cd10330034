// SPDX-License-Identifier: Apache-2.0
#pragma once
// Which of the host's services a kind of plugin may use, wherever it runs; the table is in shim/README.md. Timers and
// polls are for all. A service that is not allowed looks to the plugin like one that the host lacks. Any thread.

#include <cstdint>
#include <string_view>

namespace limpet {

// Bits of shim::Service. `network`: its process has one, so a call through the host gives it no more. A workload
// attestor sees every process and file, so it never gets to tell anybody: not through the host either.
uint32_t allowed_services(std::string_view interface_id, bool network);

}  // namespace limpet

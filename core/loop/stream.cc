// SPDX-License-Identifier: Apache-2.0
#include "loop/stream.h"

namespace limpet {

std::string StreamAddress::text() const {
  if (unix_socket) return "unix";
  const std::string port_text = ":" + std::to_string(port);
  return ip.find(':') == std::string::npos ? ip + port_text : "[" + ip + "]" + port_text;
}

}  // namespace limpet

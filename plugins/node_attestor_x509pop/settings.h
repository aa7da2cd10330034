// SPDX-License-Identifier: Apache-2.0
#pragma once
// The server half's configuration: read, checked and with its files loaded. A value; reading it blocks.

#include <limpet_plugin.h>

#include <string>
#include <vector>

#include "crypto/x509.h"
#include "kit/path_template.h"

namespace limpet::x509pop {

struct Settings {
  std::string trust_domain;
  bool spiffe = false;             // mode: the roots are the server's own, the leaf is an X509-SVID
  std::vector<Certificate> roots;  // external_pki
  std::string prefix;              // spiffe: of the path of the SPIFFE ID, with both slashes
  kit::PathTemplate path;
  size_t max_intermediates = 4;
  uint32_t max_rsa_bits = 0;
  bool verify_client_ip = false;
};

// INVALID_ARGUMENT names the key and what it may be.
Result<Settings> read_settings(const limpet_config& config);

}  // namespace limpet::x509pop

// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a certificate says beyond what crypto::Certificate keeps. It was parsed already. Pure, any thread.

#include <string>
#include <vector>

#include "crypto/x509.h"

namespace limpet::kit {

Result<BytesView> extensions_of(BytesView certificate);  // the content of the Extensions SEQUENCE, empty when absent

std::vector<NameAttribute> name_attributes(BytesView name_der);           // those that are text, in their order
std::string common_name(BytesView name_der);                              // the last one, as Go; empty when absent
std::vector<Bytes> ip_addresses(const Certificate& certificate);          // of the SAN; 4 or 16 bytes each
bool has_address(const Certificate& certificate, const std::string& ip);  // `ip` as text
std::string serial_hex(const Certificate& certificate);                   // lower case, even length, at least "00"
std::string fingerprint(const Certificate& certificate);                  // SHA-1 of the DER, lower case hex

}  // namespace limpet::kit

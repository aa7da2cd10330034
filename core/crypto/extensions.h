// SPDX-License-Identifier: Apache-2.0
#pragma once
// X.509 extensions shared by certificates and CSRs. For crypto's own use; pure functions.

#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace limpet {

struct AltNames {
  std::vector<std::string> uris;
  std::vector<std::string> dns_names;
  bool others_known = false;  // an IP address or mail address stood there: understood, not used
};

// `content` is that of the Extensions SEQUENCE. Calls `each` for every extension, twice the same one is an error.
Result<void> read_extensions(
    BytesView content, const std::function<Result<void>(const std::string& oid, bool critical, BytesView value)>& each);
Result<AltNames> read_alt_names(BytesView value);

Bytes encode_extension(std::string_view oid, bool critical, BytesView value);
Bytes encode_alt_names(const std::vector<std::string>& dns_names, const std::vector<std::string>& uris);
// A Name is an ordered list of sets of (OID, text) pairs; this checks just that.
Result<void> check_name(BytesView name_der);

}  // namespace limpet

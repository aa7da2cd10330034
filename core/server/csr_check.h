// SPDX-License-Identifier: Apache-2.0
#pragma once
// A CSR parsed, with its own signature checked: 2.6 ms of P-256, so it runs on a worker. Any thread.

#include "crypto/x509.h"

namespace limpet::server {

struct CheckedCsr {
  Csr csr;
  Bytes key_id;  // of its public key
};

// Both INVALID_ARGUMENT: "<malformed>: why", or "<unsigned_by_key>: why" when the signature is not the key's.
inline Result<CheckedCsr> check_csr(BytesView der, std::string_view malformed, std::string_view unsigned_by_key) {
  auto csr = Csr::parse(der);
  if (!csr) return fail(Code::invalid_argument, std::string(malformed) + ": " + csr.error().message);
  if (auto good = csr->verify(); !good)
    return fail(Code::invalid_argument, std::string(unsigned_by_key) + ": " + good.error().message);
  Bytes key_id = csr->key.key_id();
  return CheckedCsr{std::move(*csr), std::move(key_id)};
}

}  // namespace limpet::server

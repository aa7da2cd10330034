// SPDX-License-Identifier: Apache-2.0
// Certificate signing requests, and their signatures.
#include "crypto/x509.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto csr = limpet::Csr::parse({data, size});
  if (csr) (void)csr->verify();
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Trust bundles as JSON: what was read writes, and reads back the same.
#include "fuzz.h"
#include "spiffe/bundle.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  static const TrustDomain trust_domain = TrustDomain::parse("example.org").value();
  const auto bundle = bundle_from_json(as_text({data, size}), trust_domain);
  if (!bundle) return 0;
  const auto again = bundle_from_json(bundle_to_json(*bundle), trust_domain);
  FUZZ_CHECK(again.has_value());
  FUZZ_CHECK(*again == *bundle);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// SPIFFE IDs, trust domains, selectors, DNS names and entry IDs: whatever is taken prints as it was read.
#include "fuzz.h"
#include "spiffe/entry.h"
#include "spiffe/id.h"

namespace limpet {
namespace {

void run(std::string_view text) {
  if (const auto id = SpiffeId::parse(text)) {
    FUZZ_CHECK(SpiffeId::parse(id->text()).value() == *id);
    FUZZ_CHECK(SpiffeId::make(id->trust_domain(), id->path()).value() == *id);
    FUZZ_CHECK(TrustDomain::parse(id->trust_domain().name()).value() == id->trust_domain());
    FUZZ_CHECK(id->text() == text);
  }
  if (const auto trust_domain = TrustDomain::parse(text))
    FUZZ_CHECK(TrustDomain::parse(trust_domain->id()).has_value());
  if (const auto selector = Selector::parse(text)) FUZZ_CHECK(Selector::parse(selector->text()).value() == *selector);
  (void)check_path(text);
  (void)check_dns_name(text);
  (void)check_entry_id(text);
}

}  // namespace
}  // namespace limpet

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  limpet::run(limpet::as_text({data, size}));
  return 0;
}

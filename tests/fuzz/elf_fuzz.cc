// SPDX-License-Identifier: Apache-2.0
// A plugin's file before it is mapped, and as plugin-check reads it: refused with a message, or read, whatever its
// offsets say.
#include "fuzz.h"
#include "plugin/elf_facts.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  const auto facts = read_elf(as_text({data, size}));
  if (!facts) FUZZ_CHECK(!facts.error().message.empty());
  if (facts) FUZZ_CHECK(facts->exported.size() <= kMostExported);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// A shared object as plugin-check reads it: refused with a message, or read, whatever its offsets say.
#include "fuzz.h"
#include "plugin_check/elf_facts.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  const auto facts = check::read_elf(as_text({data, size}));
  if (!facts) FUZZ_CHECK(facts.error().message.starts_with("not a sound ELF file: "));
  if (facts) FUZZ_CHECK(facts->exported.size() <= size / 16);
  return 0;
}

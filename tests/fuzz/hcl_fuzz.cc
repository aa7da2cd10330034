// SPDX-License-Identifier: Apache-2.0
// SPIRE's configurations: any text is refused with a message or imported, and what was imported is TOML that the
// configuration takes or refuses with a message.
#include "config/hcl.h"

#include "config/config.h"
#include "config/spire_import.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  const auto text = as_text({data, size});
  (void)is_limpet_config(text);
  (void)expand_env(text, [](const char*) { return "x"; });
  const auto imported = import_spire(text);
  if (!imported) {
    FUZZ_CHECK(imported.error().message.starts_with("line "));
    return 0;
  }
  for (const ImportNote& note : imported->notes) FUZZ_CHECK(!note.reason.empty());
  const auto config = parse_config(imported->toml, "c.toml");
  FUZZ_CHECK(config.has_value() || !config.error().message.empty());
  return 0;
}

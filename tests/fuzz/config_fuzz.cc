// SPDX-License-Identifier: Apache-2.0
// The configuration: any text is refused with a message or taken, and what was taken prints as a configuration again.
#include "config/config.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  const auto text = as_text({data, size});
  (void)parse_duration_ms(text);
  const auto config = parse_config(text, "limpet.toml");
  if (!config) {
    FUZZ_CHECK(!config.error().message.empty());
    return 0;
  }
  (void)config_to_toml(*config);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// JWT-SVIDs as a workload hands them over: whatever is taken keeps to the bounds and says the same when taken again.
#include "base/limits.h"
#include "fuzz.h"
#include "spiffe/jwt_svid.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace limpet;
  static const PublicKey key = PrivateKey::generate(KeyType::ec_p256).value().public_key();
  const std::string_view text = as_text({data, size});
  const auto token = parse_jwt_svid(text);
  if (!token) return 0;
  FUZZ_CHECK(size <= limits::kJwtBytes);
  FUZZ_CHECK(token->signing_input + "." + base64url_encode(token->signature) == text);
  FUZZ_CHECK(!token->key_id.empty() && !token->id.empty());
  FUZZ_CHECK(!verify_jwt_signature(*token, key).has_value());
  (void)check_jwt_claims(*token, "aud", 1'795'312'835);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "cli/key_commands.h"

#include <cstdio>

#include "cli/import_commands.h"
#include "cli/output.h"
#include "config/config.h"

namespace limpet::cli {

namespace {

Result<Bytes> make_csr(const Context& context) {
  const Flags& flags = *context.flags;
  CsrRequest request;
  request.key_id = flags.text("keyID");
  if (request.key_id.empty()) return fail(Code::invalid_argument, "which key? Say -keyID");
  TRY_ASSIGN_WITHIN("-keyType", request.type, parse_key_type(flags.text("keyType")));
  request.common_name = flags.given("commonName") ? flags.text("commonName") : request.key_id;
  request.dns_names = flags.list("dns");
  request.replace = flags.on("replace");
  TRY_ASSIGN(const Config config, load_configured(context));
  const std::string& role = flags.text("role");
  if (role != "server" && role != "agent")
    return fail(Code::invalid_argument, "-role takes server or agent; \"" + role + "\" is neither");
  request.server = role == "server";
  if (request.server ? !config.server : !config.agent)
    return fail(Code::invalid_argument, "the configuration has no [" + role + "] table");
  return context.runner->make_csr(config, request);
}

int key_csr(Context& context) {
  const auto csr = make_csr(context);
  if (!csr) return failed(csr.error());
  std::fputs(pem_encode("CERTIFICATE REQUEST", *csr).c_str(), stdout);
  return 0;
}

}  // namespace

std::vector<Command> key_commands() {
  return {
      {"key csr",
       kLimpet,
       "Makes a key for an attestor in the key manager, and prints a CSR for it",
       {{"config", FlagType::text, "/etc/limpet/limpet.toml", "The configuration file"},
        {"expandEnv", FlagType::boolean, "false", "Replace $NAME and ${NAME} in the file by the environment's values"},
        {"role", FlagType::text, "agent", "Whose key manager: agent or server"},
        {"keyID", FlagType::text, "", "The key's name, as the attestor's key_id has it"},
        {"keyType", FlagType::text, "ec-p256", "ec-p256, ec-p384, rsa-2048 or rsa-4096"},
        {"commonName", FlagType::text, "", "The CSR's common name; the key's name when left out"},
        {"dns", FlagType::list, "", "A DNS name for the CSR; may be repeated"},
        {"replace", FlagType::boolean, "false", "Put a new key in the place of one that is there"}},
       key_csr}};
}

}  // namespace limpet::cli

// SPDX-License-Identifier: Apache-2.0
#pragma once
// Commands and their flags as one table, from which parsing, help, completion and the man page come. Verbs, flags and
// exit codes are SPIRE's: one dash or two, "-flag value" or "-flag=value", booleans take "=true" or "=false" only, no
// abbreviations. Commands run on the main thread and block until they are done.
//
// Exit codes: 0 done, 1 failed (bad flags too), 127 no such command.

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "crypto/key.h"
#include "plugin/describe.h"

namespace limpet {
struct Config;
}

namespace limpet::cli {

enum class FlagType : uint8_t { text, number, duration, boolean, list };

struct Flag {
  const char* name;
  FlagType type;
  const char* default_text;  // what an absent flag is taken for; "" is none
  const char* help;
};

// Which programs have a command: called as spire-server, as spire-agent, as limpet. `limpet` has what the other two
// have, unless it has a command of the same words of its own.
enum Programs : unsigned { kServer = 1, kAgent = 2, kLimpet = 4 };

// The flags of one call, parsed and typed.
class Flags {
 public:
  [[nodiscard]] const std::string& text(std::string_view name) const;
  [[nodiscard]] int64_t number(std::string_view name) const;  // durations too, in milliseconds
  // A number of seconds, or a duration rounded up to seconds, for a field of 32 bits. INVALID_ARGUMENT names the flag.
  [[nodiscard]] Result<int32_t> seconds(std::string_view name) const;
  [[nodiscard]] bool on(std::string_view name) const;
  [[nodiscard]] const std::vector<std::string>& list(std::string_view name) const;
  [[nodiscard]] bool given(std::string_view name) const;  // typed by the user

  // INVALID_ARGUMENT with Go's wording: "flag provided but not defined: -x", "flag needs an argument: -x",
  // "invalid value \"x\" for flag -ttl: parse error".
  static Result<Flags> parse(std::span<const Flag> known, std::vector<std::string> arguments);
  [[nodiscard]] const std::vector<std::string>& rest() const { return rest_; }  // what stood after the flags

 private:
  struct Value {
    bool given = false;
    FlagType type = FlagType::text;
    std::string text;
    int64_t number = 0;
    std::vector<std::string> list;
  };
  Result<void> set(const Flag& flag, const char* argument);
  [[nodiscard]] const Value& at(std::string_view name) const;
  std::map<std::string, Value, std::less<>> values_;
  std::vector<std::string> rest_;
};

using ReloadConfig = std::function<Result<void>(Config& config)>;

// A key for a plugin in a role's key manager, and the CSR for it.
struct CsrRequest {
  bool server = false;
  std::string key_id;
  KeyType type = KeyType::ec_p256;
  std::string common_name;
  std::vector<std::string> dns_names;
  bool replace = false;  // else a key that is there is used
};

// What runs the roles, given by main(): this folder does not know how a server or an agent works inside.
struct Runner {
  // Until a signal ends it; the exit code. `reload` reads the configuration once more, as it was read for this run.
  int (*run)(const Config& config, const ReloadConfig& reload);
  // Checks what only the roles know (plugins and their data, by a dry run). Nothing is started or written.
  Result<void> (*check)(const Config& config);
  // The CSR, in DER. The role need not run; a key manager may refuse to be used twice at a time.
  Result<Bytes> (*make_csr)(const Config& config, const CsrRequest& request);
  // What a plugin's file says of itself, asked in a throw-away process; and what is built in.
  Result<PluginDescription> (*describe)(const std::string& path, const std::string& sha256);  // empty: whatever it is
  std::vector<PluginDescription> (*built_in)();
};

struct Context {
  unsigned program = kLimpet;
  const Flags* flags = nullptr;
  const Runner* runner = nullptr;
};

struct Command {
  const char* words;  // "entry create"
  unsigned programs;
  const char* summary;  // one line
  std::vector<Flag> flags;
  int (*run)(Context& context);
};

// Every command, in the order of the help. The table of core/cli/commands.cc.
const std::vector<Command>& commands();

// Finds the command, parses its flags and runs it. `arguments` is argv without argv[0].
int dispatch(unsigned program, std::vector<std::string> arguments, const Runner& runner);

// The help texts: of everything a program has, and of one command.
std::string usage(unsigned program);
std::string usage(const Command& command);

}  // namespace limpet::cli

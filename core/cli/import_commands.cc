// SPDX-License-Identifier: Apache-2.0
#include "cli/import_commands.h"

#include <unistd.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "cli/output.h"
#include "config/hcl.h"
#include "config/spire_import.h"

namespace limpet::cli {
namespace {

std::string absolute(const std::string& path) {
  char folder[PATH_MAX];
  if (path.starts_with('/') || ::getcwd(folder, sizeof folder) == nullptr) return path;
  return std::string(folder) + "/" + path;
}

Result<std::string> text_of(const Context& context, const std::string& path) {
  auto text = read_config_file(path);
  if (!text && context.program != kLimpet && ::access(path.c_str(), F_OK) != 0) {
    return fail(Code::not_found, "could not find config file " + absolute(path) + ": please use the -config flag");
  }
  if (text && context.flags->on("expandEnv"))
    *text = expand_env(*text, [](const char* name) { return std::getenv(name); });
  return text;
}

// As SPIRE's log has it: a value that is more than a word stands in quotes.
void log_unknown(const UnknownKeys& unknown) {
  char when[32] = "";
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  if (::gmtime_r(&now, &utc) != nullptr) std::strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
  const auto value = [](const std::string& text) {
    return text.find_first_of(", \"=") == std::string::npos ? text : "\"" + text + "\"";
  };
  std::fprintf(stderr, "time=\"%s\" level=error msg=\"Unknown configuration detected\" keys=%s section=%s\n", when,
               value(unknown.keys).c_str(), value(unknown.section).c_str());
}

std::string line_of(const std::string& path, const ImportNote& note) {
  return path + ":" + std::to_string(note.line) + ": " + note.key + ": " + note.reason;
}

int run_import(Context& context) {
  const auto& files = context.flags->rest();
  if (files.size() != 1) {
    return failed(Error{Code::invalid_argument, "which file? Say: limpet config import FILE"});
  }
  const auto text = text_of(context, files[0]);
  if (!text) return failed(text.error());
  if (is_limpet_config(*text)) {
    return failed(Error{Code::invalid_argument, files[0] + " is a configuration of Limpet already"});
  }
  const auto imported = import_spire(*text);
  if (!imported) return failed(Error{imported.error().code, files[0] + ": " + imported.error().message});
  std::printf("%s", imported->toml.c_str());
  if (!imported->notes.empty()) std::printf("\n# Without a counterpart:\n");
  for (const ImportNote& note : imported->notes) {
    std::string line = line_of(files[0], note);
    for (char& c : line) {
      if (static_cast<unsigned char>(c) < 0x20) c = ' ';  // a name may hold what would end the comment
    }
    std::printf("# %s\n", line.c_str());
  }
  return 0;
}

}  // namespace

Result<Config> load_configured(const Context& context, const ConfigAdjust& adjust) {
  const std::string& path = context.flags->text("config");
  TRY_ASSIGN(const std::string text, text_of(context, path));
  if (is_limpet_config(text)) return parse_config(text, path, adjust);
  const auto imported = import_spire(text);
  if (!imported) return fail(imported.error().code, path + ": " + imported.error().message);
  for (const UnknownKeys& unknown : imported->unknown) log_unknown(unknown);
  if (!imported->unknown.empty()) return fail(Code::invalid_argument, "unknown configuration detected");
  for (const ImportNote& note : imported->notes) {
    std::fprintf(stderr, "no counterpart: %s\n", line_of(path, note).c_str());
  }
  return parse_config(imported->toml, path + " (as `limpet config import` prints it)", adjust);
}

std::vector<Command> import_commands() {
  return {{"config import",
           kLimpet,
           "Prints a configuration of SPIRE as one of Limpet, and what of it has no counterpart",
           {{"expandEnv", FlagType::boolean, "false", "Replace $NAME and ${NAME} by the environment's values"}},
           run_import}};
}

}  // namespace limpet::cli

// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"

#include <getopt.h>

#include <charconv>
#include <cstdio>
#include <limits>

#include "config/config.h"

namespace limpet::cli {

namespace {

Result<int64_t> to_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) {
    return fail(Code::invalid_argument, "parse error");
  }
  return value;
}

// The name as it was typed: "-x", "--x" and "-x=1" are all "x".
std::string typed_name(std::string_view argument) {
  argument.remove_prefix(argument.starts_with("--") ? 2 : 1);
  return std::string(argument.substr(0, argument.find('=')));
}

}  // namespace

const Flags::Value& Flags::at(std::string_view name) const {
  static const Value kNone;
  const auto place = values_.find(name);
  return place == values_.end() ? kNone : place->second;
}

const std::string& Flags::text(std::string_view name) const { return at(name).text; }
int64_t Flags::number(std::string_view name) const { return at(name).number; }
Result<int32_t> Flags::seconds(std::string_view name) const {
  const Value& value = at(name);
  const bool milliseconds = value.type == FlagType::duration;
  const int64_t seconds = milliseconds ? value.number / 1000 + (value.number % 1000 > 0 ? 1 : 0) : value.number;
  if (seconds >= std::numeric_limits<int32_t>::min() && seconds <= std::numeric_limits<int32_t>::max()) {
    return static_cast<int32_t>(seconds);
  }
  return fail(Code::invalid_argument, "invalid value for flag -" + std::string(name) + ": " + std::to_string(seconds) +
                                          " seconds are out of range, at most 2147483647 are possible");
}
bool Flags::on(std::string_view name) const { return at(name).number != 0; }
const std::vector<std::string>& Flags::list(std::string_view name) const { return at(name).list; }
bool Flags::given(std::string_view name) const { return at(name).given; }

Result<void> Flags::set(const Flag& flag, const char* argument) {
  Value& value = values_[flag.name];
  value.given = true;
  value.type = flag.type;
  const std::string_view text = argument == nullptr ? "true" : argument;
  switch (flag.type) {
    case FlagType::text:
      value.text = text;
      return {};
    case FlagType::list:
      value.list.emplace_back(text);
      return {};
    case FlagType::boolean:
      if (text != "true" && text != "false") {
        return fail(Code::invalid_argument,
                    "invalid boolean value \"" + std::string(text) + "\" for -" + flag.name + ": parse error");
      }
      value.number = text == "true";
      return {};
    case FlagType::number:
    case FlagType::duration: {
      const auto number = flag.type == FlagType::number ? to_number(text) : parse_duration_ms(text);
      if (!number) {
        return fail(Code::invalid_argument,
                    "invalid value \"" + std::string(text) + "\" for flag -" + flag.name + ": parse error");
      }
      value.number = *number;
      return {};
    }
  }
  return {};
}

Result<Flags> Flags::parse(std::span<const Flag> known, std::vector<std::string> arguments) {
  Flags result;
  std::vector<option> options;
  for (const Flag& flag : known) {
    options.push_back({flag.name, flag.type == FlagType::boolean ? optional_argument : required_argument, nullptr, 0});
    if (flag.default_text[0] != '\0' && flag.type != FlagType::list) {
      TRY(result.set(flag, flag.default_text));
      result.values_[flag.name].given = false;
    }
  }
  options.push_back({});

  std::vector<char*> argv{const_cast<char*>("limpet")};
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const int argc = static_cast<int>(argv.size()) - 1;
  opterr = 0;
  optind = 0;  // glibc: start anew
  for (;;) {
    const int at_index = optind == 0 ? 1 : optind;
    int which = -1;
    const int got = getopt_long_only(argc, argv.data(), "+:", options.data(), &which);
    if (got == -1) break;
    const std::string typed = typed_name(argv[static_cast<size_t>(at_index)]);
    // getopt takes abbreviations, SPIRE does not
    if (got == ':') return fail(Code::invalid_argument, "flag needs an argument: -" + typed);
    if (got != 0 || which < 0 || typed != options[static_cast<size_t>(which)].name) {
      return fail(Code::invalid_argument, "flag provided but not defined: -" + typed);
    }
    TRY(result.set(known[static_cast<size_t>(which)], optarg));
  }
  for (int i = optind; i < argc; ++i) result.rest_.emplace_back(argv[static_cast<size_t>(i)]);
  return result;
}

std::string usage(const Command& command) {
  std::string text = std::string("Usage: ") + command.words + " [flags]\n  " + command.summary + "\n";
  for (const Flag& flag : command.flags) {
    text += std::string("  -") + flag.name;
    switch (flag.type) {
      case FlagType::text:
        text += " string";
        break;
      case FlagType::number:
        text += " int";
        break;
      case FlagType::duration:
        text += " duration";
        break;
      case FlagType::list:
        text += " value (may be repeated)";
        break;
      case FlagType::boolean:
        break;
    }
    text += std::string("\n    \t") + flag.help;
    if (flag.default_text[0] != '\0' && std::string_view(flag.default_text) != "false") {
      text += std::string(" (default ") + flag.default_text + ")";
    }
    text += "\n";
  }
  return text;
}

namespace {

bool has_own(const Command& command) {
  for (const Command& other : commands()) {
    if (other.programs == kLimpet && std::string_view(other.words) == command.words) return true;
  }
  return false;
}

bool belongs(const Command& command, unsigned program) {
  if ((command.programs & program) != 0) return true;
  return program == kLimpet && !has_own(command);
}

}  // namespace

std::string usage(unsigned program) {
  const char* name = program == kServer ? "spire-server" : program == kAgent ? "spire-agent" : "limpet";
  std::string text = std::string("Usage: ") + name + " [--version] [--help] <command> [<flags>]\n\nCommands:\n";
  size_t width = 0;
  for (const Command& command : commands()) width = std::max(width, std::string_view(command.words).size());
  for (const Command& command : commands()) {
    if (!belongs(command, program)) continue;
    text += std::string("    ") + command.words + std::string(width + 2 - std::string_view(command.words).size(), ' ') +
            command.summary + "\n";
  }
  return text;
}

namespace {

// How many leading arguments are the command's words; 0: it is another command.
size_t matches_words(const Command& command, const std::vector<std::string>& arguments) {
  size_t count = 0;
  std::string_view words = command.words;
  while (!words.empty()) {
    const auto space = words.find(' ');
    const auto word = words.substr(0, space);
    if (count >= arguments.size() || arguments[count] != word) return 0;
    ++count;
    words = space == std::string_view::npos ? std::string_view() : words.substr(space + 1);
  }
  return count;
}

}  // namespace

int dispatch(unsigned program, std::vector<std::string> arguments, const Runner& runner) {
  if (!arguments.empty() && (arguments[0] == "--version" || arguments[0] == "-version" || arguments[0] == "-v")) {
    std::printf("%s\n", LIMPET_VERSION);
    return 0;
  }
  const bool help = !arguments.empty() && (arguments[0] == "--help" || arguments[0] == "-help" || arguments[0] == "-h");
  if (help) {
    std::fputs(usage(program).c_str(), stdout);
    return 0;
  }
  const Command* found = nullptr;
  size_t words = 0;
  for (const Command& command : commands()) {
    if (!belongs(command, program)) continue;
    const size_t count = matches_words(command, arguments);
    if (count > words) found = &command, words = count;
  }
  if (found == nullptr) {
    std::fputs(usage(program).c_str(), stderr);
    return 127;
  }
  arguments.erase(arguments.begin(), arguments.begin() + static_cast<std::ptrdiff_t>(words));
  for (const std::string& argument : arguments) {
    if (argument == "-h" || argument == "-help" || argument == "--help") {
      std::fputs(usage(*found).c_str(), stdout);
      return 0;
    }
  }
  const auto flags = Flags::parse(found->flags, std::move(arguments));
  if (!flags) {
    std::fprintf(stderr, "%s\n%s", flags.error().message.c_str(), usage(*found).c_str());
    return 1;
  }
  Context context{program, &*flags, &runner};
  return found->run(context);
}

}  // namespace limpet::cli

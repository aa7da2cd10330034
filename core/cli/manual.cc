// SPDX-License-Identifier: Apache-2.0
#include "cli/manual.h"

#include <cstdio>

namespace limpet::cli {

namespace {

// A dash must not become a hyphen, a leading dot not a macro.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '-') {
      out += "\\-";
    } else if (c == '\\') {
      out += "\\e";
    } else if (c == '.' && out.empty()) {
      out += "\\&.";
    } else {
      out += c;
    }
  }
  return out;
}

// limpet's own commands, and those of the other two names it goes by.
bool listed(const Command& command) {
  if (command.programs == kLimpet) return true;
  for (const Command& other : commands()) {
    if (other.programs == kLimpet && std::string_view(other.words) == command.words) return false;
  }
  return true;
}

}  // namespace

std::string manual_page() {
  std::string page = ".TH LIMPET 1 \"\" \"limpet " LIMPET_VERSION "\" \"Limpet\"\n.SH NAME\n";
  page += "limpet \\- workload identity (SPIFFE) server, agent and commands\n";
  page += ".SH SYNOPSIS\n.B limpet\n.I command\n.RI [ flags ]\n.SH DESCRIPTION\n";
  page += "One binary that runs as SPIFFE server, as agent or as both, and asks a running one. Called as\n";
  page +=
      ".B spire\\-server\nor\n.B spire\\-agent\nit takes that role with SPIRE's defaults. Flags take one dash or two; ";
  page += "booleans take =true or =false only.\n.SH COMMANDS\n";
  for (const Command& command : commands()) {
    if (!listed(command)) continue;
    page += ".SS " + escaped(command.words) + "\n" + escaped(command.summary) + ".\n";
    for (const Flag& flag : command.flags) {
      page += ".TP\n.B \\-" + escaped(flag.name) + "\n" + escaped(flag.help);
      const std::string_view fallback = flag.default_text;
      if (!fallback.empty() && fallback != "false") page += " (default " + escaped(fallback) + ")";
      page += ".\n";
    }
  }
  page +=
      ".SH SIGNALS\n.B SIGHUP\nreads the configuration anew: the log takes a line with what changed, and one with the "
      "keys ";
  page +=
      "that need a restart; a file with mistakes changes nothing.\n.B SIGUSR2\nopens the log file anew after it was ";
  page += "moved away.\n.B SIGTERM\nand\n.B SIGINT\nstop, at the second time at once.\n";
  page += ".SH ENVIRONMENT\n.BR NOTIFY_SOCKET ,\n.BR WATCHDOG_USEC :\nas a service manager sets them (sd_notify(3)).\n";
  page += ".SH EXIT STATUS\n0 when done, 1 when it failed, 127 for a command that does not exist.\n";
  return page;
}

std::string bash_completion() {
  std::string words;
  std::string cases;
  for (const Command& command : commands()) {
    if (!listed(command)) continue;
    words += std::string(words.empty() ? "" : "\n") + command.words;
    cases += std::string("    \"") + command.words + " \"*) flags=\"";
    for (const Flag& flag : command.flags) cases += std::string("-") + flag.name + " ";
    cases += "\" ;;\n";
  }
  return "# bash completion for limpet\n_limpet() {\n  local typed=\"${COMP_WORDS[*]:1:COMP_CWORD-1} \" flags= words=\n"
         "  case $typed in\n" +
         cases +
         "  esac\n"
         "  if [ -n \"$flags\" ]; then COMPREPLY=($(compgen -W \"$flags\" -- \"${COMP_WORDS[COMP_CWORD]}\")); return; "
         "fi\n"
         "  words=$(while read -r -a line; do\n"
         "    [ \"${line[*]:0:COMP_CWORD-1}\" = \"${COMP_WORDS[*]:1:COMP_CWORD-1}\" ] && echo "
         "\"${line[COMP_CWORD-1]}\"\n"
         "  done <<'END'\n" +
         words +
         "\nEND\n  )\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\n"
         "complete -F _limpet limpet\n";
}

namespace {

int print_manual(Context&) {
  std::fputs(manual_page().c_str(), stdout);
  return 0;
}

int print_completion(Context&) {
  std::fputs(bash_completion().c_str(), stdout);
  return 0;
}

}  // namespace

std::vector<Command> manual_commands() {
  return {{"manual", kLimpet, "Prints the man page, limpet(1)", {}, print_manual},
          {"completion bash", kLimpet, "Prints the completion for bash, to be sourced", {}, print_completion}};
}

}  // namespace limpet::cli

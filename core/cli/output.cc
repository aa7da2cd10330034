// SPDX-License-Identifier: Apache-2.0
#include "cli/output.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/clock.h"
#include "cli/rpc.h"
#include "wire/message.h"

namespace limpet::cli {

using wire::items;
using wire::view;

Flag server_socket_flag() {
  return {"socketPath", FlagType::text, "/tmp/spire-server/private/api.sock", "Path to the server's API socket"};
}
Flag agent_socket_flag() {
  return {"socketPath", FlagType::text, "/tmp/spire-agent/public/api.sock", "Path to the agent's Workload API socket"};
}
Flag admin_socket_flag() {
  return {"socketPath", FlagType::text, "/tmp/spire-agent/private/admin.sock", "Path to the agent's admin socket"};
}
Flag output_flag() { return {"output", FlagType::text, "pretty", "How to print: pretty or json"}; }
Flag instance_flag() { return {"instance", FlagType::text, "", "Instance name, put into the socket template"}; }

Result<std::string> socket_path(const Context& context, unsigned role) {
  const std::string& instance = context.flags->text("instance");
  if (instance.empty() || context.flags->given("socketPath")) return context.flags->text("socketPath");
  const char* variable =
      role == kServer ? "SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE" : "SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE";
  const char* pattern = std::getenv(variable);
  if (pattern == nullptr) {
    return fail(Code::invalid_argument,
                std::string("-instance needs ") + variable + " in the environment, with %i in it");
  }
  std::string path = pattern;
  const auto place = path.find("%i");
  if (place == std::string::npos) return fail(Code::invalid_argument, std::string(variable) + " has no %i in it");
  return path.replace(place, 2, instance);
}

Result<bool> wants_json(const Flags& flags) {
  const std::string& output = flags.text("output");
  if (output == "json") return true;
  if (output == "pretty") return false;
  return fail(Code::invalid_argument, "invalid value \"" + output + "\" for flag -output: must be pretty or json");
}

int failed(const Error& error) {
  std::fprintf(stderr, "Error: %s\n", error.message.c_str());
  return 1;
}

int failed(std::string_view prefix, const Error& error) {
  const std::string text = (prefix.empty() ? std::string() : std::string(prefix) + ": ") + rpc_text(error);
  std::fprintf(stderr, "Error: %s\n", text.c_str());
  return 1;
}

std::string counted(uint64_t count, std::string_view one, std::string_view many) {
  return std::to_string(count) + " " + std::string(count == 1 ? one : many);
}

namespace {

// "3.341999": `value` in units of `unit`, trailing zeros cut.
std::string decimal(int64_t value, int64_t unit) {
  std::string text = std::to_string(value / unit);
  int64_t rest = value % unit;
  if (rest == 0) return text;
  text += '.';
  while (rest != 0) {
    unit /= 10;
    text += static_cast<char>('0' + rest / unit);
    rest %= unit;
  }
  return text;
}

}  // namespace

std::string go_duration(int64_t nanoseconds) {
  constexpr int64_t kSecond = 1'000'000'000;
  if (nanoseconds == 0) return "0s";
  if (nanoseconds < 1'000) return std::to_string(nanoseconds) + "ns";
  if (nanoseconds < 1'000'000) return decimal(nanoseconds, 1'000) + "µs";
  if (nanoseconds < kSecond) return decimal(nanoseconds, 1'000'000) + "ms";
  const int64_t hours = nanoseconds / (3600 * kSecond);
  const int64_t minutes = nanoseconds / (60 * kSecond) % 60;
  std::string text;
  if (hours > 0) text += std::to_string(hours) + "h";
  if (hours > 0 || minutes > 0) text += std::to_string(minutes) + "m";
  return text + decimal(nanoseconds % (60 * kSecond), kSecond) + "s";
}

std::string go_quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string id_text(bool present, const spire_api_types_SPIFFEID& id) {
  if (!present) return "";
  return "spiffe://" + std::string(view(id.trust_domain)) + std::string(view(id.path));
}

namespace {

void line(std::string& out, std::string_view label, std::string_view value, size_t width) {
  out += label;
  if (label.size() < width) out.append(width - label.size(), ' ');
  out += ": ";
  out += value;
  out += '\n';
}

std::string ttl_text(int32_t ttl) { return ttl == 0 ? "default" : std::to_string(ttl); }

}  // namespace

std::string describe_entry(const spire_api_types_Entry& entry) {
  constexpr size_t kWidth = 24;
  std::string out;
  const auto add = [&out](std::string_view label, std::string_view value) { line(out, label, value, kWidth); };
  add("Entry ID", view(entry.id).empty() ? "(none)" : view(entry.id));
  add("SPIFFE ID", id_text(entry.has_spiffe_id, entry.spiffe_id));
  add("Parent ID", id_text(entry.has_parent_id, entry.parent_id));
  add("Revision", std::to_string(entry.revision_number));
  if (entry.downstream) add("Downstream", "true");
  add("X509-SVID TTL", ttl_text(entry.x509_svid_ttl));
  add("JWT-SVID TTL", ttl_text(entry.jwt_svid_ttl));
  if (entry.expires_at != 0) add("Expiration time", TimeText(entry.expires_at).go());
  for (const auto& selector : items(entry.selectors, entry.selectors_count)) {
    add("Selector", std::string(view(selector.type)) + ":" + std::string(view(selector.value)));
  }
  for (const char* td : items(entry.federates_with, entry.federates_with_count)) add("FederatesWith", view(td));
  for (const char* name : items(entry.dns_names, entry.dns_names_count)) add("DNS name", view(name));
  if (entry.admin) add("Admin", "true");
  if (entry.store_svid) add("StoreSvid", "true");
  if (!view(entry.hint).empty()) add("Hint", view(entry.hint));
  return out + "\n";
}

std::string describe_agent(const spire_api_types_Agent& agent) {
  constexpr size_t kWidth = 18;
  std::string out;
  const auto add = [&out](std::string_view label, std::string_view value) { line(out, label, value, kWidth); };
  add("SPIFFE ID", id_text(agent.has_id, agent.id));
  add("Attestation type", view(agent.attestation_type));
  add("Expiration time", TimeText(agent.x509svid_expires_at).go());
  if (agent.banned) {
    add("Banned", "true");
  } else {
    add("Serial number", view(agent.x509svid_serial_number));
  }
  add("Can re-attest", agent.can_reattest ? "true" : "false");
  if (!view(agent.agent_version).empty()) add("Agent version", view(agent.agent_version));
  for (const auto& selector : items(agent.selectors, agent.selectors_count)) {
    add("Selectors", std::string(view(selector.type)) + ":" + std::string(view(selector.value)));
  }
  return out + "\n";
}

namespace {

Error file_error(const std::string& path) {
  std::string reason = std::strerror(errno);
  if (!reason.empty() && reason[0] >= 'A' && reason[0] <= 'Z') reason[0] = static_cast<char>(reason[0] - 'A' + 'a');
  return Error{errno == ENOENT ? Code::not_found : Code::unavailable, "open " + path + ": " + reason};
}

}  // namespace

Result<void> write_file(const std::string& path, std::string_view content, uint32_t mode) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) return std::unexpected(file_error(path));
  (void)::fchmod(fd, mode);  // an older file may have had wider rights
  while (!content.empty()) {
    const ssize_t wrote = ::write(fd, content.data(), content.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      Error error = file_error(path);
      ::close(fd);
      return std::unexpected(std::move(error));
    }
    content.remove_prefix(static_cast<size_t>(wrote));
  }
  if (::close(fd) != 0) return std::unexpected(file_error(path));
  return {};
}

Result<std::string> read_file(const std::string& path) {
  constexpr size_t kMost = 64u << 20;
  const int fd = path == "-" ? ::dup(STDIN_FILENO) : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::unexpected(file_error(path));
  std::string content;
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      Error error = file_error(path);
      ::close(fd);
      return std::unexpected(std::move(error));
    }
    if (got == 0) break;
    content.append(buffer, static_cast<size_t>(got));
    if (content.size() > kMost) {
      ::close(fd);
      return fail(Code::resource_exhausted, path + ": larger than 64 MiB; split it");
    }
  }
  ::close(fd);
  return content;
}

Progress::Progress(std::string_view what, size_t total) : what_(what), total_(total) {}

void Progress::at(size_t done) {
  if (::isatty(STDERR_FILENO) == 0 || total_ < 1000) return;
  shown_ = true;
  std::fprintf(stderr, "\r%s: %zu of %zu", what_.c_str(), done, total_);
}

Progress::~Progress() {
  if (shown_) std::fputs("\r\033[K", stderr);
}

}  // namespace limpet::cli

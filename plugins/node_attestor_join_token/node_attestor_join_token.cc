// SPDX-License-Identifier: Apache-2.0
// Node attestor "join_token", agent half: the payload is the token itself and there is no challenge. The server half
// stands in the server, which owns the tokens. Everything runs on the loop: a token file is a few bytes.
#include <limpet_plugin.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "kit/kit.h"

namespace {

using limpet::Code;
using limpet::Error;
using limpet::fail;
using limpet::Result;

constexpr size_t kMaxTokenBytes = 1024;  // a UUID has 36; people may choose their own

struct JoinToken {
  std::string token;
  std::string file;
};
JoinToken* self_of(limpet_instance* self) { return reinterpret_cast<JoinToken*>(self); }
// A session has no state of its own: it is the instance.
JoinToken* self_of(limpet_session* session) { return reinterpret_cast<JoinToken*>(session); }

limpet_code create(const limpet_host*, limpet_instance** out) {
  *out = reinterpret_cast<limpet_instance*>(new JoinToken());
  return LIMPET_OK;
}
void destroy(limpet_instance* self) { delete self_of(self); }

void configure(limpet_instance* self, limpet_op* op, const limpet_config* config, limpet_done done) {
  limpet::kit::ConfigReader reader(limpet::kit::view(config->json));
  JoinToken read{reader.text("token"), reader.text("token_file")};
  Result<void> result = reader.finish();
  if (result && !read.token.empty() && !read.file.empty()) {
    result = fail(Code::invalid_argument, "token and token_file exclude each other; keep one");
  }
  if (result && read.token.size() > kMaxTokenBytes)
    result = fail(Code::invalid_argument, "token is longer than 1,024 bytes");
  if (result && config->dry_run == 0) *self_of(self) = std::move(read);
  limpet::kit::end(op, done, result);
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t from = text.find_first_not_of(kSpace);
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(kSpace) - from + 1);
}

// Read at each attempt, so that a token put there later is found.
Result<std::string> read_token(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return fail(Code::failed_precondition, "join token file " + path + " cannot be opened: " + std::strerror(errno));
  char buffer[kMaxTokenBytes + 2];
  const ssize_t got = ::read(fd, buffer, sizeof buffer);
  const int why = errno;
  ::close(fd);
  if (got < 0)
    return fail(Code::failed_precondition, "join token file " + path + " cannot be read: " + std::strerror(why));
  if (static_cast<size_t>(got) > kMaxTokenBytes)
    return fail(Code::failed_precondition, "join token file " + path + " is longer than 1,024 bytes");
  const std::string_view token = trim({buffer, static_cast<size_t>(got)});
  if (token.empty()) return fail(Code::failed_precondition, "join token file " + path + " is empty");
  return std::string(token);
}

limpet_session* open_session(limpet_instance* self) { return reinterpret_cast<limpet_session*>(self); }
void close_session(limpet_session*) {}

void refuse(limpet_op* op, const Error& error, limpet_bytes_done done) {
  const limpet_status status = limpet::kit::status_of(error);
  done(op, &status, {});
}

void payload(limpet_session* session, limpet_op* op, limpet_bytes_done done) {
  const JoinToken& self = *self_of(session);
  Result<std::string> token = self.token;
  if (!self.file.empty()) token = read_token(self.file);
  if (!token) return refuse(op, token.error(), done);
  if (token->empty()) {
    return refuse(op,
                  {Code::failed_precondition,
                   "no join token is configured; create one with `token generate` and set token or token_file"},
                  done);
  }
  done(op, nullptr, limpet::kit::lend(limpet::as_bytes(*token)));
}

void answer(limpet_session*, limpet_op* op, limpet_bytes, limpet_bytes_done done) {
  refuse(op, {Code::failed_precondition, "the server sent a challenge, but join tokens have none"}, done);
}

constexpr limpet_node_attestor_agent kTable = {
    sizeof(limpet_node_attestor_agent), 0, open_session, payload, answer, close_session};
constexpr limpet_component kComponent = {sizeof(limpet_component),
                                         0,
                                         LIMPET_NODE_ATTESTOR_AGENT,
                                         "join_token",
                                         create,
                                         destroy,
                                         configure,
                                         nullptr,
                                         &kTable};
constexpr const limpet_component* kComponents[] = {&kComponent, nullptr};
constexpr limpet_plugin kPlugin = {
    sizeof(limpet_plugin), LIMPET_ABI_MAJOR, 0,          0, "dev.limpet.nodeattestor.join-token",
    LIMPET_VERSION,        "Apache-2.0",     kComponents};

}  // namespace

const limpet_plugin* limpet_plugin_main(uint32_t host_major, uint32_t) {
  return host_major == LIMPET_ABI_MAJOR ? &kPlugin : nullptr;
}

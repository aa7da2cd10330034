// SPDX-License-Identifier: Apache-2.0
#include "cli/api_commands.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <thread>

#include "base/clock.h"
#include "cli/session.h"
#include "crypto/x509.h"
#include "proto/workload.pb.h"
#include "wire/api_types.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::items;
using wire::Message;
using wire::view;

namespace {

constexpr const char* kFetch = "/SpiffeWorkloadAPI/FetchX509SVID";

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The Workload API's stream of X.509-SVIDs, one message at a time.
class SvidStream {
 public:
  SvidStream(Rpc& rpc, int64_t timeout_ms) : received_(rpc.loop()), sent_(rpc.loop()) {
    call_ = rpc.channel().open(kFetch, {.timeout_ms = timeout_ms, .metadata = {{"workload.spiffe.io", "true"}}});
    call_->send({}, sent_.done());
    call_->close_send();
  }
  Result<Message<X509SVIDResponse>> next() {
    call_->receive(received_.done());
    TRY_ASSIGN(const auto bytes, received_.wait());
    if (!bytes) return fail(Code::unavailable, "EOF");
    auto message = Message<X509SVIDResponse>::decode(*bytes);
    if (message) message->mark_secret();
    return message;
  }

 private:
  std::unique_ptr<wire::ClientCall> call_;
  Rpc::Waiter<std::optional<Bytes>> received_;
  Rpc::Waiter<void> sent_;
};

// Errors of the Workload API are printed bare, without "Error: ".
int api_failed(const Error& error) {
  std::fprintf(stderr, "%s\n", rpc_text(error).c_str());
  return 1;
}

// What is wrong before anything was asked.
int api_refused(const char* message) {
  std::fprintf(stderr, "%s\n", message);
  return 1;
}

void print_validity(const char* what, const Certificate& certificate) {
  std::printf("%s Valid After:\t%s\n", what, TimeText(certificate.not_before).go());
  std::printf("%s Valid Until:\t%s\n", what, TimeText(certificate.not_after).go());
}

Result<void> print_svid(const X509SVID& svid) {
  TRY_ASSIGN_WITHIN("x509_svid", const auto chain, parse_certificates(view(svid.x509_svid)));
  TRY_ASSIGN_WITHIN("bundle", const auto roots, parse_certificates(view(svid.bundle)));
  if (chain.empty()) return fail(Code::internal, "the agent sent an SVID without a certificate");
  std::printf("SPIFFE ID:\t\t%s\n", std::string(view(svid.spiffe_id)).c_str());
  if (!view(svid.hint).empty()) std::printf("Hint:\t\t\t%s\n", std::string(view(svid.hint)).c_str());
  print_validity("SVID", chain[0]);
  for (size_t i = 1; i < chain.size(); ++i) {
    print_validity(("Intermediate #" + std::to_string(i)).c_str(), chain[i]);
  }
  for (size_t i = 0; i < roots.size(); ++i) print_validity(("CA #" + std::to_string(i + 1)).c_str(), roots[i]);
  std::putchar('\n');
  return {};
}

Result<void> print_update(const X509SVIDResponse& update, int64_t took_ns) {
  std::printf("Received %s after %s\n\n", counted(update.svids_count, "svid", "svids").c_str(),
              go_duration(took_ns).c_str());
  for (const auto& svid : items(update.svids, update.svids_count)) TRY(print_svid(svid));
  std::fflush(stdout);
  return {};
}

Result<std::string> certificates_pem(BytesView concatenated) {
  TRY_ASSIGN(const auto certificates, parse_certificates(concatenated));
  std::string pem;
  for (const Certificate& certificate : certificates) pem += pem_encode("CERTIFICATE", certificate.der);
  return pem;
}

Result<void> write_svids(const std::string& directory, const X509SVIDResponse& update, bool silent) {
  const auto put = [&](const char* what, size_t index, const std::string& name, std::string_view content,
                       uint32_t mode) {
    const std::string path = directory + "/" + name;
    if (!silent) std::printf("Writing %s #%zu to file %s.\n", what, index, path.c_str());
    return write_file(path, content, mode);
  };
  for (size_t i = 0; i < update.svids_count; ++i) {
    const X509SVID& svid = update.svids[i];
    const std::string number = std::to_string(i);
    TRY_ASSIGN_WITHIN("x509_svid", const std::string chain, certificates_pem(view(svid.x509_svid)));
    TRY_ASSIGN_WITHIN("bundle", const std::string roots, certificates_pem(view(svid.bundle)));
    std::string key = pem_encode("PRIVATE KEY", view(svid.x509_svid_key));
    TRY(put("SVID", i, "svid." + number + ".pem", chain, 0644));
    const auto written = put("key", i, "svid." + number + ".key", key, 0600);
    wipe(key.data(), key.size());
    TRY(written);
    TRY(put("bundle", i, "bundle." + number + ".pem", roots, 0644));
  }
  for (size_t i = 0; i < update.federated_bundles_count; ++i) {
    TRY_ASSIGN_WITHIN("federated bundle", const std::string roots,
                      certificates_pem(view(update.federated_bundles[i].value)));
    TRY(put("federated bundle", i, "federated_bundle.0." + std::to_string(i) + ".pem", roots, 0644));
  }
  return {};
}

int fetch(Context& context) {
  return with_rpc(context, kAgent, [&context](Rpc& rpc, bool json) {
    const int64_t started = now_ns();
    if (const auto connected = rpc.connect(); !connected) return api_failed(connected.error());
    SvidStream stream(rpc, context.flags->number("timeout"));
    const auto update = stream.next();
    if (!update) return api_failed(update.error());
    const bool silent = context.flags->on("silent");
    if (json) {
      std::printf("%s\n", wire::to_json(*update).c_str());
    } else if (!silent) {
      if (const auto printed = print_update(**update, now_ns() - started); !printed) return failed(printed.error());
    }
    const std::string& directory = context.flags->text("write");
    if (directory.empty()) return 0;
    const auto written = write_svids(directory, **update, silent || json);
    return written ? 0 : failed(written.error());
  });
}

// Prints update after update until the stream breaks: the error that broke it. `failures` is 0 after each update.
Error watch_once(Rpc& rpc, int& failures) {
  if (auto connected = rpc.connect(); !connected) return std::move(connected).error();
  SvidStream stream(rpc, 0);
  for (;;) {
    const int64_t started = now_ns();
    auto update = stream.next();
    if (!update) return std::move(update).error();
    failures = 0;
    if (auto printed = print_update(**update, now_ns() - started); !printed) return std::move(printed).error();
  }
}

// An agent that restarts, or has no identity for this process yet, is waited for as go-spiffe's watchers do: all but
// INVALID_ARGUMENT is tried again, after 1 s, 2 s and so on up to 30 s.
int watch(Context& context) {
  static constexpr int kLongestWaitS = 30;
  return with_rpc(context, kAgent, [](Rpc& rpc, bool) {
    for (int failures = 0;;) {
      const Error error = watch_once(rpc, failures);
      const int code = api_failed(error);
      if (error.code == Code::invalid_argument) return code;
      failures = std::min<int>(failures + 1, kLongestWaitS);
      std::this_thread::sleep_for(std::chrono::seconds(failures));
    }
  });
}

// ---- JWT-SVIDs ----
// One unary call of the Workload API with the security header.
template <class Request, class Response>
Result<Message<Response>> ask(Rpc& rpc, const char* method, const Message<Request>& request, int64_t timeout_ms) {
  return rpc.call<Request, Response>(std::string("/SpiffeWorkloadAPI/") + method, request,
                                     {.timeout_ms = timeout_ms, .metadata = {{"workload.spiffe.io", "true"}}});
}

// The first message of the stream.
Result<Message<JWTBundlesResponse>> first_bundles(Rpc& rpc, int64_t timeout_ms) {
  Rpc::Waiter<std::optional<Bytes>> received(rpc.loop());
  Rpc::Waiter<void> sent(rpc.loop());
  const auto call = rpc.channel().open("/SpiffeWorkloadAPI/FetchJWTBundles",
                                       {.timeout_ms = timeout_ms, .metadata = {{"workload.spiffe.io", "true"}}});
  call->send({}, sent.done());
  call->close_send();
  call->receive(received.done());
  TRY_ASSIGN(const auto answer, received.wait());
  if (!answer) return fail(Code::unavailable, "EOF");
  return Message<JWTBundlesResponse>::decode(*answer);
}

void split_commas(std::string_view list, std::vector<std::string>& out) {
  for (size_t comma = list.find(','); !list.empty(); comma = list.find(',')) {
    if (comma != 0) out.emplace_back(list.substr(0, comma));
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
  }
}

// Only the first line of a document is indented, as SPIRE has it.
void print_tokens(const JWTSVIDResponse& tokens, const JWTBundlesResponse& bundles) {
  for (const auto& svid : items(tokens.svids, tokens.svids_count)) {
    std::printf("token(%s):\n\t%s\n", std::string(view(svid.spiffe_id)).c_str(), std::string(view(svid.svid)).c_str());
    if (!view(svid.hint).empty()) std::printf("hint(%s):\n", std::string(view(svid.hint)).c_str());
  }
  for (const auto& bundle : items(bundles.bundles, bundles.bundles_count)) {
    std::printf("bundle(%s):\n\t%s\n", std::string(view(bundle.key)).c_str(),
                std::string(as_text(view(bundle.value))).c_str());
  }
}

int fetch_jwt(Context& context) {
  return with_rpc(context, kAgent, [&context](Rpc& rpc, bool json) {
    std::vector<std::string> audience;
    for (const std::string& list : context.flags->list("audience")) split_commas(list, audience);
    if (audience.empty()) return api_refused("audience must be specified");
    if (const auto connected = rpc.connect(); !connected) return api_failed(connected.error());
    const int64_t timeout = context.flags->number("timeout");
    const auto bundles = first_bundles(rpc, timeout);
    if (!bundles) return api_failed(bundles.error());
    Message<JWTSVIDRequest> request;
    wire::write_strings(request->audience, request->audience_count, audience);
    wire::set_string(request->spiffe_id, context.flags->text("spiffeID"));
    auto tokens = ask<JWTSVIDRequest, JWTSVIDResponse>(rpc, "FetchJWTSVID", request, timeout);
    if (!tokens) return api_failed(tokens.error());
    tokens->mark_secret();
    if (json)
      std::printf("[%s,%s]\n", wire::to_json(*tokens).c_str(), wire::to_json(*bundles).c_str());
    else
      print_tokens(**tokens, **bundles);
    return 0;
  });
}

int validate_jwt(Context& context) {
  return with_rpc(context, kAgent, [&context](Rpc& rpc, bool json) {
    const std::string& audience = context.flags->text("audience");
    const std::string& svid = context.flags->text("svid");
    if (audience.empty()) return api_refused("audience must be specified");
    if (svid.empty()) return api_refused("svid must be specified");
    if (const auto connected = rpc.connect(); !connected) return api_failed(connected.error());
    Message<ValidateJWTSVIDRequest> request;
    wire::set_string(request->audience, audience);
    wire::set_string(request->svid, svid);
    const auto answer = ask<ValidateJWTSVIDRequest, ValidateJWTSVIDResponse>(rpc, "ValidateJWTSVID", request,
                                                                             context.flags->number("timeout"));
    if (!answer && answer.error().code == Code::invalid_argument)
      return api_refused(("SVID is not valid: " + answer.error().message).c_str());
    if (!answer) return api_failed(answer.error());
    if (json) {
      std::printf("%s\n", wire::to_json(*answer).c_str());
      return 0;
    }
    std::printf("SVID is valid.\nSPIFFE ID : %s\nClaims    : %s\n", std::string(view((*answer)->spiffe_id)).c_str(),
                wire::to_json((*answer)->claims).c_str());
    return 0;
  });
}

std::vector<Flag> jwt_flags(std::vector<Flag> own) {
  own.push_back({"timeout", FlagType::duration, "1s", "How long to wait for the agent"});
  own.push_back(agent_socket_flag());
  own.push_back(instance_flag());
  own.push_back(output_flag());
  return own;
}

std::vector<Flag> fetch_flags() {
  return {{"timeout", FlagType::duration, "1s", "How long to wait for the agent"},
          {"silent", FlagType::boolean, "false", "Print nothing"},
          {"write", FlagType::text, "", "A directory to write svid.N.pem, svid.N.key and bundle.N.pem into"},
          agent_socket_flag(),
          instance_flag(),
          output_flag()};
}

}  // namespace

std::vector<Command> api_commands() {
  return {
      {"api fetch x509", kAgent, "Fetches this process's X.509-SVIDs", fetch_flags(), fetch},
      {"api fetch", kAgent, "Fetches this process's X.509-SVIDs", fetch_flags(), fetch},
      {"api fetch jwt", kAgent, "Fetches this process's JWT-SVIDs and the keys to check them with",
       jwt_flags({{"audience", FlagType::list, "", "Whom the token is for; may be given several times or with commas"},
                  {"spiffeID", FlagType::text, "", "The only identity that is wanted"}}),
       fetch_jwt},
      {"api validate jwt", kAgent, "Lets the agent check a JWT-SVID",
       jwt_flags(
           {{"audience", FlagType::text, "", "Whom the token must be for"}, {"svid", FlagType::text, "", "The token"}}),
       validate_jwt},
      {"api watch",
       kAgent,
       "Prints this process's X.509-SVIDs whenever they change",
       {agent_socket_flag(), instance_flag(), output_flag()},
       watch},
  };
}

}  // namespace limpet::cli

// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include "carriers.h"
#include "node_attestor_http_challenge/messages.h"
#include "node_attestor_http_challenge/patterns.h"
#include "node_attestor_http_challenge/request.h"
#include "plugin/node_attestor.h"
#include "support/fake_services.h"

namespace limpet {
namespace {

using namespace test;
using namespace http_challenge;

constexpr const char* kNonce = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const std::string kPath = "/.well-known/spiffe/nodeattestor/http_challenge/default/challenge";

// ---- what is read from peers ----

TEST(HttpChallengeMessages, AreReadAsGoReadsThem) {
  const auto place = decode_payload(as_bytes(R"({"HostName":"h","agentname":null,"port":8080,"more":[{}]})"));
  ASSERT_TRUE(place) << place.error().text();
  EXPECT_EQ(place->hostname, "h");
  EXPECT_EQ(place->agentname, "");
  EXPECT_EQ(place->port, 8080);
  EXPECT_EQ(encode_payload({"h", "default", 80}), R"({"hostname":"h","agentname":"default","port":80})");
  EXPECT_EQ(encode_challenge("x"), R"({"nonce":"x"})");
  for (const char* bad : {"", "[]", "{", R"({"hostname":5})", R"({"agentname":[]})", R"({"port":"80"})",
                          R"({"port":1.5})", R"({"port":18446744073709551615})"}) {
    EXPECT_FALSE(decode_payload(as_bytes(std::string_view(bad)))) << bad;
  }
}

TEST(HttpChallengeMessages, ANonceIsNothingButBase64Url) {
  const auto nonce = [](const std::string& text) { return outcome(decode_challenge(as_bytes(text))); };
  EXPECT_EQ(nonce(encode_challenge(kNonce)), "ok");
  EXPECT_EQ(nonce(encode_challenge(std::string(64, 'x'))), "ok");
  for (const std::string& bad : {std::string(), std::string(65, 'x'), std::string("<b>"), std::string("a b"),
                                 std::string("\\n"), std::string("\xc3\xa4")}) {
    EXPECT_EQ(nonce(encode_challenge(bad)), "InvalidArgument: the nonce is not 1 to 64 characters of base64url") << bad;
  }
  EXPECT_EQ(nonce(R"({"nonce":5})"), "InvalidArgument: nonce is not a string");
}

TEST(HttpChallengeMessages, NamesAreChecked) {
  for (const char* good : {"a", "default", "A-1_b"}) EXPECT_TRUE(is_agent_name(good)) << good;
  for (const std::string& bad : {std::string(), std::string("1a"), std::string("-a"), std::string("a.b"),
                                 std::string("a/b"), std::string("a b"), std::string(33, 'a')}) {
    EXPECT_FALSE(is_agent_name(bad)) << bad;
  }
  for (const char* good : {"h", "a.example.org", "10.0.0.1", "a_b-c"}) EXPECT_EQ(host_name_problem(good), "") << good;
  for (const std::string& bad :
       {std::string(), std::string("a/b"), std::string("a:1"), std::string("::1"), std::string("a b"), std::string("."),
        std::string(".."), std::string("a@b"), std::string("a?b"), std::string("a\r\nb"), std::string("a\0b", 3),
        std::string("\xc3\xa4"), std::string(254, 'a')}) {
    EXPECT_NE(host_name_problem(bad), "") << bad;
  }
}

TEST(HttpChallengeMessages, AHostHasOneSpelling) {
  for (const char* good :
       {"db1", "DB1", "db-1.example.org", "a_b", "10.1.2.3", "192.0.2.255", "255.255.255.255", "1.example", "rack.7",
        "0xg", "0x7f.org", "localhost.example.org", "127.0.0.1.example.org", "127.0.0.1"})
    EXPECT_EQ(host_spelling_problem(good), "") << good;
  const auto refused = [](const std::string& why, std::initializer_list<const char*> names) {
    for (const char* name : names) EXPECT_EQ(host_spelling_problem(name), "hostname " + why) << name;
  };
  refused("has a dot at an end or two in a row", {"db1.", "db1..", ".db1", "a..b", "localhost.", "10.1.2.3.", "1..2"});
  refused("is a name of the server's own machine", {"LOCALHOST", "localhosT", "x.localhost", "a.b.LocalHost"});
  refused("is a number but no IPv4 address as in \"192.0.2.1\"",
          {"10.1.515", "10.1", "167838211", "2130706433", "017700000001", "0x7f000001", "0X7F000001", "0x7f.1", "127.1",
           "0x7f.0.0.0x1", "10.1.2.03", "10.1.2.256", "010.1.2.3", "10.1.2.3.4", "0", "0x"});
  refused("is a loopback address", {"0.0.0.0", "0.1.2.3"});
}

TEST(HttpChallengeRequest, OnlyTheNoncesPathIsAnswered) {
  struct Case {
    std::string request;
    std::string status;
  };
  const std::string end = "\r\nHost: h\r\n\r\n";
  for (const Case& one :
       std::initializer_list<Case>{{"GET " + kPath + " HTTP/1.1" + end, "200 OK"},
                                   {"GET " + kPath + "?x=1 HTTP/1.0" + end, "200 OK"},
                                   {"GET http://h:80" + kPath + " HTTP/1.1" + end, "200 OK"},
                                   {"HEAD " + kPath + " HTTP/1.1" + end, "200 OK"},
                                   {"POST " + kPath + " HTTP/1.1" + end, "405 Method Not Allowed"},
                                   {"GET / HTTP/1.1" + end, "404 Not Found"},
                                   {"GET " + kPath + "/ HTTP/1.1" + end, "404 Not Found"},
                                   {"GET http://h HTTP/1.1" + end, "404 Not Found"},
                                   {"GET " + kPath + end, "400 Bad Request"},
                                   {"GET " + kPath + " HTTP/2.0" + end, "400 Bad Request"},
                                   {"\r\n\r\n", "400 Bad Request"},
                                   {" \r\n\r\n", "400 Bad Request"},
                                   {std::string("\0\0\r\n\r\n", 6), "400 Bad Request"},
                                   {std::string(kMaxRequestBytes, 'x'), "431 Request Header Fields Too Large"}}) {
    const std::string answer = answer_to(one.request, kPath, "nonce\n");
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 " + one.status + "\r\n")) << one.request << answer;
    EXPECT_EQ(answer.ends_with("\r\n\r\nnonce\n"), one.status == "200 OK" && !one.request.starts_with("HEAD"));
  }
  for (const std::string& part : {std::string(), std::string("GET "), "GET " + kPath + " HTTP/1.1\r\nHost: h\r\n"})
    EXPECT_EQ(answer_to(part, kPath, "nonce\n"), "") << part;
}

TEST(HttpChallengePatterns, MatchAsGoWould) {
  struct Case {
    const char* pattern;
    const char* name;
    bool matches;
  };
  for (const Case& one : std::initializer_list<Case>{{R"(p[0-9]+\.example\.com)", "p12.example.com", true},
                                                     {R"(p[0-9]+\.example\.com)", "p12xexample.com", false},
                                                     {R"(p[0-9]\.example\.com)", "ap1.example.com.evil.org", true},
                                                     {R"(^p[0-9]\.example\.com$)", "ap1.example.com", false},
                                                     {R"(^p[0-9]\.example\.com$)", "p1.example.com.evil.org", false},
                                                     {R"(^\w+-\d{2}$)", "rack_a-07", true},
                                                     {R"(^\w+-\d{2}$)", "rack_a-7", false},
                                                     {R"(^(?:a|b)+?\.org$)", "abba.org", true},
                                                     {R"(^(a|b)$)", "c", false},
                                                     {R"(^[\w\-.]+$)", "a-b.c", true},
                                                     {R"(^[\w\-.]+$)", "a+b", false},
                                                     {R"(^[a-]$)", "-", true},
                                                     {R"(^[^.]+$)", "a.b", false},
                                                     {R"(^[^\-]+$)", "a-b", false},
                                                     {R"(^[\]x]$)", "]", true},
                                                     {R"(^a\-b$)", "a-b", true},
                                                     {"", "anything", true}}) {
    const auto patterns = Patterns::compile({one.pattern});
    ASSERT_TRUE(patterns) << one.pattern << patterns.error().text();
    EXPECT_EQ(patterns->matches(one.name), one.matches) << one.pattern << " " << one.name;
  }
  EXPECT_TRUE(Patterns::compile({"^x$", "^y$"})->matches("y"));
  for (const char* bad : {"(", "[a", "a\\", "\\pL", "(?i)a", "[[:alpha:]]", "[^", "[\\^]", "a{2,1}", "\\1"})
    EXPECT_FALSE(Patterns::compile({bad})) << bad;
  EXPECT_FALSE(Patterns::compile({std::string(513, 'a')}));
  EXPECT_FALSE(Patterns::compile(std::vector<std::string>(65, "a")));
}

// ---- both halves ----

class HttpChallenge : public ShippedPlugin {
 protected:
  HttpChallenge() { services = {nullptr, &http, &agents}; }
  ~HttpChallenge() override {
    agent.reset();
    server.reset();
  }
  Result<void> agent_with(const std::string& json, bool dry_run = false) {
    auto instance = create("node_attestor_http_challenge", LIMPET_NODE_ATTESTOR_AGENT, kNodeAttestorPrefix);
    auto result = configure(*instance, json, dry_run);
    agent = make_node_attestor_agent(std::move(instance));
    return result;
  }
  Result<void> server_with(const std::string& json, bool dry_run = false) {
    auto instance = create("node_attestor_http_challenge", LIMPET_NODE_ATTESTOR_SERVER, kNodeAttestorPrefix);
    auto result = configure(*instance, json, dry_run);
    server = make_node_attestor_server(std::move(instance));
    return result;
  }
  static std::string payload(const std::string& host = "web.example.org", int64_t port = 80,
                             const std::string& name = "default") {
    return encode_payload({host, name, port});
  }
  Result<AttestStep> step(NodeAttestorServerSession& session, std::string_view said) {
    return wait<AttestStep>([&](Done<AttestStep> done) { session.step(to_bytes(said), std::move(done)); });
  }
  // The second step: begun, and left waiting for the host.
  void begin(NodeAttestorServerSession& session, Waiter<AttestStep>& waiter) {
    session.step(to_bytes(std::string_view("\n")), waiter.arm());
    loop.run_ready();
  }
  std::string nonce_of(const Result<AttestStep>& asked) { return std::string(*decode_challenge(asked->challenge)); }
  // One whole attempt with what is served.
  Result<AttestStep> attempt(Result<PlainReply> served) {
    auto session = server->open("192.0.2.1");
    const auto asked = step(*session, payload());
    if (!asked) return asked;
    if (served && as_text(served->body) == "NONCE\n") served->body = to_bytes(nonce_of(asked) + "\n");
    Waiter<AttestStep> verdict;
    begin(*session, verdict);
    http.waiting.back()(std::move(served));
    loop.run_ready();
    if (!verdict.result && !agents.waiting.empty() && agents.waiting.back().wanted()) {
      agents.waiting.back()(known ? Result<KnownAgent>(KnownAgent{agents.asked.back(), "http_challenge", false})
                                  : fail(Code::not_found, "agent not found"));
      loop.run_ready();
    }
    return verdict.result ? std::move(*verdict.result) : fail(Code::internal, "the test's attempt did not end");
  }
  static PlainReply reply(int status, std::string_view body) { return {status, to_bytes(body)}; }

  FakeHttp http;
  FakeAgents agents;
  bool known = false;  // the agent has attested before
  std::unique_ptr<NodeAttestorAgent> agent;
  std::unique_ptr<NodeAttestorServer> server;
};

constexpr const char* kLabel = "nodeattestor(http_challenge): ";

TEST_P(HttpChallenge, RefusesConfigurationsItDoesNotUnderstand) {
  const auto refused = [&](const Result<void>& result, const std::string& text) {
    EXPECT_EQ(outcome(result), std::string("InvalidArgument: ") + kLabel + text);
  };
  refused(agent_with(R"({"hostname":"a/b"})"), "hostname \"a/b\": hostname can not contain a slash");
  refused(agent_with(R"({"hostname":"a","agentname":"1"})"),
          "agentname must be a letter and up to 31 letters, digits, \"-\" or \"_\"");
  refused(agent_with(R"({"hostname":"a","port":65536})"), "port must be between 0 and 65535");
  refused(agent_with(R"({"hostname":"a","advertised_port":-1})"), "advertised_port must be between 0 and 65535");
  refused(agent_with(R"({"host":"a"})"), "unknown key \"host\"; known: advertised_port, agentname, hostname, port");
  refused(server_with(R"({"required_port":0})"), "required_port must be between 1 and 65535");
  refused(server_with(R"({"allowed_dns_patterns":["("]})"),
          "cannot compile allowed_dns_pattern: \"(\": Unmatched ( or \\(");
  refused(server_with(R"({"allowed_dns_patterns":"a"})"), "allowed_dns_patterns must be a list of strings");
  const std::string tofu = "you can not turn off trust on first use (TOFU) when non-root ports are allowed";
  refused(server_with(R"({"tofu":false})"), tofu);
  refused(server_with(R"({"tofu":false,"allow_non_root_ports":true})"), tofu);
  refused(server_with(R"({"tofu":false,"required_port":1024})"), tofu);
  refused(server_with(R"({"tofu":false,"required_port":1024,"allow_non_root_ports":false})"), tofu);
  EXPECT_EQ(outcome(server_with(R"({"tofu":false,"required_port":1023})")), "ok");
  EXPECT_EQ(outcome(server_with(R"({"tofu":false,"allow_non_root_ports":false})")), "ok");
}

TEST_P(HttpChallenge, TheServerNeedsTheHostsServicesOnceItIsNoDryRun) {
  services = {};
  EXPECT_EQ(outcome(server_with("{}", true)), "ok");
  EXPECT_EQ(outcome(server_with("{}")), std::string("FailedPrecondition: ") + kLabel + "the host has no limpet.http/1");
  services.http = &http;
  EXPECT_EQ(outcome(server_with("{}")),
            std::string("FailedPrecondition: ") + kLabel + "tofu: the host has no limpet.agent-store/1");
  EXPECT_EQ(outcome(server_with(R"({"tofu":false,"required_port":80})")), "ok");
}

TEST_P(HttpChallenge, PlacesThatAreNotAllowedAreRefusedBeforeAnythingIsAsked) {
  ASSERT_EQ(outcome(server_with(R"({"allowed_dns_patterns":["^web\\.example\\.org$","^(localhost|..|a.b)$"],)"
                                R"("required_port":80})")),
            "ok");
  const std::string invalid = std::string("InvalidArgument: ") + kLabel;
  const std::string denied = std::string("PermissionDenied: ") + kLabel;
  const auto said = [&](const std::string& text) { return outcome(step(*server->open("192.0.2.1"), text)); };
  EXPECT_TRUE(said("{").starts_with(invalid + "failed to unmarshal data: "));
  EXPECT_TRUE(said(R"({"port":"x"})").starts_with(invalid + "failed to unmarshal data: "));
  EXPECT_EQ(said("{}"), invalid + "port 0 is not allowed to be used by this server");
  EXPECT_EQ(said(payload("web.example.org", 81)), invalid + "port 81 is not allowed to be used by this server");
  EXPECT_EQ(said(payload("web.example.org", 80, "a.b")), invalid + "agent name is not valid");
  EXPECT_EQ(said(payload("localhost")), denied + "you can not use localhost as a hostname");
  EXPECT_EQ(said(payload("web.example.com")), denied + "the requested hostname is not allowed to connect");
  EXPECT_EQ(said(payload("..")).substr(0, denied.size() + 30), denied + "challenge verification failed:");
  EXPECT_EQ(said(payload("a/b")), denied + "challenge verification failed: hostname can not contain a slash");
  EXPECT_EQ(said(payload("a:b")), denied + "challenge verification failed: hostname can not contain a colon");
  ASSERT_EQ(outcome(server_with(R"({"allow_non_root_ports":false})")), "ok");
  EXPECT_EQ(said(payload("h", 1024)), invalid + "port 1024 is not allowed to be >= 1024");
  EXPECT_EQ(said(payload("h", -1)), denied + "challenge verification failed: port is invalid");
  EXPECT_EQ(said(payload("", 80)), denied + "challenge verification failed: hostname must be set");
  ASSERT_EQ(outcome(server_with("{}")), "ok");
  EXPECT_EQ(said(payload("h", 65536)), denied + "challenge verification failed: port is invalid");
  EXPECT_TRUE(http.asked.empty());
}

// The connection and its resolver take these for a host that may have attested, or was banned, under its one name.
TEST_P(HttpChallenge, AnotherSpellingOfAHostIsRefusedBeforeAnythingIsAsked) {
  const std::string denied = std::string("PermissionDenied: ") + kLabel + "hostname ";
  const auto said = [&](const char* host) { return outcome(step(*server->open("192.0.2.1"), payload(host))); };
  ASSERT_EQ(outcome(server_with("{}")), "ok");
  EXPECT_EQ(said("db1."), denied + "has a dot at an end or two in a row");
  EXPECT_EQ(said("10.1.515"), denied + "is a number but no IPv4 address as in \"192.0.2.1\"");
  EXPECT_EQ(said("10.1.2.3"), "ok");
  EXPECT_EQ(said("db1"), "ok");
  EXPECT_EQ(said("localhost"), std::string("PermissionDenied: ") + kLabel + "you can not use localhost as a hostname");
  EXPECT_TRUE(http.asked.empty());
}

TEST_P(HttpChallenge, TheNonceMustBeServedAtTheWellKnownPath) {
  ASSERT_EQ(outcome(server_with("{}")), "ok");
  const auto good = attempt(reply(200, "NONCE\n"));
  ASSERT_EQ(outcome(good), "ok");
  EXPECT_TRUE(good->attested);
  EXPECT_FALSE(good->can_reattest);
  EXPECT_EQ(good->agent_path, "/spire/agent/http_challenge/web.example.org");
  EXPECT_EQ(good->selectors, std::vector<std::string>{"hostname:web.example.org"});
  EXPECT_EQ(http.asked[0].url, "http://web.example.org:80" + kPath);
  EXPECT_EQ(http.asked[0].max_body, 64u);
  EXPECT_EQ(http.asked[0].timeout_ms, 10'000);
  EXPECT_EQ(agents.asked, std::vector<std::string>{"spiffe://example.org/spire/agent/http_challenge/web.example.org"});

  const std::string failed = std::string("PermissionDenied: ") + kLabel + "challenge verification failed: ";
  EXPECT_EQ(outcome(attempt(reply(200, "secret of another service"))),
            failed + "what is served there is not the nonce");
  EXPECT_EQ(outcome(attempt(reply(200, kNonce))), failed + "what is served there is not the nonce");
  EXPECT_EQ(outcome(attempt(reply(200, ""))), failed + "what is served there is not the nonce");
  EXPECT_EQ(outcome(attempt(reply(404, "NONCE\n"))), failed + "unexpected status 404");
  EXPECT_EQ(outcome(attempt(reply(301, ""))), failed + "unexpected status 301");
  EXPECT_EQ(outcome(attempt(fail(Code::unavailable, "connection refused"))), failed + "connection refused");
}

TEST_P(HttpChallenge, TrustOnFirstUseEndsWithTheFirstUse) {
  ASSERT_EQ(outcome(server_with("{}")), "ok");
  known = true;
  EXPECT_EQ(outcome(attempt(reply(200, "NONCE\n"))),
            std::string("PermissionDenied: ") + kLabel + "attestation data has already been used to attest an agent");
  ASSERT_EQ(outcome(server_with(R"({"tofu":false,"required_port":80})")), "ok");
  const auto again = attempt(reply(200, "NONCE\n"));
  ASSERT_EQ(outcome(again), "ok");
  EXPECT_TRUE(again->can_reattest);
}

TEST_P(HttpChallenge, AStoreThatCannotBeReadAttestsNobody) {
  ASSERT_EQ(outcome(server_with("{}")), "ok");
  auto session = server->open("192.0.2.1");
  const auto asked = step(*session, payload());
  Waiter<AttestStep> verdict;
  begin(*session, verdict);
  http.waiting[0](reply(200, nonce_of(asked)));
  agents.waiting[0](fail(Code::data_loss, "bad row"));
  loop.run_ready();
  EXPECT_EQ(outcome(*verdict.result), std::string("Internal: ") + kLabel + "unable to get agent info: bad row");
  EXPECT_EQ(outcome(step(*session, "\n")),
            std::string("InvalidArgument: ") + kLabel + "the challenge was answered already");
}

TEST_P(HttpChallenge, AHostWithoutRoomIsNoReasonToDenyTheAgent) {
  ASSERT_EQ(outcome(server_with("{}")), "ok");
  auto session = server->open("192.0.2.1");
  ASSERT_EQ(outcome(step(*session, payload())), "ok");
  http.full = true;
  EXPECT_EQ(outcome(step(*session, "\n")),
            std::string("ResourceExhausted: ") + kLabel + "too many attestations at a time; try again");
}

TEST_P(HttpChallenge, AnAttemptMayEndWhileTheHostIsAsking) {
  ASSERT_EQ(outcome(server_with("{}")), "ok");
  for (const bool at_store : {false, true}) {
    auto session = server->open("192.0.2.1");
    const auto asked = step(*session, payload());
    {
      Waiter<AttestStep> verdict;
      begin(*session, verdict);
      if (at_store) http.waiting.back()(reply(200, nonce_of(asked)));
      session.reset();
    }
    loop.run_ready();
  }
  auto session = server->open("192.0.2.1");
  (void)step(*session, payload());
  Waiter<AttestStep> verdict;
  begin(*session, verdict);
  server.reset();  // the plugin goes, too
  loop.run_ready();
  EXPECT_FALSE(http.waiting.back().wanted());
  EXPECT_FALSE(*verdict.result);
}

// A client of the agent's port.
class Client {
 public:
  explicit Client(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  void say(std::string_view text) {
    EXPECT_EQ(::send(fd_, text.data(), text.size(), MSG_NOSIGNAL), ssize_t(text.size()));
  }
  std::string hear() {
    std::string out;
    char buffer[512];
    for (ssize_t got = 0; (got = ::recv(fd_, buffer, sizeof buffer, 0)) > 0;) out.append(buffer, size_t(got));
    return out;
  }
  bool connected = false;

 private:
  int fd_;
};

TEST_P(HttpChallenge, TheAgentServesTheNonceUntilItsAttemptIsOver) {
  ASSERT_EQ(outcome(agent_with(R"({"hostname":"web.example.org"})")), "ok");
  auto session = agent->open();
  const auto payload_of = [&] { return wait<Bytes>([&](Done<Bytes> done) { session->payload(std::move(done)); }); };
  const auto answer = [&](const std::string& asked) {
    return wait<Bytes>([&](Done<Bytes> done) { session->answer(to_bytes(asked), std::move(done)); });
  };
  const auto said = payload_of();
  ASSERT_EQ(outcome(said), "ok");
  const auto place = decode_payload(*said);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->hostname, "web.example.org");
  EXPECT_EQ(place->agentname, "default");
  const auto port = static_cast<uint16_t>(place->port);
  ASSERT_NE(port, 0);

  Client early(port);  // before there is anything to serve
  ASSERT_TRUE(early.connected);
  early.say("GET " + place->path() + " HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_TRUE(
      outcome(answer("{}")).starts_with(std::string("Internal: ") + kLabel + "unable to unmarshal challenge: "));
  const auto answered = answer(encode_challenge(kNonce));
  ASSERT_EQ(outcome(answered), "ok");
  EXPECT_EQ(as_text(*answered), "\n");
  EXPECT_EQ(outcome(answer(encode_challenge(kNonce))),
            std::string("FailedPrecondition: ") + kLabel + "a challenge without a payload before it");
  EXPECT_TRUE(early.hear().ends_with(std::string("\r\n\r\n") + kNonce + "\n"));
  {
    Client slow(port);
    slow.say("GET " + place->path());
    Client other(port);
    other.say("GET /secret HTTP/1.1\r\n\r\n");
    EXPECT_TRUE(other.hear().starts_with("HTTP/1.1 404 Not Found\r\n"));
    slow.say(" HTTP/1.1\r\n\r\n");
    EXPECT_TRUE(slow.hear().starts_with("HTTP/1.1 200 OK\r\n"));
    std::vector<std::unique_ptr<Client>> idle;  // more than there is room for: the oldest go
    for (int i = 0; i < 20; ++i) idle.push_back(std::make_unique<Client>(port));
    Client late(port);
    late.say("GET " + place->path() + " HTTP/1.1\r\n\r\n");
    EXPECT_TRUE(late.hear().starts_with("HTTP/1.1 200 OK\r\n"));
    EXPECT_EQ(idle.front()->hear(), "");
  }
  session.reset();
  loop.run_ready();
  EXPECT_FALSE(Client(port).connected);
}

TEST_P(HttpChallenge, TheAgentTellsTheAdvertisedPortAndSaysWhichPortItCannotHave) {
  ASSERT_EQ(outcome(agent_with(R"({"hostname":"h","agentname":"b-1","advertised_port":80})")), "ok");
  auto session = agent->open();
  const auto said = wait<Bytes>([&](Done<Bytes> done) { session->payload(std::move(done)); });
  ASSERT_EQ(outcome(said), "ok");
  EXPECT_EQ(as_text(*said), R"({"hostname":"h","agentname":"b-1","port":80})");

  const int taken = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(taken, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(taken, 1), 0);
  ASSERT_EQ(::getsockname(taken, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string port = std::to_string(ntohs(address.sin_port));
  ASSERT_EQ(outcome(agent_with(R"({"hostname":"h","port":)" + port + "}")), "ok");
  session = agent->open();
  EXPECT_EQ(outcome(wait<Bytes>([&](Done<Bytes> done) { session->payload(std::move(done)); })),
            std::string("Internal: ") + kLabel + "could not listen on port " + port + ": address already in use");
  ::close(taken);
}

BOTH_CARRIERS(HttpChallenge);

}  // namespace
}  // namespace limpet

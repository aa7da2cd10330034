// SPDX-License-Identifier: Apache-2.0
// TLS by the Web's rules: chains that must not pass, files that change, and a GET from end to end on loopback.
#include "wire/web_tls.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "loop/fake_loop.h"
#include "loop/uv_stream.h"
#include "support/mint.h"
#include "wire/http_client.h"
#include "wire/http_server.h"

namespace limpet::wire {
namespace {

using test::kNow;
using test::shared_key;

CertificateTemplate leaf_template(std::vector<std::string> names) {
  CertificateTemplate cert;
  cert.serial = random_serial();
  cert.subject = test::common_name("leaf.example.org");
  cert.not_before = kNow - 3600;
  cert.not_after = kNow + 3600;
  cert.key_usage = kDigitalSignature;
  cert.server_and_client_auth = true;
  cert.dns_names = std::move(names);
  cert.spki = shared_key(KeyType::ec_p256, 3).public_key().spki();
  return cert;
}

CertificateTemplate ca_template(const std::string& name, int key) {
  CertificateTemplate cert;
  cert.serial = random_serial();
  cert.subject = test::common_name(name);
  cert.issuer = cert.subject;
  cert.not_before = kNow - 86400;
  cert.not_after = kNow + 86400;
  cert.ca = true;
  cert.key_usage = kKeyCertSign | kCrlSign;
  cert.spki = shared_key(KeyType::ec_p256, key).public_key().spki();
  return cert;
}

Bytes seal(const CertificateTemplate& cert, int signer) {
  const PrivateKey& key = shared_key(KeyType::ec_p256, signer);
  const Bytes tbs = encode_tbs(cert, key.type(), HashAlg::sha256);
  return seal_certificate(tbs, key.type(), HashAlg::sha256, *key.sign(HashAlg::sha256, sha256(tbs)));
}

class WebTlsTest : public testing::Test {
 protected:
  WebTlsTest() {
    root = ca_template("Root", 1);
    write("roots.pem", pem_encode("CERTIFICATE", seal(root, 1)));
    intermediate = ca_template("Intermediate", 2);
    intermediate.issuer = root.subject;
  }
  ~WebTlsTest() override {
    for (const std::string& name : written) unlink(name.c_str());
  }
  std::string at(const std::string& name) const {
    return testing::TempDir() + "/limpet-web-" + std::to_string(getpid()) + "-" + name;
  }
  void write(const std::string& name, const std::string& text) {
    written.push_back(at(name));
    std::ofstream(at(name), std::ios::binary | std::ios::trunc) << text;
  }
  Bytes leaf(CertificateTemplate cert) {
    cert.issuer = intermediate.subject;
    return seal(cert, 2);
  }
  Result<void> judge(const std::vector<Bytes>& chain, const std::string& host) {
    auto roots = WebRoots::load(at("roots.pem"));
    if (!roots) return fail(roots.error());
    return web_verifier(*roots, host, clock)->verify(chain);
  }
  // A pair for this host's loopback name, valid for the system's clock too.
  void write_pair(const std::string& name) {
    auto cert = leaf_template({name});
    write("cert.pem", pem_encode("CERTIFICATE", leaf(cert)) + pem_encode("CERTIFICATE", seal(intermediate, 1)));
    const SecretBytes key = shared_key(KeyType::ec_p256, 3).pkcs8();
    write("key.pem", pem_encode("PRIVATE KEY", key.view()));
  }

  FakeClock clock{kNow};
  CertificateTemplate root, intermediate;
  std::vector<std::string> written;
};

TEST_F(WebTlsTest, ChainsThatMustNotPassAreNamedInGosWords) {
  auto expired = leaf_template({"example.org"});
  expired.not_after = kNow - 1;
  auto future = leaf_template({"example.org"});
  future.not_before = kNow + 100;
  auto nameless = leaf_template({});
  auto foreign = leaf_template({"example.org"});
  foreign.issuer = test::common_name("Nobody");
  auto old_intermediate = intermediate;
  old_intermediate.not_after = kNow - 1;
  auto no_ca = intermediate;
  no_ca.ca = false;
  const Bytes between = seal(intermediate, 1);
  const struct {
    const char* what;
    std::vector<Bytes> chain;
    const char* host;
    const char* why;
  } cases[] = {
      {"no chain", {}, "example.org", "the server showed none"},
      {"garbage", {Bytes{1, 2, 3}}, "example.org", "malformed certificate"},
      {"no intermediate", {leaf(leaf_template({"example.org"}))}, "example.org", "unknown authority"},
      {"a foreign root", {seal(foreign, 5)}, "example.org", "unknown authority"},
      {"an intermediate signed by somebody else",
       {leaf(leaf_template({"example.org"})), seal(intermediate, 5)},
       "example.org",
       "unknown authority"},
      {"an intermediate that is no CA",
       {leaf(leaf_template({"example.org"})), seal(no_ca, 1)},
       "example.org",
       "unknown authority"},
      {"another name",
       {leaf(leaf_template({"example.org"})), between},
       "example.com",
       "valid for example.org, not example.com"},
      {"a parent of the name", {leaf(leaf_template({"a.example.org"})), between}, "example.org", "not example.org"},
      {"a wildcard two levels down",
       {leaf(leaf_template({"*.example.org"})), between},
       "a.b.example.org",
       "not a.b.example.org"},
      {"the common name alone", {leaf(nameless), between}, "leaf.example.org", "no subjectAltName"},
      {"an address where names are", {leaf(leaf_template({"example.org"})), between}, "127.0.0.1", "not 127.0.0.1"},
      {"expired", {leaf(expired), between}, "example.org", "expired or is not yet valid"},
      {"not yet valid", {leaf(future), between}, "example.org", "expired or is not yet valid"},
      {"an expired intermediate",
       {leaf(leaf_template({"example.org"})), seal(old_intermediate, 1)},
       "example.org",
       "expired or is not yet valid"},
  };
  for (const auto& c : cases) {
    const auto judged = judge(c.chain, c.host);
    ASSERT_FALSE(judged) << c.what;
    EXPECT_EQ(judged.error().code, Code::unauthenticated) << c.what;
    EXPECT_TRUE(judged.error().message.starts_with("tls: failed to verify certificate: ")) << c.what;
    EXPECT_NE(judged.error().message.find(c.why), std::string::npos) << c.what << ": " << judged.error().message;
  }
}

TEST_F(WebTlsTest, AChainToARootPassesByOurClock) {
  const Bytes between = seal(intermediate, 1);
  EXPECT_TRUE(judge({leaf(leaf_template({"example.org"})), between}, "example.org"));
  EXPECT_TRUE(judge({leaf(leaf_template({"x", "EXAMPLE.org"})), between}, "example.org"));
  EXPECT_TRUE(judge({leaf(leaf_template({"*.example.org"})), between}, "a.example.org"));
  clock.set(kNow + 2 * 3600);
  EXPECT_FALSE(judge({leaf(leaf_template({"example.org"})), between}, "example.org"));
}

TEST_F(WebTlsTest, RootFilesThatHoldNoneAreRefused) {
  write("empty.pem", "");
  write("junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  EXPECT_EQ(WebRoots::load(at("missing.pem")).error().code, Code::not_found);
  EXPECT_EQ(WebRoots::load(at("empty.pem")).error().code, Code::invalid_argument);
  EXPECT_EQ(WebRoots::load(at("junk.pem")).error().code, Code::invalid_argument);
}

struct Events final : WebServerTlsEvents {
  void on_certificate_changed() override { ++changed; }
  void on_certificate_refused(const Error& why) override { refused.push_back(why.message); }
  int changed = 0;
  std::vector<std::string> refused;
};

TEST_F(WebTlsTest, AServersPairIsReadAgainAndABadOneChangesNothing) {
  FakeLoop loop;
  Events events;
  write_pair("a.example.org");
  const WebServerFiles files{at("cert.pem"), at("key.pem"), 1'000};
  auto tls = WebServerTls::load(loop, files, &events);
  ASSERT_TRUE(tls) << tls.error().message;
  const auto first = (*tls)->identity();
  EXPECT_EQ(first->chain.size(), 2u);
  const auto pass = [&] {
    loop.advance(1'000);
    loop.run_ready();
  };
  pass();
  EXPECT_EQ((*tls)->identity(), first);  // nothing changed
  EXPECT_EQ(events.changed, 0);
  write("key.pem", "no key");
  pass();
  ASSERT_EQ(events.refused.size(), 1u);
  EXPECT_NE(events.refused[0].find("key.pem: no private key"), std::string::npos) << events.refused[0];
  EXPECT_EQ((*tls)->identity(), first);
  write_pair("b.example.org");
  pass();
  EXPECT_EQ(events.changed, 1);
  EXPECT_NE((*tls)->identity(), first);
}

TEST_F(WebTlsTest, ServerFilesThatDoNotFitAreNamed) {
  FakeLoop loop;
  write_pair("a.example.org");
  const SecretBytes other = shared_key(KeyType::ec_p256, 4).pkcs8();
  write("other.pem", pem_encode("PRIVATE KEY", other.view()));
  const struct {
    std::string cert;
    std::string key;
    const char* why;
  } cases[] = {
      {at("none.pem"), at("key.pem"), "none.pem: no such file"},
      {at("cert.pem"), at("none.pem"), "none.pem: no such file"},
      {at("key.pem"), at("key.pem"), "no certificate in it"},
      {at("cert.pem"), at("cert.pem"), "no private key in it"},
      {at("cert.pem"), at("other.pem"), "is not the key of"},
  };
  for (const auto& c : cases) {
    const auto tls = WebServerTls::load(loop, {c.cert, c.key});
    ASSERT_FALSE(tls);
    EXPECT_NE(tls.error().message.find(c.why), std::string::npos) << tls.error().message;
  }
}

// ---- from end to end, on loopback ----

struct Hello final : HttpHandler {
  explicit Hello(Loop& l) : loop(l) {}
  void handle(HttpRequest request, Done<HttpResponse> done) override {
    host = request.host;
    HttpResponse response = http_text(200, "hello");
    response.fields.emplace_back("etag", http_etag(response.body));
    http_answer(loop, std::move(done), std::move(response));
  }
  Loop& loop;
  std::string host;
};

struct Asker {
  explicit Asker(UvLoop& l) : loop(l) {}
  void on_reply(Result<HttpReply> result) {
    reply = std::move(result);
    loop.stop();
  }
  UvLoop& loop;
  Result<HttpReply> reply = std::unexpected(Error{});
  Pending<HttpReply> pending;
};

TEST_F(WebTlsTest, AGetOverHttpsFromEndToEnd) {
  UvLoop loop;
  write_pair("localhost");
  auto tls = WebServerTls::load(loop, {at("cert.pem"), at("key.pem")});
  auto roots = WebRoots::load(at("roots.pem"));
  ASSERT_TRUE(tls && roots);
  Hello hello(loop);
  HttpServer server(loop, clock, {.tls = tls->get()}, hello);
  auto listener = listen_tcp(loop, "localhost", 0, server);
  ASSERT_TRUE(listener) << listener.error().message;
  const std::string authority = "localhost:" + std::to_string((*listener)->port());
  const auto ask = [&](const std::string& url, TlsPolicy* policy, std::string etag = {}) {
    Asker asker(loop);
    http_get(loop, {.url = *Url::parse(url), .tls = policy, .etag = std::move(etag), .timeout_ms = 20'000},
             asker.pending.then<&Asker::on_reply>(&asker));
    loop.run();
    return std::move(asker.reply);
  };

  WebClientTls good(*roots, "localhost", clock);
  auto reply = ask("https://" + authority + "/", &good);
  ASSERT_TRUE(reply) << reply.error().text();
  EXPECT_EQ(as_text(reply->body), "hello");
  EXPECT_EQ(reply->chain.size(), 2u);
  EXPECT_EQ(hello.host, authority);

  auto same = ask("https://" + authority + "/", &good, reply->etag());
  ASSERT_TRUE(same) << same.error().text();
  EXPECT_EQ(same->status, 304);

  WebClientTls other(*roots, "example.org", clock);
  auto refused = ask("https://" + authority + "/", &other);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unauthenticated);
  EXPECT_NE(refused.error().message.find("valid for localhost, not example.org"), std::string::npos);

  auto plain = ask("http://" + authority + "/", nullptr);  // an alert is no HTTP
  ASSERT_FALSE(plain);

  listener->reset();
  auto gone = ask("https://" + authority + "/", &good);
  ASSERT_FALSE(gone);
  EXPECT_NE(gone.error().message.find("connection refused"), std::string::npos) << gone.error().message;
}

}  // namespace
}  // namespace limpet::wire

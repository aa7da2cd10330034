// SPDX-License-Identifier: Apache-2.0
// Writes the fuzzers' seeds: make_seeds DIR VECTORS SAMPLES leaves DIR/<target>/<name>. Made anew by tools/fuzz because
// most follow from our own code; what a fuzzer found by itself is kept in tests/fuzz/corpus/<target>/.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "all_messages.h"
#include "boot_log.h"
#include "crypto/jws_sign.h"
#include "crypto/x509.h"
#include "echo_service.h"
#include "kit/go_json.h"
#include "loop/fake_loop.h"
#include "loop/fake_stream.h"
#include "spiffe/bundle.h"
#include "wire/api_types.h"
#include "wire/client_channel.h"
#include "wire/grpc_server.h"

namespace limpet::wire {
namespace {

namespace fs = std::filesystem;
std::string out_dir;  // the program's only argument that everything needs

void seed(const std::string& target, const std::string& name, BytesView bytes) {
  fs::create_directories(out_dir + "/" + target);
  std::ofstream out(out_dir + "/" + target + "/" + name, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) std::perror(name.c_str()), std::exit(1);
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) std::perror(path.c_str()), std::exit(1);
  return {std::istreambuf_iterator<char>(in), {}};
}

Bytes with_prefix(std::initializer_list<uint8_t> prefix, BytesView rest) {
  Bytes out(prefix);
  append(out, rest);
  return out;
}

// ---- a conversation of our client with our server, both directions recorded ----
class Relay final : public StreamReader {
 public:
  Relay(Stream& to) : to_(to) {}
  void on_bytes(BytesView bytes) override {
    append(seen, bytes);
    to_.write(to_bytes(bytes), {});
  }
  void on_end(std::optional<Error>) override {}
  Bytes seen;

 private:
  Stream& to_;
};

void conversation(const std::string& name, std::string_view method, const std::vector<Bytes>& messages) {
  FakeLoop loop;
  EchoService echo;
  GrpcServer server(loop, {});
  server.add("test.Echo", echo);
  auto client_pair = connect_memory(loop);
  auto server_pair = connect_memory(loop);
  Relay up(*server_pair.a), down(*client_pair.b);
  client_pair.b->read(up);
  server_pair.a->read(down);
  server.on_connection(std::move(server_pair.b));
  ClientChannel channel(loop, std::move(client_pair.a), "localhost", {});
  {
    EchoClient call(channel.open(method, {.timeout_ms = 1000, .metadata = {{"workload.spiffe.io", "true"}}}));
    call.listen();
    for (const Bytes& message : messages) call.send(message);
    call.close_send();
    loop.advance(10);
  }
  loop.advance(2000);
  for (uint8_t how : {uint8_t{0}, uint8_t{0x1a}, uint8_t{0x2c}}) {
    const std::string file = name + "_" + std::to_string(how);
    seed("grpc_server", file, with_prefix({how}, up.seen));
    seed("grpc_client", file, with_prefix({how}, down.seen));
  }
}

void http2_seeds() {
  conversation("unary", "/test.Echo/Unary", {to_bytes("hello")});
  conversation("empty", "/test.Echo/Unary", {Bytes()});
  conversation("bidi", "/test.Echo/Bidi", {to_bytes("one"), Bytes(300, 'x'), to_bytes("three")});
  conversation("fail", "/test.Echo/Fail", {to_bytes("x")});
  conversation("hold", "/test.Echo/Hold", {to_bytes("x")});
  conversation("unknown", "/no.Such/Method", {to_bytes("x")});
  conversation("large", "/test.Echo/Unary", {Bytes(20'000, 'y')});
  // frames to recombine: PING, SETTINGS, GOAWAY, RST_STREAM, WINDOW_UPDATE, PRIORITY, CONTINUATION, DATA without a
  // stream
  const std::pair<const char*, std::string_view> frames[] = {
      {"ping", {"\0\0\x8\x6\0\0\0\0\0abcdefgh", 17}},           {"settings", {"\0\0\x6\x4\0\0\0\0\0\0\x4\0\0\0\0", 15}},
      {"goaway", {"\0\0\x8\x7\0\0\0\0\0\0\0\0\0\0\0\0\0", 17}}, {"reset", {"\0\0\x4\x3\0\0\0\0\x1\0\0\0\x8", 13}},
      {"window", {"\0\0\x4\x8\0\0\0\0\0\x7f\xff\xff\xff", 13}}, {"priority", {"\0\0\x5\x2\0\0\0\0\x3\0\0\0\1\x10", 14}},
      {"continuation", {"\0\0\1\x9\x4\0\0\0\1\x82", 10}},       {"data", {"\0\0\x5\0\0\0\0\0\1\0\0\0\0\0", 14}},
      {"headers", {"\0\0\x3\x1\x5\0\0\0\x1\x83\x86\x84", 12}},
  };
  for (const auto& [name, frame] : frames) {
    seed("grpc_server", std::string("frame_") + name, with_prefix({1}, as_bytes(frame)));
    seed("grpc_client", std::string("frame_") + name, with_prefix({1}, as_bytes(frame)));
  }
}

void frame_seeds() {
  for (size_t size : {0u, 1u, 5u, 200u, 70'000u}) {
    Outbox outbox;
    outbox.push(Bytes(size, 'm'), false);
    outbox.push(to_bytes("second"), true);
    Bytes wire{7};
    outbox.take(outbox.bytes(), wire);
    seed("grpc_frame", "two_" + std::to_string(size), wire);
  }
  seed("grpc_frame", "compressed", as_bytes({"\0\1\0\0\0\1x", 7}));
  seed("grpc_frame", "too_large", as_bytes({"\3\0\xff\xff\xff\xff", 6}));
  seed("grpc_frame", "just_too_large", as_bytes({"\3\0\0\x40\0\1", 6}));
}

// ---- messages ----
#define LIMPET_NAME(type) #type,
constexpr std::string_view kNames[] = {LIMPET_ALL_MESSAGES(LIMPET_NAME)};

Bytes of_type(std::string_view name, BytesView wire) {
  const auto found = std::find(std::begin(kNames), std::end(kNames), name);
  if (found == std::end(kNames)) std::fprintf(stderr, "no message %.*s\n", int(name.size()), name.data()), std::exit(1);
  const auto index = static_cast<size_t>(found - std::begin(kNames));
  return with_prefix({static_cast<uint8_t>(index >> 8), static_cast<uint8_t>(index)}, wire);
}

// `levels` messages in one another; `tags` are the fields' tags in turn, outermost first.
Bytes nested(size_t levels, std::vector<uint8_t> tags) {
  Bytes reversed;
  for (size_t level = levels; level-- > 0;) {
    Bytes header{tags[level % tags.size()]};
    for (size_t size = reversed.size();; size >>= 7) {
      header.push_back(static_cast<uint8_t>((size & 0x7f) | (size > 0x7f ? 0x80 : 0)));
      if (size <= 0x7f) break;
    }
    reversed.insert(reversed.end(), header.rbegin(), header.rend());
  }
  std::reverse(reversed.begin(), reversed.end());
  return reversed;
}

// A message with every field number up to 24 in the wire type that `tag` gives: what an unknown field must look like.
Bytes all_fields(uint8_t wire_type, BytesView value) {
  Bytes out;
  for (uint8_t field = 1; field <= 15; ++field) {
    out.push_back(static_cast<uint8_t>(field << 3 | wire_type));
    append(out, value);
  }
  return out;
}

void message_seeds() {
  for (size_t i = 0; i < std::size(kNames); ++i) {
    const std::string name(kNames[i]);
    seed("message", name + "_strings", of_type(name, all_fields(2, as_bytes({"\x2\xa\x0", 3}))));
    seed("message", name + "_numbers", of_type(name, all_fields(0, as_bytes("\x01"))));
  }
  for (size_t levels : {31u, 32u, 33u, 1000u, 100'000u}) {
    const std::string suffix = "_" + std::to_string(levels);
    seed("message", "nested_values" + suffix, of_type("google_protobuf_Value", nested(levels, {0x32, 0x0a})));
    seed("message", "nested_structs" + suffix, of_type("google_protobuf_Struct", nested(levels, {0x0a, 0x12, 0x2a})));
    seed("message", "nested_node" + suffix,
         of_type("envoy_service_secret_v3_DiscoveryRequest", nested(levels, {0x12, 0x1a, 0x0a, 0x12, 0x2a})));
    seed("message", "nested_unknown" + suffix, of_type("X509SVIDRequest", nested(levels, {0x0a})));
    seed("message", "groups" + suffix, of_type("X509SVIDRequest", Bytes(levels, 0x0b)));
  }
  Bytes many;  // two bytes of wire for one element each
  for (int i = 0; i < 70'000; ++i) append(many, as_bytes({"\xa\0", 2}));
  for (const char* name :
       {"spire_api_server_entry_v1_BatchCreateEntryRequest", "spire_api_server_svid_v1_BatchNewX509SVIDRequest"}) {
    seed("message", std::string("many_items_") + name, of_type(name, many));
  }
}

// A length, and as many bytes.
Bytes sized(BytesView bytes) {
  Bytes out;
  size_t size = bytes.size();
  for (; size > 0x7f; size >>= 7) out.push_back(static_cast<uint8_t>(size | 0x80));
  out.push_back(static_cast<uint8_t>(size));
  append(out, bytes);
  return out;
}

// Every field as a number, as a text, and as messages of texts, for each method of audit_fuzz.cc.
void audit_seeds() {
  const Bytes texts = all_fields(2, sized(as_bytes("example.org")));
  const Bytes nested = all_fields(2, sized(texts));
  for (uint8_t method = 0; method < 11; ++method) {
    const std::string name = std::to_string(method);
    seed("audit", name + "_numbers", with_prefix({method}, all_fields(0, as_bytes("\x01"))));
    seed("audit", name + "_texts", with_prefix({method}, texts));
    seed("audit", name + "_nested", with_prefix({method}, nested));
    seed("audit", name + "_deeper", with_prefix({method}, all_fields(2, sized(nested))));
  }
}

// ---- certificates, CSRs, bundles, texts ----
void pki_seeds(const std::string& vectors) {
  Bytes all;
  std::string pem;
  for (const char* name : {"workload_svid", "workload_dns_svid", "server_svid", "ca"}) {
    const std::string text = read_file(vectors + "/spire/" + name + ".pem");
    pem += text;
    const Bytes der = pem_decode(text).value().at(0).der;
    seed("certificate", name, der);
    append(all, der);
  }
  seed("certificate", "chain", all);
  seed("certificate", "pem", as_bytes(pem));
  Bundle bundle;
  bundle.trust_domain = TrustDomain::parse("example.org").value();
  bundle.x509_authorities.push_back({pem_decode(read_file(vectors + "/spire/ca.pem")).value().at(0).der});
  bundle.sequence_number = 3;
  bundle.refresh_hint = 60;
  seed("bundle_json", "empty", as_bytes("{\"keys\":[]}"));
  seed("bundle_json", "deep", as_bytes(std::string(100'000, '[')));
  for (const auto& [type, name] : {std::pair(KeyType::ec_p256, "p256"), std::pair(KeyType::ec_p384, "p384"),
                                   std::pair(KeyType::rsa_2048, "rsa2048")}) {
    const PrivateKey key = PrivateKey::generate(type).value();
    CsrTemplate csr;
    csr.spki = key.public_key().spki();
    csr.subject = encode_name({{kOidCountry, "US"}, {kOidOrganization, "SPIRE"}, {kOidCommonName, "h\xc3\xa9"}});
    seed("csr", std::string(name) + "_bare", make_csr(csr, key).value());
    csr.uris = {"spiffe://example.org/web"};
    csr.dns_names = {"web", "*.example.org"};
    seed("csr", name, make_csr(csr, key).value());
    bundle.jwt_authorities.push_back({name, csr.spki});
    seed("bundle_json", name, as_bytes(bundle_to_json(bundle)));
  }
}

void text_seeds(const std::string& samples) {
  const std::string_view ids[] = {"spiffe://example.org",
                                  "spiffe://example.org/web",
                                  "spiffe://example.org/spire/agent/join_token/x",
                                  "spiffe://a_b-c.1/a/b.c/d-e_f",
                                  "example.org",
                                  "spiffe://",
                                  "spiffe://example.org/",
                                  "spiffe://example.org//a",
                                  "spiffe://example.org/..",
                                  "spiffe://EXAMPLE.org/a",
                                  "spiffe://example.org:80/a",
                                  "spiffe://u@example.org/a",
                                  "http://x",
                                  "unix:uid:1000",
                                  "k8s:sa:default",
                                  ":x",
                                  "x:",
                                  "unix::",
                                  "spiffe://example.org/%41",
                                  "*.example.org",
                                  "xn--nxasmq6b.org"};
  int number = 0;
  for (std::string_view id : ids) seed("spiffe_id", "text_" + std::to_string(number++), as_bytes(id));
  seed("spiffe_id", "long", as_bytes("spiffe://example.org/" + std::string(2048, 'a')));
  for (const auto& file : fs::directory_iterator(samples)) {
    if (file.path().extension() == ".toml") seed("config", file.path().stem(), as_bytes(read_file(file.path())));
  }
  seed("config", "nested", as_bytes("x = " + std::string(100'000, '[')));
  seed("config", "keys",
       as_bytes("[server]\nbind_prot = 1\ntrust_domain = 7\ndata_dir = \"x\"\n[[plugin]]\nname = \"\"\n"));
  seed("config", "duration", as_bytes("1h30m5.5s10ms"));
  seed("hcl", "server",
       as_bytes("server {\n  bind_port = \"1\" # c\n  ca_subject { country = [\"DE\"] }\n}\nplugins {\n  KeyManager "
                "\"disk\" {\n"
                "    plugin_data { keys_path = <<-EOF\n      x\n      EOF\n } }\n}\n"));
  seed("hcl", "agent",
       as_bytes(R"({"agent": {"server_port": 1, "trust_domain": "\u0061$X"}, "plugins": {"A": [{"b": {}}]}})"));
  seed("hcl", "nested", as_bytes("server { x = " + std::string(100'000, '[')));
}

void http_seeds() {
  const std::string_view requests[] = {
      "GET /keys?x HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"a\"\r\n\r\nHEAD / HTTP/1.0\r\n\r\n",
      "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nab\r\n0\r\nt: u\r\n\r\n",
      "GET http://a/n HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc",
      "GET / HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\nconnection: upgrade, http2-settings\r\n\r\n",
  };
  const std::string_view answers[] = {
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nETag: \"v\"\r\ncontent-length: 2\r\n\r\nok",
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
      "HTTP/1.0 304 Not Modified\r\netag: x\r\n\r\n",
      "HTTP/1.1 200 OK\r\n\r\nuntil the end",
  };
  int number = 0;
  for (const std::string_view text : requests) {
    seed("http", "request_" + std::to_string(number), with_prefix({0}, as_bytes(text)));
    seed("http", "pieces_" + std::to_string(number++), with_prefix({0x0d}, as_bytes(text)));
  }
  for (const std::string_view text : answers) {
    seed("http", "answer_" + std::to_string(number++), with_prefix({0x0a}, as_bytes(text)));
  }
  // HEADERS: GET / of "a" over https, from HPACK's static table, END_STREAM
  const Bytes headers{0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x87, 0x41, 0x01, 'a'};
  seed("http", "http2", with_prefix({3}, headers));
  seed("http", "url", with_prefix({0}, as_bytes("https://[::1]:8443/a?b")));
}

void proxy_seeds() {
  const std::string signature("\r\n\r\n\0\r\nQUIT\n", 12);
  seed("proxy_header", "v1", as_bytes("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n\x16\x03"));
  seed("proxy_header", "v1_six", as_bytes("PROXY TCP6 2001:db8::1 ::2 1 2\r\n"));
  seed("proxy_header", "v1_unknown", as_bytes("PROXY UNKNOWN ffff:: ffff:: 1 2\r\n"));
  seed("proxy_header", "v2",
       as_bytes(signature + std::string("\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\1\2\3\4", 16)));
  seed("proxy_header", "v2_six", as_bytes(signature + std::string("\x21\x21\0\x25", 4) + std::string(37, 'a')));
  seed("proxy_header", "v2_local", as_bytes(signature + std::string("\x20\0\0\0", 4)));
  seed("proxy_header", "range", as_bytes("10.0.0.0/8"));
  seed("proxy_header", "range_six", as_bytes("2001:db8::/33"));
}

Bytes ssh_string(std::string_view text) {
  Bytes out;
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(text.size() >> shift));
  append(out, as_bytes(text));
  return out;
}

void attestation_seeds() {
  seed("attestation", "x509pop_payload", with_prefix({0}, as_bytes(R"({"certificates":["MAA=",null],"Other":[{}]})")));
  seed(
      "attestation", "x509pop_rsa",
      with_prefix({0x81}, as_bytes(R"({"rsa_signature":{"nonce":"AAAA","signature":"AAAA"},"ecdsa_signature":null})")));
  seed(
      "attestation", "x509pop_ecdsa",
      with_prefix({1}, as_bytes(R"({"rsa_signature":null,"ecdsa_signature":{"nonce":"AAAA","r":"AA==","s":"AA=="}})")));
  Bytes certificate = ssh_string("ecdsa-sha2-nistp256-cert-v01@openssh.com");
  for (const std::string_view part : {"nonce", "nistp256", "\x04point"}) append(certificate, ssh_string(part));
  certificate.insert(certificate.end(), 8, 1);  // serial
  append(certificate, Bytes{0, 0, 0, 2});       // host
  append(certificate, ssh_string("id"));
  append(certificate, ssh_string(as_text(ssh_string("host.example.org"))));
  certificate.insert(certificate.end(), 16, 1);  // validity
  for (int i = 0; i < 5; ++i) append(certificate, ssh_string(""));
  seed("attestation", "ssh_certificate", with_prefix({2}, certificate));
  Bytes key = ssh_string("ssh-rsa");
  append(key, ssh_string(std::string_view("\1\0\1", 3)));
  append(key, ssh_string(std::string(256, 'n')));
  seed("attestation", "ssh_key", with_prefix({3}, key));
  Bytes file = to_bytes(std::string_view("openssh-key-v1\0", 15));
  for (const std::string_view part : {"none", "none", ""}) append(file, ssh_string(part));
  append(file, Bytes{0, 0, 0, 1});
  append(file, ssh_string(as_text(key)));
  append(file, ssh_string(std::string(64, '\1')));
  seed("attestation", "ssh_key_file", with_prefix({4}, file));
  seed("attestation", "http_payload",
       with_prefix({5}, as_bytes(R"({"hostname":"web.example.org","agentname":"default","port":80})")));
  seed("attestation", "http_challenge", with_prefix({6}, as_bytes(R"({"nonce":"AAAAAAAAAAAAAAAAAAAAAAA="})")));
  seed("attestation", "dns_pattern", with_prefix({6}, as_bytes(R"(^(?:web|p\d+)[\w\-.]*?\.example\.org$)")));
  seed("attestation", "http_request", with_prefix({7}, as_bytes("GET /n HTTP/1.1\r\nHost: h:80\r\n\r\n")));
}

void jwt_seeds() {
  const auto token = [](std::string_view name, std::string_view header, std::string_view claims) {
    seed("jwt_svid", std::string(name), as_bytes(jws_signing_input(header, claims) + ".AAAA"));
  };
  constexpr std::string_view kHeader = R"({"alg":"ES256","kid":"k","typ":"JWT"})";
  token("good", kHeader, R"({"aud":["aud"],"exp":1795313136,"iat":1795312836,"sub":"spiffe://example.org/web"})");
  token("text", kHeader,
        R"({"aud":"aud","exp":1795313136.5,"nbf":1,"sub":"spiffe://example.org/web","x":[{"y":null}]})");
  token("none", R"({"alg":"none","kid":"k","crit":["x"]})", R"({"exp":1e9,"sub":"spiffe://a/b"})");
  token("rsa", R"({"alg":"PS512","kid":"k","typ":"JOSE"})", R"({"exp":1,"exp":2,"sub":"spiffe://a/b"})");
  token("deep", kHeader,
        R"({"exp":1,"sub":"spiffe://a/b","x":)" + std::string(5000, '[') + std::string(5000, ']') + "}");
}

// ---- what Envoys ask ----
void sds_seed(const std::string& name, const std::vector<std::string>& names, bool old, bool plain) {
  Message<envoy_service_secret_v3_DiscoveryRequest> request;
  write_strings(request->resource_names, request->resource_names_count, names);
  set_string(request->version_info, "1");
  set_string(request->response_nonce, "00ff");
  auto& node = request->node;
  request->has_node = true;
  if (old) {
    node.which_user_agent_version_type = envoy_service_secret_v3_Node_user_agent_build_version_tag;
    auto& build = node.user_agent_version_type.user_agent_build_version;
    build.has_version = true;
    build.version.major_number = 1;
    build.version.minor_number = 17;
  }
  if (plain) {
    node.has_metadata = true;
    auto* field = set_array(node.metadata.fields, node.metadata.fields_count, 1);
    set_string(field->key, "disable_spiffe_cert_validation");
    field->has_value = true;
    field->value.which_kind = google_protobuf_Value_bool_value_tag;
    field->value.kind.bool_value = true;
  }
  seed("sds", name, *request.encode());
}

void sds_seeds() {
  sds_seed("everything", {}, false, false);
  sds_seed("default", {"default", "ROOTCA"}, true, false);
  sds_seed("all", {"ALL"}, false, true);
  sds_seed("by_id", {"spiffe://example.org/one", "spiffe://other.org", "spiffe://example.org"}, true, true);
  sds_seed("unseen", {"spiffe://unseen.org"}, false, false);
}

// Parts of the messages that a TPM made for the reference plugins, and the messages; a small event log.
void tpm_seeds(const std::string& vectors) {
  const std::string payload = read_file(vectors + "/tpm/pubhash_payload.json");
  const auto document = kit::GoJson::parse(as_bytes(payload));
  if (!document) std::abort();
  const auto ak = kit::GoJson::object(document->root(), "AK");
  uint8_t which = 0;
  for (const char* name : {"Public", "CreateAttestation", "CreateSignature", "CreateData"}) {
    const auto part = kit::GoJson::bytes(*ak, name);
    seed("tpm", name, with_prefix({which++}, *part));
  }
  seed("tpm", "event_log", with_prefix({4}, test::BootLog::usual(true).bytes()));
  seed("tpm", "policies",
       with_prefix({5}, as_bytes(R"({"policies":[{"name":"p","pcrs":[0,7],"accepted":[{"digest":")" +
                                 std::string(64, 'a') + R"(","from":"2026-11-22T02:00:35Z"}]}]})")));
  const auto devid = kit::GoJson::parse(as_bytes(read_file(vectors + "/tpm/devid_payload.json")));
  seed("tpm", "ek_certificate", with_prefix({6}, *kit::GoJson::bytes(devid->root(), "EKCert")));
  seed("tpm", "devid_payload", with_prefix({10}, as_bytes(read_file(vectors + "/tpm/devid_payload.json"))));
  seed("tpm", "devid_challenge", with_prefix({10}, as_bytes(read_file(vectors + "/tpm/devid_challenge.json"))));
  seed("tpm", "payload", with_prefix({7}, as_bytes(payload)));
  seed("tpm", "challenge", with_prefix({8}, as_bytes(read_file(vectors + "/tpm/pubhash_challenge.json"))));
  seed("tpm", "response", with_prefix({9}, as_bytes(read_file(vectors + "/tpm/pubhash_response.json"))));
}

void pkcs11_seeds() {
  const auto text = [](const std::string& name, std::string_view words) { seed("pkcs11", name, as_bytes(words)); };
  text("uri",
       "upkcs11:token=My%20CA;serial=0123;manufacturer=Soft;model=v2?module-path=/usr/lib/x.so&pin-source=file:/run/"
       "pin");
  text("label", "uCA token");
  text("key-label", "llimpet:edge:key:x509-CA-A");
  const auto point = [](KeyType type, size_t size) {
    return to_bytes(BytesView(PrivateKey::generate(type)->public_key().spki()).last(size));
  };
  seed("pkcs11", "p256", with_prefix({'2'}, point(KeyType::ec_p256, 65)));
  seed("pkcs11", "p256-wrapped", with_prefix({'2', 0x04, 65}, point(KeyType::ec_p256, 65)));
  seed("pkcs11", "p384-wrapped", with_prefix({'3', 0x04, 97}, point(KeyType::ec_p384, 97)));
  seed("pkcs11", "signature", with_prefix({'s'}, Bytes(64, 0x81)));
}

}  // namespace
}  // namespace limpet::wire

int main(int argc, char** argv) {
  using namespace limpet::wire;
  if (argc != 4) return std::fprintf(stderr, "usage: %s DIR VECTORS SAMPLES\n", argv[0]), 2;
  out_dir = argv[1];
  http2_seeds();
  frame_seeds();
  message_seeds();
  audit_seeds();
  pki_seeds(argv[2]);
  text_seeds(argv[3]);
  http_seeds();
  proxy_seeds();
  attestation_seeds();
  jwt_seeds();
  sds_seeds();
  pkcs11_seeds();
  tpm_seeds(argv[2]);
  return 0;
}

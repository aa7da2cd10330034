// SPDX-License-Identifier: Apache-2.0
#include "cli/mint.h"

#include <sys/stat.h>

#include <cstdio>

#include "base/clock.h"
#include "cli/json.h"
#include "cli/session.h"
#include "crypto/x509.h"
#include "proto/spire_bundle.pb.h"
#include "proto/spire_svid.pb.h"
#include "spiffe/id.h"
#include "wire/api_types.h"
#include "wire/proto_json.h"

namespace limpet::cli {

using wire::items;
using wire::Message;
using wire::view;

namespace {

using MintRequest = spire_api_server_svid_v1_MintX509SVIDRequest;
using MintResponse = spire_api_server_svid_v1_MintX509SVIDResponse;
using BundleRequest = spire_api_server_bundle_v1_GetBundleRequest;

struct Minted {
  std::string svid_pem;
  std::string key_pem;
  std::string roots_pem;
  int64_t expires_at = 0;
};

// The CSR's subject becomes the certificate's: C=US, O=SPIRE as SPIRE's own command asks for.
Result<Bytes> make_request_csr(const PrivateKey& key, const SpiffeId& id, const std::vector<std::string>& dns_names) {
  CsrTemplate csr;
  csr.subject = encode_name({{kOidCountry, "US"}, {kOidOrganization, "SPIRE"}});
  csr.spki = key.public_key().spki();
  csr.uris = {id.text()};
  csr.dns_names = dns_names;
  return make_csr(csr, key);
}

Result<Minted> mint(Rpc& rpc, const Flags& flags) {
  if (flags.text("spiffeID").empty()) return fail(Code::invalid_argument, "spiffeID must be specified");
  TRY_ASSIGN(const SpiffeId id, SpiffeId::parse(flags.text("spiffeID")));
  TRY_ASSIGN(const PrivateKey key, PrivateKey::generate(KeyType::ec_p256));
  TRY_ASSIGN(const Bytes csr, make_request_csr(key, id, flags.list("dns")));

  Message<MintRequest> request;
  wire::set_bytes(request->csr, csr);
  TRY_ASSIGN(request->ttl, flags.seconds("ttl"));
  const auto response = rpc.call<MintRequest, MintResponse>("/spire.api.server.svid.v1.SVID/MintX509SVID", request);
  if (!response) return fail(Error{response.error().code, "unable to mint SVID: " + rpc_text(response.error())});
  const auto bundle = rpc.call<BundleRequest, spire_api_types_Bundle>("/spire.api.server.bundle.v1.Bundle/GetBundle",
                                                                      Message<BundleRequest>());
  if (!bundle) return fail(Error{bundle.error().code, "unable to get bundle: " + rpc_text(bundle.error())});

  Minted minted;
  minted.expires_at = (*response)->svid.expires_at;
  for (const auto* certificate : items((*response)->svid.cert_chain, (*response)->svid.cert_chain_count)) {
    minted.svid_pem += pem_encode("CERTIFICATE", view(certificate));
  }
  minted.key_pem = pem_encode("PRIVATE KEY", key.pkcs8().view());
  for (const auto& root : items((*bundle)->x509_authorities, (*bundle)->x509_authorities_count)) {
    minted.roots_pem += pem_encode("CERTIFICATE", view(root.asn1));
  }
  return minted;
}

Result<void> write_minted(const std::string& directory, const Minted& minted) {
  if (::mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
    return fail(Code::unavailable, "cannot make the directory " + directory);
  }
  TRY(write_file(directory + "/svid.pem", minted.svid_pem, 0644));
  TRY(write_file(directory + "/key.pem", minted.key_pem, 0600));
  TRY(write_file(directory + "/bundle.pem", minted.roots_pem, 0644));
  std::printf("X509-SVID written to %s/svid.pem\n", directory.c_str());
  std::printf("Private key written to %s/key.pem\n", directory.c_str());
  std::printf("Root CAs written to %s/bundle.pem\n", directory.c_str());
  return {};
}

void print_json(const Minted& minted) {
  JsonWriter out;
  out.begin_object().key("private_key").string(minted.key_pem).key("root_cas").string(minted.roots_pem);
  out.key("x509_svid").string(minted.svid_pem).end_object();
  std::printf("%s\n", out.text().c_str());
}

void tell_if_capped(const char* what, int64_t ttl_ms, int64_t asked_until_ms, int64_t expires_at) {
  if (ttl_ms <= 0 || expires_at * 1000 >= asked_until_ms) return;
  std::fprintf(stderr, "%s lifetime was capped shorter than specified ttl; expires \"%s\"\n", what,
               TimeText(expires_at).rfc3339());
}

int run(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    const int64_t ttl_ms = context.flags->number("ttl");
    const int64_t asked_until_ms = SystemClock().now_ms() + ttl_ms;
    const auto minted = mint(rpc, *context.flags);
    if (!minted) return failed(minted.error());
    tell_if_capped("X509-SVID", ttl_ms, asked_until_ms, minted->expires_at);
    if (const std::string& directory = context.flags->text("write"); !directory.empty()) {
      const auto written = write_minted(directory, *minted);
      return written ? 0 : failed(written.error());
    }
    if (json) {
      print_json(*minted);
      return 0;
    }
    std::printf("X509-SVID:\n%s\nPrivate key:\n%s\nRoot CAs:\n%s\n", minted->svid_pem.c_str(), minted->key_pem.c_str(),
                minted->roots_pem.c_str());
    return 0;
  });
}

using JwtRequest = spire_api_server_svid_v1_MintJWTSVIDRequest;
using JwtResponse = spire_api_server_svid_v1_MintJWTSVIDResponse;

Result<Message<JwtResponse>> mint_jwt(Rpc& rpc, const Flags& flags) {
  if (flags.text("spiffeID").empty()) return fail(Code::invalid_argument, "spiffeID must be specified");
  TRY_ASSIGN(const SpiffeId id, SpiffeId::parse(flags.text("spiffeID")));
  const auto& audience = flags.list("audience");
  if (audience.empty()) return fail(Code::invalid_argument, "at least one audience must be specified");
  Message<JwtRequest> request;
  wire::write_id(request->has_id, request->id, id);
  char** out = wire::set_array(request->audience, request->audience_count, audience.size());
  for (size_t i = 0; i < audience.size(); ++i) wire::set_string(out[i], audience[i]);
  TRY_ASSIGN(request->ttl, flags.seconds("ttl"));
  auto response = rpc.call<JwtRequest, JwtResponse>("/spire.api.server.svid.v1.SVID/MintJWTSVID", request);
  if (!response) return fail(Error{response.error().code, "unable to mint SVID: " + rpc_text(response.error())});
  return response;
}

int run_jwt(Context& context) {
  return with_rpc(context, kServer, [&context](Rpc& rpc, bool json) {
    const int64_t ttl_ms = context.flags->number("ttl");
    const int64_t asked_until_ms = SystemClock().now_ms() + ttl_ms;
    const auto minted = mint_jwt(rpc, *context.flags);
    if (!minted) return failed(minted.error());
    const auto& svid = (*minted)->svid;
    tell_if_capped("JWT-SVID", ttl_ms, asked_until_ms, svid.expires_at);
    const std::string token(view(svid.token));
    if (const std::string& file = context.flags->text("write"); !file.empty()) {
      if (const auto written = write_file(file, token, 0600); !written) return failed(written.error());
      std::printf("JWT-SVID written to %s\n", file.c_str());
      return 0;
    }
    std::printf("%s\n", json ? wire::to_json(**minted).c_str() : token.c_str());
    return 0;
  });
}

}  // namespace

Command jwt_mint_command() {
  return {"jwt mint",
          kServer,
          "Has the server sign a JWT-SVID",
          {{"spiffeID", FlagType::text, "", "The SPIFFE ID"},
           {"audience", FlagType::list, "", "For whom the token is"},
           {"ttl", FlagType::duration, "0s", "Lifetime, such as 90s or 5m; 0 is the server's default"},
           {"write", FlagType::text, "", "A file to write the token into"},
           server_socket_flag(),
           instance_flag(),
           output_flag()},
          run_jwt};
}

Command x509_mint_command() {
  return {"x509 mint",
          kServer,
          "Makes a key and has the server sign an X.509-SVID for it",
          {{"spiffeID", FlagType::text, "", "The SPIFFE ID"},
           {"dns", FlagType::list, "", "A DNS name for the certificate"},
           {"ttl", FlagType::duration, "0s", "Lifetime, such as 90s or 24h; 0 is the server's default"},
           {"write", FlagType::text, "", "A directory to write svid.pem, key.pem and bundle.pem into"},
           server_socket_flag(),
           instance_flag(),
           output_flag()},
          run};
}

}  // namespace limpet::cli

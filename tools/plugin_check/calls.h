// SPDX-License-Identifier: Apache-2.0
#pragma once
// Every call of every interface, as one function each: arguments are copied into the op's loan.

#include "plugin_check/subject.h"

namespace limpet::check {

struct Workload {
  int32_t pid = -1;
  int32_t pidfd = -1;
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::string reference_type = {};
  std::string reference = {};
};
Op& attest(Subject& s, const Workload& workload, CallOptions options = {});

Op& generate(Subject& s, const std::string& id, uint32_t type, CallOptions options = {});
Op& list(Subject& s, CallOptions options = {});
struct SignRequest {
  std::string key_id;
  uint32_t hash = LIMPET_HASH_SHA256;
  std::string digest;
  int32_t pss_salt_len = -1;
};
Op& sign(Subject& s, const SignRequest& request, CallOptions options = {});
bool has_remove(Subject& s);
Op& remove(Subject& s, const std::string& id, CallOptions options = {});

Op& payload(Subject& s, Conversation& c, CallOptions options = {});
Op& answer(Subject& s, Conversation& c, const std::string& challenge, CallOptions options = {});
Op& step(Subject& s, Conversation& c, const std::string& from_agent, CallOptions options = {});

Op& seal(Subject& s, const std::string& plain, const std::string& context, CallOptions options = {});
Op& unseal(Subject& s, const std::string& blob, const std::string& context, CallOptions options = {});

Op& mint_ca(Subject& s, const std::string& csr, uint32_t ttl_s, CallOptions options = {});
Op& watch_bundle(Subject& s, CallOptions options = {});
Op& publish_jwt_key(Subject& s, const std::string& id, const std::string& spki, CallOptions options = {});
struct Bundle {
  std::vector<std::string> roots = {};
  std::string jwt_key_id = {};
  std::string jwt_key_spki = {};
};
Op& publish(Subject& s, const Bundle& bundle, CallOptions options = {});

// Some valid call of the component's kind, cheap where there is a choice. Whether it succeeds depends on what the
// component stands on; that it is answered does not.
Op& probe(Subject& s, CallOptions options = {});
// The same with an argument of `size` bytes, which is more than anybody needs.
Op& oversized(Subject& s, size_t size, CallOptions options = {});
// What a probe told that must not change by itself: selectors, keys.
std::string told(const Op& op);

// Material, made once.
const std::string& sample_csr();   // of a CA, EC P-256
const std::string& sample_root();  // a self-signed certificate
const std::string& sample_spki();

}  // namespace limpet::check

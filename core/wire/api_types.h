// SPDX-License-Identifier: Apache-2.0
#pragma once
// The types of spire.api.types and the domain's own values, in both directions, so that server, agent and commands turn
// them the same way. Reading from the wire checks and fails with the texts SPIRE's servers give; writing fills a struct
// that is zeroed, and leaves it to the Message that owns it to release. Pure functions, any thread.

#include <string>
#include <vector>

#include "proto/spire_types.pb.h"
#include "spiffe/bundle.h"
#include "spiffe/entry.h"
#include "spiffe/id.h"
#include "wire/message.h"

namespace limpet::wire {

// ---- SPIFFE IDs ----
// `present` is the field's has_ flag. INVALID_ARGUMENT "request must specify SPIFFE ID", or the ID grammar's own text.
Result<SpiffeId> read_id(bool present, const spire_api_types_SPIFFEID& id);
void write_id(bool& present, spire_api_types_SPIFFEID& out, const SpiffeId& id);  // an empty ID is left out

// ---- selectors ----
// In wire order. INVALID_ARGUMENT "missing selector type", "missing selector value", "selector type contains ':'".
Result<std::vector<Selector>> read_selectors(const spire_api_types_Selector* selectors, pb_size_t count);
void write_selectors(spire_api_types_Selector*& out, pb_size_t& out_count, const std::vector<Selector>& selectors);

// ---- lists of strings ----
std::vector<std::string> read_strings(char* const* strings, pb_size_t count);
void write_strings(char**& out, pb_size_t& out_count, const std::vector<std::string>& strings);
// Repeated bytes: certificate chains.
std::vector<Bytes> read_list(pb_bytes_array_t* const* list, pb_size_t count);
void write_list(pb_bytes_array_t**& out, pb_size_t& out_count, const std::vector<Bytes>& list);

// ---- masks ----
// A null mask means every field. `has` and `mask` as they stand in a request: mask_of(req->has_output_mask,
// req->output_mask).
template <class Mask>
const Mask* mask_of(bool has, const Mask& mask) {
  return has ? &mask : nullptr;
}

// ---- entries ----
// IDs and names are parsed, an absent ID stays empty; check_entry() judges the rest, selectors included. With a mask
// only the named fields are read (an update). INVALID_ARGUMENT "invalid spiffe ID: ...": what follows "failed to
// convert entry: ".
Result<Entry> read_entry(const spire_api_types_Entry& entry, const spire_api_types_EntryMask* mask = nullptr);
void write_entry(spire_api_types_Entry& out, const Entry& entry, const spire_api_types_EntryMask* mask = nullptr);

// ---- bundles ----
// INVALID_ARGUMENT "invalid trust domain: ...", "unable to parse X.509 authority: ...", "unable to parse JWT authority:
// ...".
Result<Bundle> read_bundle(const spire_api_types_Bundle& bundle, const spire_api_types_BundleMask* mask = nullptr);
Result<std::vector<X509Authority>> read_x509_authorities(const spire_api_types_X509Certificate* list, pb_size_t count);
Result<JwtAuthority> read_jwt_authority(const spire_api_types_JWTKey& key);
Result<std::vector<JwtAuthority>> read_jwt_authorities(const spire_api_types_JWTKey* list, pb_size_t count);
void write_bundle(spire_api_types_Bundle& out, const Bundle& bundle, const spire_api_types_BundleMask* mask = nullptr);
void write_jwt_authority(spire_api_types_JWTKey& out, const JwtAuthority& key);

// ---- SVIDs ----
struct X509Svid {
  std::vector<Bytes> chain;  // DER, leaf first
  SpiffeId id;
  int64_t expires_at = 0;
  std::string hint;
};
// INVALID_ARGUMENT without a chain or with a bad ID; the certificates themselves are the caller's to check.
Result<X509Svid> read_x509_svid(const spire_api_types_X509SVID& svid);
void write_x509_svid(spire_api_types_X509SVID& out, const X509Svid& svid);

struct JwtSvid {
  std::string token;
  SpiffeId id;
  int64_t expires_at = 0;
  int64_t issued_at = 0;
  std::string hint;
};
Result<JwtSvid> read_jwt_svid(const spire_api_types_JWTSVID& svid);
void write_jwt_svid(spire_api_types_JWTSVID& out, const JwtSvid& svid);

// ---- agents ----
struct AgentRecord {
  SpiffeId id;
  std::string attestation_type;
  std::string serial_number;  // decimal
  int64_t expires_at = 0;
  std::vector<Selector> selectors;
  bool banned = false;
  bool can_reattest = false;
  std::string version;
};
void write_agent(spire_api_types_Agent& out, const AgentRecord& agent, const spire_api_types_AgentMask* mask = nullptr);

// ---- outcome of one item of a batch ----
void write_ok(bool& present, spire_api_types_Status& out);  // code 0, message "OK"
void write_error(bool& present, spire_api_types_Status& out, const Error& error);
// An absent status means OK.
Result<void> read_status(bool present, const spire_api_types_Status& status);

}  // namespace limpet::wire

// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the audit log tells of a call's messages, from one table over all methods: the fields, under SPIRE's names, that
// stand in a request, in an item of a batch and in a response. Secrets are not among them: tokens, payloads, SVIDs and
// keys never reach the log, and of a CSR only its SHA-256 does. Constant data and pure functions.

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace limpet::server {

using AuditFields = std::map<std::string, std::string, std::less<>>;

enum class AuditKind : uint8_t {
  text,
  number,
  flag,
  id,         // a SPIFFEID
  texts,      // repeated; joined by commas
  selectors,  // repeated; "unix:uid:1,unix:gid:2"
  sha256,     // of bytes, in hex
  message,    // the fields within
};

struct AuditField {
  uint32_t number;
  const char* name;
  AuditKind kind;
  std::span<const AuditField> within = {};
  bool always = false;  // told though it has its default value
};

struct AuditMethod {
  std::string_view name;  // after "/spire.api.server."
  std::span<const AuditField> request;
  std::span<const AuditField> response = {};
  // A batch: this field of the request repeats, `request` says what stands in one, and the response has for each, in
  // the same order, field 1 with a status and what `response` says. Each has its own record.
  uint32_t items = 0;
};

// The method's row; one without fields when the table has none.
const AuditMethod& audit_method(std::string_view method);
// Adds what the message has. An item that is a plain text and not a message: `number` 0 stands for it.
void read_audit_fields(AuditFields& out, std::span<const AuditField> fields, BytesView message);

}  // namespace limpet::server

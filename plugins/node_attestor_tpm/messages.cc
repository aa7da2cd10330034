// SPDX-License-Identifier: Apache-2.0
#include "node_attestor_tpm/messages.h"

#include <yyjson.h>

#include <algorithm>

#include "crypto/der.h"
#include "kit/go_json.h"
#include "kit_tpm/event_log.h"

namespace limpet::tpm_attestor {
namespace {

using kit::GoJson;

constexpr size_t kMaxPayload = 64u << 10;
constexpr size_t kMaxPart = 1024;
constexpr size_t kMaxCredential = 256;
constexpr size_t kMaxWrappedSecret = 512;
constexpr size_t kMaxNonce = 32;
constexpr size_t kMaxBanks = 3;
constexpr size_t kMaxPemBlocks = 2;
constexpr size_t kMaxProblem = 256;

std::unexpected<Error> invalid(std::string message) { return fail(Code::invalid_argument, std::move(message)); }

std::string quoted(BytesView bytes) { return "\"" + base64_encode(bytes) + "\""; }
std::string member(const char* name, const std::string& value) { return std::string("\"") + name + "\":" + value; }

// A member that must be there, and not longer than it may be.
Result<Bytes> bounded(yyjson_val* parent, const char* name, size_t most) {
  TRY_ASSIGN(Bytes out, GoJson::bytes(parent, name));
  if (out.empty()) return invalid(std::string(name) + " is missing");
  if (out.size() > most) return invalid(std::string(name) + " is longer than " + std::to_string(most) + " bytes");
  return out;
}

Result<yyjson_val*> required(yyjson_val* parent, const char* name) {
  TRY_ASSIGN(yyjson_val * out, GoJson::object(parent, name));
  if (out == nullptr) return invalid(std::string(name) + " is missing");
  return out;
}

bool flag(yyjson_val* parent, const char* name) {
  yyjson_val* value = parent == nullptr ? nullptr : GoJson::member(parent, name);
  return value != nullptr && yyjson_is_true(value);
}

Result<uint32_t> number(yyjson_val* value, uint32_t most) {
  if (!yyjson_is_uint(value) || yyjson_get_uint(value) > most) return invalid("a number is out of range");
  return static_cast<uint32_t>(yyjson_get_uint(value));
}

// TPMs hold their certificate in a larger area: what stands behind the certificate is padding.
BytesView first_element(BytesView der) {
  der::Reader reader(der);
  const auto element = reader.next();
  return element ? element->whole : der;
}

// A CERTIFICATE, a PUBLIC KEY, or the one and then the other.
Result<void> read_ek(Payload& out, BytesView pem) {
  TRY_ASSIGN_WITHIN("EK", const std::vector<PemBlock> blocks, pem_decode(as_text(pem)));
  if (blocks.empty() || blocks.size() > kMaxPemBlocks) return invalid("EK: one or two PEM blocks are expected");
  bool certificate = false;
  bool key = false;
  for (const PemBlock& block : blocks) {
    if (block.label == "CERTIFICATE" && !certificate) {
      certificate = true;
      auto parsed = Certificate::parse(first_element(block.der));
      if (parsed) out.ek_certificate = std::move(*parsed);
      if (!parsed) out.certificate_problem = parsed.error().message;
    } else if (block.label == "PUBLIC KEY" && !key) {
      key = true;
      TRY_ASSIGN_WITHIN("EK", out.ek, PublicKey::from_spki(block.der));
    } else {
      return invalid("EK: unexpected PEM block \"" + block.label + "\"");
    }
  }
  if (!key && !out.ek_certificate) return invalid("EK: " + out.certificate_problem);
  if (!key) out.ek = out.ek_certificate->key;
  if (out.ek_certificate && !(out.ek_certificate->key == out.ek))
    return fail(Code::permission_denied, "EK: the certificate is that of another key");
  TRY_WITHIN("EK", tpm_wire::check_ek_size(out.ek));
  return {};
}

Result<AkParts> read_ak(yyjson_val* ak) {
  AkParts out;
  TRY_ASSIGN(out.public_area, bounded(ak, "Public", kMaxPart));
  TRY_ASSIGN(out.creation_data, bounded(ak, "CreateData", kMaxPart));
  TRY_ASSIGN(out.creation_attest, bounded(ak, "CreateAttestation", kMaxPart));
  TRY_ASSIGN(out.creation_signature, bounded(ak, "CreateSignature", kMaxPart));
  return out;
}

// ---- our additions ----

Result<tpm_wire::PcrSelection> read_set(yyjson_val* bank) {
  if (!yyjson_is_obj(bank)) return invalid("Banks must be a list of objects");
  tpm_wire::PcrSelection out;
  TRY_ASSIGN(const uint32_t hash, number(GoJson::member(bank, "Hash"), UINT16_MAX));
  out.hash = static_cast<uint16_t>(hash);
  TRY(tpm_wire::hash_of(out.hash));
  yyjson_val* list = GoJson::member(bank, "PCRs");
  if (!yyjson_is_arr(list) || yyjson_arr_size(list) > tpm_wire::kPcrs)
    return invalid("PCRs must be a list of at most 24");
  size_t at = 0;
  size_t count = 0;
  yyjson_val* item = nullptr;
  yyjson_arr_foreach(list, at, count, item) {
    TRY_ASSIGN(const uint32_t pcr, number(item, tpm_wire::kPcrs - 1));
    if (!out.pcrs.empty() && pcr <= out.pcrs.back()) return invalid("PCRs must be in ascending order");
    out.pcrs.push_back(pcr);
  }
  return out;
}

Result<std::vector<yyjson_val*>> read_banks(yyjson_val* parent) {
  yyjson_val* list = GoJson::member(parent, "Banks");
  if (!yyjson_is_arr(list) || yyjson_arr_size(list) == 0 || yyjson_arr_size(list) > kMaxBanks)
    return invalid("Banks must be a list of 1 to 3");
  std::vector<yyjson_val*> out;
  size_t at = 0;
  size_t count = 0;
  yyjson_val* item = nullptr;
  yyjson_arr_foreach(list, at, count, item) out.push_back(item);
  return out;
}

Result<QuoteRequest> read_request(yyjson_val* object) {
  QuoteRequest out;
  TRY_ASSIGN(out.nonce, bounded(object, "Nonce", kMaxNonce));
  TRY_ASSIGN(const std::vector<yyjson_val*> banks, read_banks(object));
  for (yyjson_val* bank : banks) {
    TRY_ASSIGN(tpm_wire::PcrSelection set, read_set(bank));
    out.sets.push_back(std::move(set));
  }
  out.event_log = flag(object, "EventLog");
  return out;
}

Result<tpm_wire::PcrBank> read_bank(yyjson_val* object) {
  TRY_ASSIGN(const tpm_wire::PcrSelection set, read_set(object));
  TRY_ASSIGN(std::vector<Bytes> values, GoJson::bytes_list(object, "Values", tpm_wire::kPcrs));
  if (values.size() != set.pcrs.size()) return invalid("as many Values as PCRs are expected");
  tpm_wire::PcrBank out{set.hash, {}};
  for (size_t i = 0; i < values.size(); ++i) out.values.emplace(set.pcrs[i], std::move(values[i]));
  return out;
}

// Words for a log line, both as we send and as we read them.
std::string plain(std::string_view text) {
  std::string out(text.substr(0, kMaxProblem));
  std::ranges::replace_if(out, [](char c) { return c < 0x20 || c >= 0x7f || c == '"' || c == '\\'; }, '?');
  return out;
}

std::string read_plain(yyjson_val* parent, const char* name) {
  yyjson_val* value = GoJson::member(parent, name);
  return yyjson_is_str(value) ? plain({yyjson_get_str(value), yyjson_get_len(value)}) : std::string();
}

std::string problem(const char* name, const std::string& text) {
  return text.empty() ? std::string() : "," + member(name, "\"" + plain(text) + "\"");
}

Result<QuoteAnswer> read_answer(yyjson_val* object) {
  QuoteAnswer out;
  TRY_ASSIGN(out.quote, bounded(object, "Quote", kMaxPart));
  TRY_ASSIGN(out.signature, bounded(object, "Signature", kMaxPart));
  TRY_ASSIGN(const std::vector<yyjson_val*> banks, read_banks(object));
  for (yyjson_val* each : banks) {
    TRY_ASSIGN(tpm_wire::PcrBank bank, read_bank(each));
    out.banks.push_back(std::move(bank));
  }
  TRY_ASSIGN(out.event_log, GoJson::bytes(object, "EventLog"));
  if (out.event_log.size() > tpm_wire::kMaxEventLogBytes) return invalid("EventLog is larger than 720 KiB");
  out.event_log_problem = read_plain(object, "EventLogProblem");
  return out;
}

std::string numbers(const std::vector<uint32_t>& pcrs) {
  std::string out;
  for (const uint32_t pcr : pcrs) out += (out.empty() ? "" : ",") + std::to_string(pcr);
  return "[" + out + "]";
}

std::string bank_start(uint16_t hash, const std::vector<uint32_t>& pcrs) {
  return "{" + member("Hash", std::to_string(hash)) + "," + member("PCRs", numbers(pcrs));
}

std::string encode_request(const QuoteRequest& request) {
  std::string banks;
  for (const tpm_wire::PcrSelection& set : request.sets)
    banks += (banks.empty() ? "" : ",") + bank_start(set.hash, set.pcrs) + "}";
  return "{" + member("Nonce", quoted(request.nonce)) + "," + member("Banks", "[" + banks + "]") + "," +
         member("EventLog", request.event_log ? "true" : "false") + "}";
}

std::string encode_answer(const QuoteAnswer& answer) {
  std::string banks;
  for (const tpm_wire::PcrBank& bank : answer.banks) {
    std::vector<uint32_t> pcrs;
    std::string values;
    for (const auto& [pcr, value] : bank.values) {
      pcrs.push_back(pcr);
      values += (values.empty() ? "" : ",") + quoted(value);
    }
    banks +=
        (banks.empty() ? "" : ",") + bank_start(bank.hash, pcrs) + "," + member("Values", "[" + values + "]") + "}";
  }
  return "," + member("Quote", quoted(answer.quote)) + "," + member("Signature", quoted(answer.signature)) + "," +
         member("Banks", "[" + banks + "]") + "," + member("EventLog", quoted(answer.event_log)) +
         problem("EventLogProblem", answer.event_log_problem);
}

// Credential and Secret carry their length in front here.
Bytes sized(BytesView content) {
  Bytes out;
  tpm_wire::put_sized(out, content);
  return out;
}

Result<Bytes> read_sized(yyjson_val* parent, const char* name, size_t most) {
  TRY_ASSIGN(const Bytes all, bounded(parent, name, most + 2));
  tpm_wire::Reader reader(all);
  TRY_ASSIGN_WITHIN(name, const BytesView content, reader.sized(most));
  TRY_WITHIN(name, reader.end());
  return to_bytes(content);
}

}  // namespace

std::string encode_payload(const PayloadParts& parts) {
  std::string pem = parts.ek_certificate.empty() ? "" : pem_encode("CERTIFICATE", parts.ek_certificate);
  pem += pem_encode("PUBLIC KEY", parts.ek.spki());
  return "{" + member("EK", quoted(as_bytes(pem))) + ",\"AK\":{" + member("Public", quoted(parts.ak.public_area)) +
         ",\"UseTCSDActivationFormat\":false," + member("CreateData", quoted(parts.ak.creation_data)) + "," +
         member("CreateAttestation", quoted(parts.ak.creation_attest)) + "," +
         member("CreateSignature", quoted(parts.ak.creation_signature)) + "}" +
         (parts.quotes ? ",\"Limpet\":{\"Quote\":true}}" : "}");
}

Result<Payload> decode_payload(BytesView json) {
  if (json.size() > kMaxPayload) return invalid("larger than 64 KiB");
  TRY_ASSIGN(const GoJson document, GoJson::parse(json));
  Payload out;
  TRY_ASSIGN(const Bytes ek, bounded(document.root(), "EK", kMaxPayload));
  TRY(read_ek(out, ek));
  TRY_ASSIGN(yyjson_val * ak, required(document.root(), "AK"));
  TRY_ASSIGN_WITHIN("AK", out.ak, read_ak(ak));
  TRY_ASSIGN(yyjson_val * ours, GoJson::object(document.root(), "Limpet"));
  out.quotes = flag(ours, "Quote");
  return out;
}

std::string encode_challenge(const Challenge& challenge) {
  std::string out = "{\"EC\":{" + member("Credential", quoted(sized(challenge.credential.id_object))) + "," +
                    member("Secret", quoted(sized(challenge.credential.secret))) + "}";
  if (challenge.quote) out += ",\"Limpet\":" + encode_request(*challenge.quote);
  return out + "}";
}

Result<Challenge> decode_challenge(BytesView json) {
  if (json.size() > kMaxPayload) return invalid("larger than 64 KiB");
  TRY_ASSIGN(const GoJson document, GoJson::parse(json));
  TRY_ASSIGN(yyjson_val * ec, required(document.root(), "EC"));
  Challenge out;
  TRY_ASSIGN(out.credential.id_object, read_sized(ec, "Credential", kMaxCredential));
  TRY_ASSIGN(out.credential.secret, read_sized(ec, "Secret", kMaxWrappedSecret));
  TRY_ASSIGN(yyjson_val * ours, GoJson::object(document.root(), "Limpet"));
  if (ours != nullptr) {
    TRY_ASSIGN_WITHIN("Limpet", out.quote, read_request(ours));
  }
  return out;
}

std::string encode_response(const Response& response) {
  std::string out = "{" + member("Secret", quoted(response.secret));
  std::string ours = problem("Problem", response.quote_problem);
  if (response.quote) ours += encode_answer(*response.quote);
  if (!ours.empty()) out += ",\"Limpet\":{" + ours.substr(1) + "}";
  return out + "}";
}

Result<Response> decode_response(BytesView json) {
  TRY_ASSIGN(const GoJson document, GoJson::parse(json));
  Response out;
  TRY_ASSIGN(out.secret, bounded(document.root(), "Secret", tpm_wire::hash_bytes(HashAlg::sha512)));
  TRY_ASSIGN(yyjson_val * ours, GoJson::object(document.root(), "Limpet"));
  if (ours != nullptr) out.quote_problem = read_plain(ours, "Problem");
  if (ours != nullptr && (out.quote_problem.empty() || GoJson::member(ours, "Quote") != nullptr)) {
    TRY_ASSIGN_WITHIN("Limpet", out.quote, read_answer(ours));
  }
  return out;
}

}  // namespace limpet::tpm_attestor

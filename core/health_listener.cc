// SPDX-License-Identifier: Apache-2.0
#include "health_listener.h"

#include <array>
#include <cstdio>

#include "loop/uv_stream.h"

namespace limpet {
namespace {

const char* state_name(HealthState state) {
  switch (state) {
    case HealthState::ok:
      return "ok";
    case HealthState::starting:
      return "starting";
    case HealthState::degraded:
      return "degraded";
    case HealthState::failed:
      return "failed";
  }
  return "failed";
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  if (!is_utf8(text)) text = "(not UTF-8)";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

std::string health_json(const Health& health) {
  std::string out = std::string("{\"serving\":") + (health.serving() ? "true" : "false") + ",\"state\":\"" +
                    state_name(health.worst()) + "\",\"parts\":{";
  const char* comma = "";
  for (const auto& [name, part] : health.parts()) {
    out += comma + quoted(name) + ":{\"state\":\"" + state_name(part.state) + '"';
    if (!part.reason.empty()) out += ",\"reason\":" + quoted(part.reason);
    out += '}';
    comma = ",";
  }
  out += '}';
  const auto facts = health.facts();
  if (facts.empty()) return out + "}\n";
  out += ",\"facts\":{";
  comma = "";
  for (const Health::Fact& fact : facts) {
    out += comma + quoted(fact.name) + ':';
    std::array<char, 32> number{};
    if (fact.number) std::snprintf(number.data(), number.size(), "%.10g", *fact.number);
    out += fact.number ? number.data() : quoted(fact.text);
    comma = ",";
  }
  return out + "}}\n";
}

HealthListener::HealthListener(UvLoop& loop, const Clock& clock, const Health& health, const HealthChecksConfig& config)
    : loop_(loop), health_(health), config_(config), server_(loop, clock, {}, *this) {}

Result<std::unique_ptr<HealthListener>> HealthListener::open(UvLoop& loop, const Clock& clock, const Health& health,
                                                             const HealthChecksConfig& config) {
  std::unique_ptr<HealthListener> made(new HealthListener(loop, clock, health, config));
  TRY_ASSIGN_WITHIN("health_checks", made->listener_,
                    listen_tcp(loop, config.bind_address, config.bind_port, made->server_));
  return made;
}

void HealthListener::handle(wire::HttpRequest request, Done<wire::HttpResponse> done) {
  const bool live = request.path == config_.live_path;
  if (!live && request.path != config_.ready_path) {
    return wire::http_answer(loop_, std::move(done), wire::http_text(404, "not found\n"));
  }
  const int status = live || health_.serving() ? 200 : 503;
  auto response = wire::http_body(status, "application/json", health_json(health_));
  response.fields.emplace_back("cache-control", "no-store");
  wire::http_answer(loop_, std::move(done), std::move(response));
}

}  // namespace limpet

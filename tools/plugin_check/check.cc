// SPDX-License-Identifier: Apache-2.0
// What tests share, and the author's configuration.
#include "plugin_check/check.h"

#include <yyjson.h>

#include <algorithm>

namespace limpet::check {
namespace {

std::string text_of(yyjson_val* value) {
  return yyjson_is_str(value) ? std::string(yyjson_get_str(value), yyjson_get_len(value)) : std::string();
}
std::string json_of(yyjson_val* value) {
  size_t size = 0;
  char* text = yyjson_val_write(value, 0, &size);
  std::string out = text == nullptr ? std::string() : std::string(text, size);
  std::free(text);
  return out;
}

Result<ComponentConfig> parse_component(yyjson_val* value) {
  if (!yyjson_is_obj(value)) return fail(Code::invalid_argument, "each of components must be an object");
  ComponentConfig out;
  size_t at = 0;
  size_t count = 0;
  yyjson_val* key = nullptr;
  yyjson_val* item = nullptr;
  yyjson_obj_foreach(value, at, count, key, item) {
    const std::string name = text_of(key);
    if (name == "interface") {
      out.interface_id = text_of(item);
    } else if (name == "name") {
      out.name = text_of(item);
    } else if (name == "data") {
      out.data = json_of(item);
    } else if (name == "other") {
      out.other = json_of(item);
    } else if (name == "second") {
      out.second = json_of(item);
    } else if (name == "absent") {
      out.absent = text_of(item);
    } else if (name == "bad") {
      size_t i = 0;
      size_t n = 0;
      yyjson_val* one = nullptr;
      yyjson_arr_foreach(item, i, n, one) out.bad.push_back(json_of(one));
    } else if (name == "skip") {
      size_t i = 0;
      size_t n = 0;
      yyjson_val* test = nullptr;
      yyjson_val* reason = nullptr;
      yyjson_obj_foreach(item, i, n, test, reason) out.skip[text_of(test)] = text_of(reason);
    } else {
      return fail(Code::invalid_argument, "components: unknown key \"" + name +
                                              "\"; known: interface, name, data, other, second, bad, absent, skip");
    }
  }
  if (out.interface_id.empty()) return fail(Code::invalid_argument, "components: interface is missing");
  return out;
}

Result<void> parse_shim(yyjson_val* value, ShimConfig& out) {
  if (!yyjson_is_obj(value)) return fail(Code::invalid_argument, "shim must be an object");
  size_t at = 0;
  size_t count = 0;
  yyjson_val* key = nullptr;
  yyjson_val* item = nullptr;
  yyjson_obj_foreach(value, at, count, key, item) {
    const std::string name = text_of(key);
    std::vector<std::string>* list = name == "devices"       ? &out.devices
                                     : name == "read_paths"  ? &out.read_paths
                                     : name == "write_paths" ? &out.write_paths
                                                             : nullptr;
    if (list == nullptr && name != "network")
      return fail(Code::invalid_argument,
                  "shim: unknown key \"" + name + "\"; known: network, devices, read_paths, write_paths");
    if (list == nullptr) {
      out.network = yyjson_get_bool(item);
      continue;
    }
    size_t i = 0;
    size_t n = 0;
    yyjson_val* one = nullptr;
    yyjson_arr_foreach(item, i, n, one) list->push_back(text_of(one));
  }
  return {};
}

}  // namespace

const char* status_name(Status status) {
  static constexpr const char* kNames[] = {"success", "warning", "skipped", "failed", "crashed"};
  return kNames[static_cast<size_t>(status)];
}

Result<Config> Config::parse(std::string_view json) {
  yyjson_doc* raw = yyjson_read(json.data(), json.size(), 0);
  const std::unique_ptr<yyjson_doc, decltype(&yyjson_doc_free)> doc(raw, &yyjson_doc_free);
  yyjson_val* root = yyjson_doc_get_root(raw);
  if (!yyjson_is_obj(root)) return fail(Code::invalid_argument, "the configuration is not a JSON object");
  Config out;
  size_t at = 0;
  size_t count = 0;
  yyjson_val* key = nullptr;
  yyjson_val* item = nullptr;
  yyjson_obj_foreach(root, at, count, key, item) {
    const std::string name = text_of(key);
    if (name == "trust_domain") {
      out.trust_domain = text_of(item);
    } else if (name == "shim") {
      TRY(parse_shim(item, out.shim));
    } else if (name == "components") {
      size_t i = 0;
      size_t n = 0;
      yyjson_val* one = nullptr;
      yyjson_arr_foreach(item, i, n, one) {
        TRY_ASSIGN(ComponentConfig parsed, parse_component(one));
        out.components.push_back(std::move(parsed));
      }
    } else {
      return fail(Code::invalid_argument, "unknown key \"" + name + "\"; known: trust_domain, shim, components");
    }
  }
  return out;
}

ComponentConfig Config::of(const std::string& interface_id, const std::string& name) const {
  for (const ComponentConfig& c : components) {
    if (c.interface_id == interface_id && (c.name.empty() || c.name == name)) return c;
  }
  ComponentConfig none;
  none.interface_id = interface_id;
  none.name = name;
  return none;
}

void Check::fail(std::string why) {
  if (outcome_.status != Status::failed) outcome_ = {Status::failed, std::move(why)};
}
void Check::warn(std::string why) {
  if (outcome_.status == Status::success) outcome_ = {Status::warning, std::move(why)};
}
void Check::skip(std::string why) {
  if (outcome_.status == Status::success) outcome_ = {Status::skipped, std::move(why)};
}
void Check::note(std::string what) {
  if (outcome_.status == Status::success && outcome_.message.empty()) outcome_.message = std::move(what);
}

Bench& Check::bench() {
  if (!bench_) bench_ = std::make_unique<Bench>();
  return *bench_;
}

std::string Check::expand(const std::string& data) const {
  std::string out = data;
  for (size_t at = out.find("{tmp}"); at != std::string::npos; at = out.find("{tmp}", at))
    out.replace(at, 5, directory);
  return out;
}

Subject* Check::ready(Offer offer, const limpet_component* other, const std::string* data) {
  const limpet_component& which = other == nullptr ? *component : *other;
  Subject& s = subjects_.emplace_back(bench(), which, offer);
  if (const limpet_code code = s.create(); code != LIMPET_OK) {
    fail("create answered " + code_name(static_cast<Code>(code)));
    return nullptr;
  }
  std::string json = config.data;
  if (other != nullptr) json = all->of(which.interface_id, which.name).data;
  if (data != nullptr) json = *data;
  const Op& op = s.configure(expand(json), false, trust_domain);
  return succeeded(s, op, "configure with the configuration given") ? &s : nullptr;
}

Subject* Check::ready_beside() {
  return ready(Offer::everything, nullptr, config.second.empty() ? nullptr : &config.second);
}

bool Check::answered(Subject& s, const Op& op, const char* what, int64_t ms) {
  ms = ms == 0 ? patience_ms : ms * patience_ms / kPatienceMs;
  if (s.wait(op, ms)) return true;
  fail(std::string(what) + " was not answered within " + std::to_string(ms / 1000) + " s");
  return false;
}

bool Check::succeeded(Subject& s, const Op& op, const char* what, int64_t ms) {
  if (!answered(s, op, what, ms)) return false;
  if (op.ok()) return true;
  fail(std::string(what) + " gave " + op.outcome());
  return false;
}

bool Check::destroyed(Subject& s) {
  if (s.destroy()) return true;
  fail("calls were not ended within 5 s of cancel: the host would have abandoned the instance");
  return false;
}

const limpet_component* Check::other_half() const {
  const char* wanted =
      kind_of(component->interface_id) == Kind::agent ? LIMPET_NODE_ATTESTOR_SERVER : LIMPET_NODE_ATTESTOR_AGENT;
  for (size_t i = 0; plugin->components[i] != nullptr; ++i) {
    const limpet_component* c = plugin->components[i];
    if (std::string_view(c->interface_id) == wanted && std::string_view(c->name) == component->name) return c;
  }
  return nullptr;
}

}  // namespace limpet::check

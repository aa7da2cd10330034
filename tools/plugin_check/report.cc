// SPDX-License-Identifier: Apache-2.0
// Results as text and as JSON. Much in them is the plugin's, and may be no text: it is cleaned here, whatever it is.
#include <yyjson.h>

#include <algorithm>
#include <cstdlib>

#include "base/cut.h"
#include "plugin_check/runner.h"

namespace limpet::check {
namespace {

// So that nothing of a plugin's can pass for another line, or moves the cursor.
std::string line_of(std::string_view text) {
  std::string out = clean_text(text);
  std::ranges::replace_if(out, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
  return out;
}

}  // namespace

std::string report_line(const TestResult& r) {
  std::string out = status_name(r.outcome.status);
  out.resize(9, ' ');
  out += r.test;
  if (!r.component.empty()) out += " [" + line_of(r.component) + "]";
  if (!r.outcome.message.empty()) out += ": " + line_of(r.outcome.message);
  if (!went_wrong(r.outcome)) return out + "\n";
  out += "\n         rule: " + r.rule + "\n";
  const std::string output = clean_text(r.output);
  std::string_view rest = output;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    out += "         | " + std::string(rest.substr(0, end)) + "\n";
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out;
}

std::string report_totals(const std::vector<TestResult>& results) {
  std::string out;
  for (const Status status : {Status::success, Status::warning, Status::skipped, Status::failed, Status::crashed}) {
    const auto count = std::ranges::count_if(results, [&](const TestResult& r) { return r.outcome.status == status; });
    out += (out.empty() ? "" : ", ") + std::to_string(count) + " " + status_name(status);
  }
  return out;
}

Result<std::string> report_json(const Options& o, const std::vector<TestResult>& results) {
  yyjson_mut_doc* doc = yyjson_mut_doc_new(nullptr);
  yyjson_mut_val* root = yyjson_mut_obj(doc);
  yyjson_mut_doc_set_root(doc, root);
  const auto put = [&](yyjson_mut_val* object, const char* key, const std::string& raw) {
    const std::string text = clean_text(raw);
    yyjson_mut_obj_add_strncpy(doc, object, key, text.data(), text.size());
  };
  put(root, "plugin", o.path);
  yyjson_mut_obj_add_uint(doc, root, "seed", o.seed);
  yyjson_mut_val* list = yyjson_mut_arr(doc);
  for (const TestResult& r : results) {
    yyjson_mut_val* one = yyjson_mut_obj(doc);
    put(one, "test", r.test);
    put(one, "component", r.component);
    put(one, "status", status_name(r.outcome.status));
    put(one, "message", r.outcome.message);
    put(one, "rule", r.rule);
    if (!r.output.empty()) put(one, "output", r.output);
    yyjson_mut_obj_add_int(doc, one, "took_ms", r.took_ms);
    yyjson_mut_arr_append(list, one);
  }
  yyjson_mut_obj_add_val(doc, root, "results", list);
  size_t size = 0;
  char* text = yyjson_mut_write(doc, YYJSON_WRITE_PRETTY, &size);
  yyjson_mut_doc_free(doc);
  if (text == nullptr) return fail(Code::internal, "the results cannot be written as JSON");
  const std::string out(text, size);
  std::free(text);
  return out + "\n";
}

}  // namespace limpet::check

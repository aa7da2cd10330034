// SPDX-License-Identifier: Apache-2.0
// Results as text and as JSON.
#include <yyjson.h>

#include <algorithm>
#include <cstdlib>

#include "plugin_check/runner.h"

namespace limpet::check {

std::string report_line(const TestResult& r) {
  std::string out = status_name(r.outcome.status);
  out.resize(9, ' ');
  out += r.test;
  if (!r.component.empty()) out += " [" + r.component + "]";
  if (!r.outcome.message.empty()) out += ": " + r.outcome.message;
  const bool wrong = r.outcome.status == Status::failed || r.outcome.status == Status::crashed;
  if (!wrong) return out + "\n";
  out += "\n         rule: " + r.rule + "\n";
  std::string_view rest = r.output;
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

std::string report_json(const Options& o, const std::vector<TestResult>& results) {
  yyjson_mut_doc* doc = yyjson_mut_doc_new(nullptr);
  yyjson_mut_val* root = yyjson_mut_obj(doc);
  yyjson_mut_doc_set_root(doc, root);
  const auto put = [&](yyjson_mut_val* object, const char* key, const std::string& text) {
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
  const std::string out = text == nullptr ? std::string("{}") : std::string(text, size);
  std::free(text);
  yyjson_mut_doc_free(doc);
  return out + "\n";
}

}  // namespace limpet::check

// SPDX-License-Identifier: Apache-2.0
#include "report/metrics.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "base/bytes.h"
#include "base/limits.h"

namespace limpet {
namespace {

constexpr int64_t kRecentS = 60;  // quantiles are of the last minute: the usual pause between two questions
constexpr std::array kQuantiles = {0.5, 0.9, 0.99};

void append_number(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "NaN";
    return;
  }
  // 15 digits are enough for what people write; the rest only where it does not read back as the same number
  std::array<char, 32> text{};
  for (int digits = 15; digits <= 17; ++digits) {
    std::snprintf(text.data(), text.size(), "%.*g", digits, value);
    if (std::strtod(text.data(), nullptr) == value) break;
  }
  out += text.data();
}

// What a name may not have becomes an underscore.
void append_name(std::string& out, std::string_view name) {
  for (const char c : name) {
    const bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    out += good ? c : '_';
  }
}

void append_label(std::string& out, std::string_view name, std::string_view value) {
  if (!out.empty()) out += ',';
  append_name(out, name);
  out += "=\"";
  value = value.substr(0, limits::kMetricLabelBytes);
  if (!is_utf8(value)) value = "(not UTF-8)";
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_line(std::string& out, std::string_view name, std::string_view labels, double value) {
  out += name;
  if (!labels.empty()) ((out += '{') += labels) += '}';
  out += ' ';
  append_number(out, value);
  out += '\n';
}

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }

// PascalCase to snake_case by SPIRE's rule: a capital letter begins a word where a small one stands beside it, but for
// the first and the last letter of all.
void append_snake(std::string& out, std::string_view name) {
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    const bool inside = i > 0 && i + 1 < name.size();
    if (is_upper(c) && inside && (is_lower(name[i + 1]) || is_lower(name[i - 1])) && out.back() != '_') out += '_';
    const bool digit = c >= '0' && c <= '9';
    out += is_upper(c) ? static_cast<char>(c - 'A' + 'a') : is_lower(c) || digit ? c : '_';
  }
}

// SPIRE's short names of services.
std::string short_service(std::string_view service) {
  constexpr std::string_view kServer = "spire.api.server.";
  if (service.starts_with(kServer)) return std::string(service.substr(kServer.size()));
  if (service == "SpiffeWorkloadAPI") return "WorkloadAPI";
  if (service == "envoy.service.secret.v3.SecretDiscoveryService") return "SDS.v3";
  if (service == "grpc.health.v1.Health") return "Health";
  if (service == "spire.api.agent.delegatedidentity.v1.DelegatedIdentity") return "DelegatedIdentity";
  return std::string(service);
}

}  // namespace

Metrics::Metrics(Options options, const Clock* clock) : options_(std::move(options)), clock_(clock) {}

Metrics& Metrics::none() {
  static Metrics off({}, nullptr);
  return off;
}

Metrics::Series* Metrics::find(std::string_view name, Type type, const MetricLabel* labels, size_t count) {
  if (!on()) return nullptr;
  auto family = families_.find(name);
  if (family == families_.end()) family = families_.emplace(name, Family{type}).first;
  if (family->second.type != type) return nullptr;  // one name is one kind of thing
  std::string text;
  for (size_t i = 0; i < count; ++i) append_label(text, labels[i].name, labels[i].value);
  auto series = family->second.series.find(text);
  if (series != family->second.series.end()) return &series->second;
  if (series_ >= limits::kMetricSeries) {
    refused_++;
    return nullptr;
  }
  series_++;
  return &family->second.series.emplace(std::move(text), Series{}).first->second;
}

void Metrics::count(std::string_view name, Labels labels, double by) {
  if (Series* series = find(name, Type::counter, labels.begin(), labels.size())) series->value += by;
}

void Metrics::gauge(std::string_view name, double value, Labels labels) {
  if (Series* series = find(name, Type::gauge, labels.begin(), labels.size())) series->value = value;
}

void Metrics::sample(std::string_view name, double value, Labels labels) {
  observe(find(name, Type::summary, labels.begin(), labels.size()), value);
}

void Metrics::observe(Series* series, double value) const {
  if (series == nullptr) return;
  const Recent recent{static_cast<float>(value), clock_->now()};
  if (series->recent.size() < kRecent) {
    series->recent.push_back(recent);
  } else {
    series->recent[series->samples % kRecent] = recent;
  }
  series->value += value;
  series->samples++;
}

void Metrics::call(std::string_view name, Code status, int64_t elapsed_ms, Labels labels) {
  if (!on()) return;
  std::vector<MetricLabel> all(labels);
  all.push_back({"status", code_name(status)});
  if (Series* series = find(name, Type::counter, all.data(), all.size())) series->value += 1;
  const std::string elapsed = std::string(name) + "_elapsed_time";
  observe(find(elapsed, Type::summary, all.data(), all.size()), static_cast<double>(elapsed_ms));
}

void Metrics::append_summary(std::string& out, const std::string& name, const std::string& labels,
                             const Series& series) const {
  std::vector<float> recent;
  const int64_t since = clock_->now() - kRecentS;
  for (const Recent& one : series.recent) {
    if (one.at >= since) recent.push_back(one.value);
  }
  std::ranges::sort(recent);
  for (const double quantile : kQuantiles) {
    std::string with = labels;
    std::string text;
    append_number(text, quantile);
    append_label(with, "quantile", text);
    const auto rank = static_cast<size_t>(std::ceil(quantile * static_cast<double>(recent.size())));
    append_line(
        out, name, with,
        recent.empty() ? std::numeric_limits<double>::quiet_NaN() : double{recent[std::max<size_t>(rank, 1) - 1]});
  }
  append_line(out, name + "_sum", labels, series.value);
  append_line(out, name + "_count", labels, static_cast<double>(series.samples));
}

std::string Metrics::text() {
  for (const auto& look : looks_) look(*this);
  constexpr std::array<std::string_view, 3> kTypes = {"counter", "gauge", "summary"};
  std::string out;
  for (const auto& [key, family] : families_) {
    std::string name = options_.prefix.empty() ? "" : options_.prefix + "_";
    append_name(name, key);
    out += "# HELP " + name + " " + name + "\n# TYPE " + name + " ";
    (out += kTypes[static_cast<size_t>(family.type)]) += '\n';
    for (const auto& [own, series] : family.series) {
      std::string labels = own;
      for (const auto& [label, value] : options_.labels) append_label(labels, label, value);
      if (family.type == Type::summary) {
        append_summary(out, name, labels, series);
      } else {
        append_line(out, name, labels, series.value);
      }
    }
  }
  if (refused_ > 0) {
    const std::string name = options_.prefix + "_metrics_refused_series";
    out += "# TYPE " + name + " gauge\n";
    append_line(out, name, {}, static_cast<double>(refused_));
  }
  return out;
}

std::string rpc_metric(std::string_view method) {
  if (method.starts_with('/')) method.remove_prefix(1);
  const size_t slash = std::min(method.find('/'), method.size());
  const std::string service = short_service(method.substr(0, slash));
  std::string out = "rpc";
  for (size_t at = 0; at <= service.size();) {
    const size_t end = std::min(service.find('.', at), service.size());
    out += '_';
    append_snake(out, std::string_view(service).substr(at, end - at));
    at = end + 1;
  }
  if (slash < method.size()) {
    out += '_';
    append_snake(out, method.substr(slash + 1));
  }
  return out;
}

}  // namespace limpet

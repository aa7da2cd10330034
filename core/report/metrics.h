// SPDX-License-Identifier: Apache-2.0
#pragma once
// Metrics under SPIRE's names, as Prometheus text: counters, gauges and summaries. One object for a role, made by main
// and handed to whoever has something to count; without a listener it is off and every call returns at once. Names are
// SPIRE's keys joined by underscores ("ca_manager_x509_ca_prepare"); the prefix is added here. Loop thread only.
//
// Glossary. Series: one name with one set of label values. Call: a counter of calls by their status, with a summary of
// their time beside it.

#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace limpet {

struct MetricLabel {
  std::string_view name;
  std::string value;
};

class Metrics {
 public:
  struct Options {
    std::string prefix;                                       // "spire_server"
    std::vector<std::pair<std::string, std::string>> labels;  // of every series: "host", "trust_domain"
  };
  // The clock outlives it. Null: off.
  explicit Metrics(Options options, const Clock* clock);
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;
  // Takes everything and keeps nothing; for tests, and where no one listens.
  static Metrics& none();
  [[nodiscard]] bool on() const { return clock_ != nullptr; }

  using Labels = std::initializer_list<MetricLabel>;
  void count(std::string_view name, Labels labels = {}, double by = 1);
  void gauge(std::string_view name, double value, Labels labels = {});
  void sample(std::string_view name, double value, Labels labels = {});
  // `<name>` by status, and `<name>_elapsed_time` in milliseconds.
  void call(std::string_view name, Code status, int64_t elapsed_ms, Labels labels = {});

  // Sets gauges that are looked up only when somebody asks; what they look at outlives the listener.
  void before_text(std::function<void(Metrics& metrics)> look) {
    if (on()) looks_.push_back(std::move(look));
  }
  // Prometheus text format 0.0.4.
  [[nodiscard]] std::string text();

 private:
  enum class Type : uint8_t { counter, gauge, summary };
  static constexpr size_t kRecent = 64;  // samples that the quantiles of a series come from
  struct Recent {
    float value = 0;
    int64_t at = 0;  // Unix seconds
  };
  struct Series {
    double value = 0;  // of a summary: the sum
    uint64_t samples = 0;
    std::vector<Recent> recent = {};  // a ring once it is full
  };
  struct Family {
    Type type = Type::counter;
    std::map<std::string, Series, std::less<>> series = {};  // by the text of their labels
  };
  // Null: off, or one series too many.
  Series* find(std::string_view name, Type type, const MetricLabel* labels, size_t count);
  void observe(Series* series, double value) const;
  void append_summary(std::string& out, const std::string& name, const std::string& labels, const Series& series) const;

  Options options_;
  const Clock* clock_;
  std::map<std::string, Family, std::less<>> families_;
  size_t series_ = 0;
  uint64_t refused_ = 0;
  std::vector<std::function<void(Metrics&)>> looks_;
};

// "/spire.api.server.agent.v1.Agent/AttestAgent" -> "rpc_agent_v1_agent_attest_agent", as SPIRE names it.
std::string rpc_metric(std::string_view method);

}  // namespace limpet

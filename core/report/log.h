// SPDX-License-Identifier: Apache-2.0
#pragma once
// Log records and their sinks: one line per event, logfmt or JSON, with stable keys. Flows and main log, library code
// never does. A Logger is handed to whoever may log, by reference; it outlives them. Any thread.

#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/result.h"

namespace limpet {

enum class LogLevel : int {
  panic = 1,
  fatal = 2,
  error = 3,
  warn = 4,
  info = 5,
  debug = 6,
  trace = 7
};  // SPIRE's numbers
Result<LogLevel> parse_log_level(std::string_view name);  // any case: "INFO", "warn"; INVALID_ARGUMENT
std::string_view log_level_name(LogLevel level);          // "info"; warn is "warning", as SPIRE prints it

struct LogField {
  std::string_view key;
  std::string value;
};

class Logger {
 public:
  struct Options {
    LogLevel level = LogLevel::info;
    bool json = false;
    std::string file;              // empty: standard error
    bool source_location = false;  // adds file=core/server/server.cc:42
  };
  static Result<std::unique_ptr<Logger>> open(const Options& options, const Clock& clock);
  ~Logger();

  // time="2026-11-22T02:23:12Z" level=error msg="..." key=value. The last two say where the caller stands: the
  // builtins, because std::source_location would keep every function's whole signature in the binary.
  void log(LogLevel level, std::string_view message, std::span<const LogField> fields,
           const char* file = __builtin_FILE(), int line = __builtin_LINE());
  void log(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {},
           const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    log(level, message, std::span(fields.begin(), fields.size()), file, line);
  }
  void error(std::string_view m, std::initializer_list<LogField> f = {}, const char* file = __builtin_FILE(),
             int line = __builtin_LINE()) {
    log(LogLevel::error, m, f, file, line);
  }
  void warn(std::string_view m, std::initializer_list<LogField> f = {}, const char* file = __builtin_FILE(),
            int line = __builtin_LINE()) {
    log(LogLevel::warn, m, f, file, line);
  }
  void info(std::string_view m, std::initializer_list<LogField> f = {}, const char* file = __builtin_FILE(),
            int line = __builtin_LINE()) {
    log(LogLevel::info, m, f, file, line);
  }
  void debug(std::string_view m, std::initializer_list<LogField> f = {}, const char* file = __builtin_FILE(),
             int line = __builtin_LINE()) {
    log(LogLevel::debug, m, f, file, line);
  }
  // A line that a stranger can cause at will: at most kStrangerLines of them a second, so that nobody fills the disk
  // from outside; how many were left out is said afterwards.
  static constexpr int kStrangerLines = 20;
  void from_stranger(LogLevel level, std::string_view message, std::initializer_list<LogField> fields = {},
                     const char* file = __builtin_FILE(), int line = __builtin_LINE());
  [[nodiscard]] bool enabled(LogLevel level) const;
  void set_level(LogLevel level);
  void set_launch_level(LogLevel level);  // the configuration says another one now
  [[nodiscard]] LogLevel level() const;
  [[nodiscard]] LogLevel launch_level() const;  // the configuration's
  Result<void> reopen();                        // after log rotation
  // Swallows everything; for tests and commands.
  static Logger& none();

 private:
  struct Impl;
  explicit Logger(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace limpet

// SPDX-License-Identifier: Apache-2.0
#include "report/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <span>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/cut.h"

namespace limpet {
namespace {

// One value of a record. What is longer came from a peer, and a log is no place to store it.
constexpr size_t kMostValue = 4096;

// By number; "warning" is how SPIRE's logs and commands spell it.
constexpr std::array<std::string_view, 8> kNames{"", "panic", "fatal", "error", "warning", "info", "debug", "trace"};

bool is_plain(std::string_view text) {
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!letter && std::string_view("-._/@^+").find(c) == std::string_view::npos) return false;
  }
  return true;
}

void append_hex(std::string& out, const char* format, unsigned value) {
  std::array<char, 8> text{};
  std::snprintf(text.data(), text.size(), format, value);
  out += text.data();
}

// One line stays one line: control characters and what is not UTF-8 are escaped. `json` picks \u00XX over \xXX.
void append_quoted(std::string& out, std::string_view whole, bool json) {
  const std::string cut = whole.size() > kMostValue ? cut_text(whole, kMostValue) : std::string();
  std::string_view text = cut.empty() ? whole : cut;
  out += '"';
  while (!text.empty()) {
    const char c = text.front();
    const size_t length = utf8_length(text);
    if (length == 0) {
      if (json) {
        out += "\xef\xbf\xbd";  // the replacement character
      } else {
        append_hex(out, "\\x%02x", static_cast<uint8_t>(c));
      }
    } else if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n' || c == '\t' || c == '\r') {
      out += c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r";
    } else if (length == 1 && (static_cast<uint8_t>(c) < 0x20 || c == 0x7f)) {
      append_hex(out, json ? "\\u%04x" : "\\x%02x", static_cast<uint8_t>(c));
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  out += '"';
}

void append_value(std::string& out, std::string_view value) {
  if (value.size() <= kMostValue && is_plain(value)) {
    out += value;
  } else {
    append_quoted(out, value, false);
  }
}

std::string text_line(std::string_view time, LogLevel level, std::string_view message,
                      std::span<const LogField> fields) {
  std::string line = "time=";
  append_value(line, time);
  line += " level=";
  line += log_level_name(level);
  line += " msg=";
  append_value(line, message);
  for (const LogField& field : fields) {
    line += ' ';
    line += field.key;
    line += '=';
    append_value(line, field.value);
  }
  return line += '\n';
}

void append_member(std::string& out, std::string_view key, std::string_view value) {
  out += out.size() == 1 ? "" : ",";
  append_quoted(out, key, true);
  out += ':';
  append_quoted(out, value, true);
}

std::string json_line(std::string_view time, LogLevel level, std::string_view message,
                      std::span<const LogField> fields) {
  std::string line = "{";
  append_member(line, "time", time);
  append_member(line, "level", log_level_name(level));
  append_member(line, "msg", message);
  for (const LogField& field : fields) append_member(line, field.key, field.value);
  return line += "}\n";
}

// "core/server/server.cc:42": from the root of the sources, wherever the compiler was started.
std::string place(std::string_view file, int line) {
  while (file.starts_with("../")) file.remove_prefix(3);
  return std::string(file) + ":" + std::to_string(line);
}

Result<int> open_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (fd < 0) {
    return fail(Code::failed_precondition, "cannot open the log file " + path + ": " + std::strerror(errno));
  }
  return fd;
}

}  // namespace

Result<LogLevel> parse_log_level(std::string_view name) {
  std::string lower(name);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (lower == "warn") return LogLevel::warn;
  for (size_t i = 1; i < kNames.size(); ++i) {
    if (lower == kNames[i]) return static_cast<LogLevel>(i);
  }
  return fail(Code::invalid_argument,
              "\"" + std::string(name) + "\" is not a log level; use panic, fatal, error, warn, info, debug or trace");
}

std::string_view log_level_name(LogLevel level) {
  const auto number = static_cast<size_t>(level);
  return number < kNames.size() ? kNames[number] : kNames[0];
}

struct Logger::Impl {
  Options options;
  const Clock* clock = nullptr;  // null: swallows everything
  std::atomic<int> level = 0;
  std::atomic<int> launch_level = 0;
  std::mutex mutex;  // guards fd and keeps lines whole
  int fd = STDERR_FILENO;
  int64_t stranger_second = 0;
  int stranger_lines = 0;

  // Whether there is room for one more line this second, and how many were left out in the last one that had lines.
  std::pair<bool, int> stranger(int64_t second) {
    const std::lock_guard guard(mutex);
    int left_out = 0;
    if (second != stranger_second) {
      left_out = std::max(0, stranger_lines - kStrangerLines);
      stranger_second = second;
      stranger_lines = 0;
    }
    return {++stranger_lines <= kStrangerLines, left_out};
  }

  ~Impl() { close_file(); }
  void close_file() const {
    if (fd != STDERR_FILENO) ::close(fd);
  }
  // A full disk or a closed pipe must not stop anything: the line is lost.
  void write(const std::string& line) {
    const std::lock_guard guard(mutex);
    size_t done = 0;
    while (done < line.size()) {
      const ssize_t wrote = ::write(fd, line.data() + done, line.size() - done);
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) return;
      done += static_cast<size_t>(wrote);
    }
  }
};

Logger::Logger(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Logger::~Logger() = default;

Result<std::unique_ptr<Logger>> Logger::open(const Options& options, const Clock& clock) {
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->clock = &clock;
  impl->level = impl->launch_level = static_cast<int>(options.level);
  if (!options.file.empty()) {
    TRY_ASSIGN(impl->fd, open_file(options.file));
  }
  return std::unique_ptr<Logger>(new Logger(std::move(impl)));
}

Logger& Logger::none() {
  static Logger silent(std::make_unique<Impl>());
  return silent;
}

bool Logger::enabled(LogLevel level) const {
  return impl_->clock != nullptr && static_cast<int>(level) <= impl_->level.load(std::memory_order_relaxed);
}

LogLevel Logger::level() const { return static_cast<LogLevel>(impl_->level.load()); }
LogLevel Logger::launch_level() const { return static_cast<LogLevel>(impl_->launch_level.load()); }
void Logger::set_launch_level(LogLevel level) { impl_->launch_level = static_cast<int>(level); }
void Logger::set_level(LogLevel level) { impl_->level = static_cast<int>(level); }

void Logger::log(LogLevel level, std::string_view message, std::span<const LogField> fields, const char* file,
                 int line) {
  if (!enabled(level)) return;
  std::vector<LogField> located;
  if (impl_->options.source_location) {
    located.assign(fields.begin(), fields.end());
    located.push_back({"file", place(file, line)});
    fields = located;
  }
  const TimeText time(impl_->clock->now());
  impl_->write(impl_->options.json ? json_line(time.rfc3339(), level, message, fields)
                                   : text_line(time.rfc3339(), level, message, fields));
}

void Logger::from_stranger(LogLevel level, std::string_view message, std::initializer_list<LogField> fields,
                           const char* file, int line) {
  if (!enabled(level)) return;
  const auto [allowed, left_out] = impl_->stranger(impl_->clock->now());
  if (left_out > 0) warn("Log lines left out: too many refusals", {{"count", std::to_string(left_out)}});
  if (allowed) log(level, message, fields, file, line);
}

Result<void> Logger::reopen() {
  if (impl_->options.file.empty()) return {};
  TRY_ASSIGN(const int fd, open_file(impl_->options.file));
  const std::lock_guard guard(impl_->mutex);
  impl_->close_file();
  impl_->fd = fd;
  return {};
}

}  // namespace limpet

// SPDX-License-Identifier: Apache-2.0
// PEM (RFC 7468): writing is strict, reading accepts CRLF, blanks at line ends and any column width.
#include "base/bytes.h"
#include "base/secret.h"

namespace limpet {
namespace {

constexpr std::string_view kBegin = "-----BEGIN ";
constexpr std::string_view kEnd = "-----END ";
constexpr std::string_view kDashes = "-----";
constexpr size_t kColumns = 64;

std::string_view without_blanks_at_end(std::string_view line) {
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
  return line;
}

// Takes the next line off `text`, without its end.
std::string_view next_line(std::string_view& text) {
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return without_blanks_at_end(line);
}

bool is_border(std::string_view line, std::string_view start) {
  return line.size() >= start.size() + kDashes.size() && line.starts_with(start) && line.ends_with(kDashes);
}

std::string_view label_of(std::string_view line, std::string_view start) {
  return line.substr(start.size(), line.size() - start.size() - kDashes.size());
}

// `text` stands behind the begin line; on success it stands behind the end line.
Result<PemBlock> block_body(std::string_view label, std::string_view& text) {
  const auto damaged = [label](std::string_view why) {
    return fail(Code::invalid_argument, "PEM block \"" + std::string(label) + "\": " + std::string(why));
  };
  std::string body;
  body.reserve(text.size());  // never moved while it grows: it may be a private key
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    if (line.starts_with(kDashes)) {
      if (!is_border(line, kEnd) || label_of(line, kEnd) != label) return damaged("the end line does not match");
      auto der = base64_decode(body);
      wipe(body.data(), body.size());
      if (!der) return damaged(der.error().message);
      return PemBlock{std::string(label), std::move(*der)};
    }
    if (line.find(':') != std::string_view::npos) return damaged("headers (an encrypted key?) are not supported");
    body += line;
  }
  return damaged("the end line is missing");
}

}  // namespace

std::string pem_encode(std::string_view label, BytesView der) {
  std::string body = base64_encode(der);
  std::string out;
  out.reserve(body.size() + body.size() / kColumns + 2 * label.size() + 48);
  out.append(kBegin).append(label).append(kDashes).append("\n");
  for (size_t i = 0; i < body.size(); i += kColumns) {
    out.append(body, i, kColumns);
    out += '\n';
  }
  out.append(kEnd).append(label).append(kDashes).append("\n");
  wipe(body.data(), body.size());
  return out;
}

Result<std::vector<PemBlock>> pem_decode(std::string_view text) {
  std::vector<PemBlock> blocks;
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    if (!is_border(line, kBegin)) continue;
    TRY_ASSIGN(PemBlock block, block_body(label_of(line, kBegin), text));
    blocks.push_back(std::move(block));
  }
  return blocks;
}

}  // namespace limpet

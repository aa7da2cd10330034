// SPDX-License-Identifier: Apache-2.0
// Verification by Web PKI rules (RFC 5280, RFC 9525): mbedTLS builds the path; time is our clock's, names come from the
// subjectAltName extension alone. mbedTLS knows no name constraints: a chain with a critical one is refused.
#include <mbedtls/error.h>
#include <mbedtls/oid.h>
#include <mbedtls/x509_crt.h>

#include <algorithm>
#include <mutex>

#include "base/limits.h"
#include "crypto/mbed.h"
#include "crypto/x509.h"
#include "wire/tls_config.h"
#include "wire/web_tls.h"

namespace limpet::wire {

struct WebRoots::Impl {
  // mbedTLS takes the list without const and caches Montgomery values in RSA keys; its own mutex guards those in
  // Debian's build, ours in any.
  mutable std::mutex mutex;
  mutable MbedCrt list;
};

namespace {

bool later(const mbedtls_x509_time& a, const mbedtls_x509_time& b) {
  const int left[] = {a.year, a.mon, a.day, a.hour, a.min, a.sec};
  const int right[] = {b.year, b.mon, b.day, b.hour, b.min, b.sec};
  return std::lexicographical_compare(std::begin(right), std::end(right), std::begin(left), std::end(left));
}

mbedtls_x509_time time_of(int64_t unix_seconds) {
  const auto seconds = static_cast<time_t>(unix_seconds);
  tm parts{};
  gmtime_r(&seconds, &parts);
  return {parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec};
}

// mbedTLS's opinion on time is replaced by ours.
int judge_time(void* now, mbedtls_x509_crt* certificate, int, uint32_t* flags) {
  *flags &= ~uint32_t{MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE};
  const auto& time = *static_cast<const mbedtls_x509_time*>(now);
  if (later(time, certificate->valid_to)) *flags |= MBEDTLS_X509_BADCERT_EXPIRED;
  if (later(certificate->valid_from, time)) *flags |= MBEDTLS_X509_BADCERT_FUTURE;
  return 0;
}

class WebVerifier final : public PeerVerifier {
 public:
  WebVerifier(std::shared_ptr<const WebRoots> roots, std::string host, const Clock& clock)
      : roots_(std::move(roots)), host_(std::move(host)), clock_(clock) {}

  [[nodiscard]] Result<void> verify(const std::vector<Bytes>& chain) const override {
    auto judged = judge(chain);
    if (judged) return judged;
    return fail(Code::unauthenticated, "tls: failed to verify certificate: " + judged.error().message);
  }

 private:
  [[nodiscard]] Result<void> judge(const std::vector<Bytes>& chain) const {
    if (chain.empty()) return bad("the server showed none");
    MbedCrt list;
    for (const Bytes& der : chain) {
      if (mbedtls_x509_crt_parse_der(list.get(), der.data(), der.size()) != 0)
        return bad("x509: malformed certificate");
    }
    TRY(check_leaf(*list));
    mbedtls_x509_time now = time_of(clock_.now());
    uint32_t flags = 0;
    const std::lock_guard guard(roots_->impl().mutex);
    const int failed = mbedtls_x509_crt_verify_with_profile(list.get(), roots_->impl().list.get(), nullptr,
                                                            &mbedtls_x509_crt_profile_default, host_.c_str(), &flags,
                                                            judge_time, &now);
    if (failed == 0 && flags == 0) return {};
    return describe(failed, flags, *list);
  }
  // What mbedTLS does not insist on.
  [[nodiscard]] static Result<void> check_leaf(const mbedtls_x509_crt& leaf) {
    if (mbedtls_x509_crt_has_ext_type(&leaf, MBEDTLS_X509_EXT_SUBJECT_ALT_NAME) == 0) {
      return bad("x509: certificate has no subjectAltName; the common name is not used");
    }
    if (mbedtls_x509_crt_check_extended_key_usage(&leaf, MBEDTLS_OID_SERVER_AUTH,
                                                  MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)) != 0) {
      return bad("x509: certificate specifies an incompatible key usage");
    }
    return {};
  }
  [[nodiscard]] Result<void> describe(int failed, uint32_t flags, const mbedtls_x509_crt& leaf) const {
    if (flags == 0xffffffffu || (flags == 0 && failed != 0))
      return bad("x509: " + mbed_error("verify", failed).message);
    if ((flags & MBEDTLS_X509_BADCERT_NOT_TRUSTED) != 0) return bad("x509: certificate signed by unknown authority");
    if ((flags & (MBEDTLS_X509_BADCERT_EXPIRED | MBEDTLS_X509_BADCERT_FUTURE)) != 0) {
      return bad(std::string("x509: certificate has expired or is not yet valid: current time ") +
                 TimeText(clock_.now()).rfc3339());
    }
    if ((flags & MBEDTLS_X509_BADCERT_CN_MISMATCH) != 0) {
      return bad("x509: certificate is valid for " + names_of(leaf) + ", not " + host_);
    }
    char text[200] = {};
    mbedtls_x509_crt_verify_info(text, sizeof text - 1, "", flags);
    std::string why(text);
    while (why.ends_with('\n')) why.pop_back();
    std::ranges::replace(why, '\n', ';');
    return bad("x509: " + why);
  }
  [[nodiscard]] static std::string names_of(const mbedtls_x509_crt& leaf) {
    auto parsed = Certificate::parse({leaf.raw.p, leaf.raw.len});
    if (!parsed || parsed->dns_names.empty()) return "other names";
    std::string names;
    for (const std::string& name : parsed->dns_names) names += (names.empty() ? "" : ", ") + name;
    constexpr size_t kShown = 200;
    return names.size() > kShown ? names.substr(0, kShown) + "..." : names;
  }
  [[nodiscard]] static Result<void> bad(std::string why) { return fail(Code::unauthenticated, std::move(why)); }

  std::shared_ptr<const WebRoots> roots_;  // shared with whoever loaded them, for its other verifiers
  std::string host_;
  const Clock& clock_;
};

}  // namespace

WebRoots::WebRoots(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
WebRoots::~WebRoots() = default;

Result<std::shared_ptr<const WebRoots>> WebRoots::load(const std::string& path) {
  mbed_start();
  TRY_ASSIGN(const std::string text, read_pem_file(path));
  auto impl = std::make_unique<Impl>();
  // Ends with NUL, as mbedTLS wants PEM; what it cannot read (other curves) is skipped.
  const int failed = mbedtls_x509_crt_parse(impl->list.get(), as_bytes(text).data(), text.size() + 1);
  if (failed < 0 || impl->list->raw.p == nullptr) {
    return fail(Code::invalid_argument, path + ": no certificate authority can be read from it");
  }
  return std::shared_ptr<const WebRoots>(new WebRoots(std::move(impl)));
}

std::shared_ptr<const PeerVerifier> web_verifier(std::shared_ptr<const WebRoots> roots, std::string host,
                                                 const Clock& clock) {
  return std::make_shared<WebVerifier>(std::move(roots), std::move(host), clock);
}

}  // namespace limpet::wire

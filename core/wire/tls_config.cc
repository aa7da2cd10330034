// SPDX-License-Identifier: Apache-2.0
#include "wire/tls_config.h"

#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/ssl_ciphersuites.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/limits.h"

namespace limpet::wire {
namespace {

const char* const kAlpnH2[] = {"h2", nullptr};
const char* const kAlpnBoth[] = {"h2", "http/1.1", nullptr};
const char* const kAlpnHttp1[] = {"http/1.1", nullptr};

const char* const* alpn_of(TlsSide side, TlsProtocols protocols) {
  if (protocols == TlsProtocols::h2) return kAlpnH2;
  return side == TlsSide::server ? kAlpnBoth : kAlpnHttp1;
}

// TLS 1.3's three, and for TLS 1.2 what RFC 9113 9.2.2 leaves: ECDHE with AEAD.
const int kSuites[] = {
    MBEDTLS_TLS1_3_AES_128_GCM_SHA256,
    MBEDTLS_TLS1_3_AES_256_GCM_SHA384,
    MBEDTLS_TLS1_3_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    MBEDTLS_TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    MBEDTLS_TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    0,
};

struct AlertText {
  uint8_t number;
  const char* text;
};
// RFC 8446 section 6, in the words Go prints.
constexpr AlertText kAlerts[] = {
    {10, "unexpected message"},
    {20, "bad record MAC"},
    {22, "record overflow"},
    {40, "handshake failure"},
    {42, "bad certificate"},
    {43, "unsupported certificate"},
    {44, "revoked certificate"},
    {45, "expired certificate"},
    {46, "unknown certificate"},
    {47, "illegal parameter"},
    {48, "unknown certificate authority"},
    {49, "access denied"},
    {50, "error decoding message"},
    {51, "error decrypting message"},
    {70, "protocol version not supported"},
    {71, "insufficient security level"},
    {80, "internal error"},
    {90, "user canceled"},
    {109, "missing extension"},
    {112, "unrecognized name"},
    {116, "certificate required"},
    {120, "no application protocol"},
};

std::string alert_text(uint8_t number) {
  for (const AlertText& alert : kAlerts) {
    if (alert.number == number) return alert.text;
  }
  return "alert(" + std::to_string(number) + ")";
}

}  // namespace

Result<std::shared_ptr<const TlsConfig>> TlsConfig::make(TlsSide side, std::shared_ptr<const TlsIdentity> identity,
                                                         const TlsEndpoint& endpoint) {
  mbed_start();
  const std::shared_ptr<TlsConfig> made(new TlsConfig);
  mbedtls_ssl_config* config = made->config_.get();
  const int failed =
      mbedtls_ssl_config_defaults(config, side == TlsSide::server ? MBEDTLS_SSL_IS_SERVER : MBEDTLS_SSL_IS_CLIENT,
                                  MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT);
  if (failed != 0) return fail(mbed_error("set up TLS", failed));
  mbedtls_ssl_conf_rng(config, mbed_random, nullptr);
  mbedtls_ssl_conf_min_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
  mbedtls_ssl_conf_max_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_3);
  mbedtls_ssl_conf_ciphersuites(config, kSuites);
  mbedtls_ssl_conf_alpn_protocols(config, const_cast<const char**>(alpn_of(side, endpoint.protocols)));
  mbedtls_ssl_conf_tls13_key_exchange_modes(config, MBEDTLS_SSL_TLS1_3_KEY_EXCHANGE_MODE_EPHEMERAL);
  mbedtls_ssl_conf_session_tickets(config, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
  mbedtls_ssl_conf_renegotiation(config, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
  // We verify by SPIFFE rules ourselves (TlsCore::on_certificate): roots depend on the leaf, time is our clock's.
  const bool ask = side == TlsSide::client || endpoint.ask_certificate;
  mbedtls_ssl_conf_authmode(config, ask ? MBEDTLS_SSL_VERIFY_OPTIONAL : MBEDTLS_SSL_VERIFY_NONE);
  made->endpoint_ = endpoint;
  made->identity_ = std::move(identity);
  if (made->identity_) TRY_WITHIN("TLS identity", made->set_identity());
  return std::shared_ptr<const TlsConfig>(made);
}

Result<void> TlsConfig::set_identity() {
  if (identity_->key) {
    TRY(load_pk(*key_, *identity_->key));
  } else if (identity_->remote_key) {
    TRY(load_remote_pk(*key_, *identity_->remote_key));
  } else {
    return fail(Code::internal, "no key");
  }
  for (const Bytes& certificate : identity_->chain) {
    const int failed = mbedtls_x509_crt_parse_der(chain_.get(), certificate.data(), certificate.size());
    if (failed != 0) return fail(mbed_error("parse certificate", failed));
  }
  const int failed = mbedtls_ssl_conf_own_cert(config_.get(), chain_.get(), key_.get());
  if (failed != 0) return fail(mbed_error("use certificate", failed));
  return {};
}

Result<std::unique_ptr<TlsCore>> TlsCore::make(TlsSide side, std::shared_ptr<const TlsConfig> config,
                                               std::shared_ptr<const PeerVerifier> verifier) {
  std::unique_ptr<TlsCore> core(new TlsCore);
  core->side_ = side;
  core->config_ = std::move(config);
  core->verifier_ = std::move(verifier);
  mbedtls_ssl_context* ssl = core->ssl_.get();
  if (const int failed = mbedtls_ssl_setup(ssl, core->config_->get()); failed != 0) {
    return fail(mbed_error("set up TLS", failed));
  }
  mbedtls_ssl_set_bio(ssl, core.get(), bio_send, bio_receive, nullptr);
  mbedtls_ssl_set_verify(ssl, on_certificate, core.get());
  // Without a server name (SPIFFE peers are known by their ID) mbedTLS wants that said.
  const std::string& name = core->config_->endpoint().server_name;
  if (side == TlsSide::client && mbedtls_ssl_set_hostname(ssl, name.empty() ? nullptr : name.c_str()) != 0) {
    return fail(Code::invalid_argument, "the server name " + name + " is too long");
  }
  return core;
}

int TlsCore::bio_send(void* self, const unsigned char* data, size_t size) {
  append(static_cast<TlsCore*>(self)->out, {data, size});
  return static_cast<int>(size);
}

int TlsCore::bio_receive(void* self, unsigned char* data, size_t size) {
  auto* me = static_cast<TlsCore*>(self);
  const size_t now = std::min(size, me->in.size() - me->in_start);
  if (now == 0) return MBEDTLS_ERR_SSL_WANT_READ;
  std::memcpy(data, me->in.data() + me->in_start, now);
  me->in_start += now;
  if (me->in_start == me->in.size()) {
    Bytes().swap(me->in);
    me->in_start = 0;
  }
  return static_cast<int>(now);
}

// mbedTLS walks the chain root first; the leaf comes last and its `next` leads through the chain as it was sent.
int TlsCore::on_certificate(void* self, mbedtls_x509_crt* certificate, int depth, uint32_t* flags) {
  *flags = 0;  // its own opinion on time and trust
  if (depth != 0) return 0;
  auto* me = static_cast<TlsCore*>(self);
  for (const mbedtls_x509_crt* at = certificate; at != nullptr && at->raw.p != nullptr; at = at->next) {
    me->chain.emplace_back(at->raw.p, at->raw.p + at->raw.len);
    if (me->chain.size() > limits::kChainCertificates) {
      me->objection_ = Error{Code::unauthenticated, "peer chain has more than " +
                                                        std::to_string(limits::kChainCertificates) + " certificates"};
      return 0;
    }
  }
  me->verified_ = true;
  if (auto verified = me->verifier_->verify(me->chain); !verified) me->objection_ = std::move(verified).error();
  return 0;
}

Result<bool> TlsCore::handshake() {
  while (mbedtls_ssl_is_handshake_over(ssl_.get()) == 0) {
    const int result = mbedtls_ssl_handshake_step(ssl_.get());
    // A TLS 1.3 server holds its objection back until the client's Finished: an alert before that would be sealed with
    // keys the client has left behind.
    const bool later =
        side_ == TlsSide::server && mbedtls_ssl_get_version_number(ssl_.get()) == MBEDTLS_SSL_VERSION_TLS1_3;
    if (objection_ && !later) return refuse(MBEDTLS_SSL_ALERT_MSG_BAD_CERT, std::move(*objection_));
    if (result == MBEDTLS_ERR_SSL_WANT_READ) return false;
    if (result != 0) return fail(describe(result));
  }
  return on_established();
}

Result<bool> TlsCore::on_established() {
  if (objection_) return refuse(MBEDTLS_SSL_ALERT_MSG_BAD_CERT, std::move(*objection_));
  if (config_->endpoint().protocols == TlsProtocols::h2 && !http2()) {
    return refuse(MBEDTLS_SSL_ALERT_MSG_NO_APPLICATION_PROTOCOL,
                  Error{Code::unauthenticated, "the peer did not select the protocol \"h2\" (ALPN)"});
  }
  if (!verified_ && verifier_) {
    if (auto verified = verifier_->verify({}); !verified) {
      return refuse(MBEDTLS_SSL_ALERT_MSG_BAD_CERT, std::move(verified).error());
    }
  }
  verifier_.reset();
  return true;
}

bool TlsCore::http2() const {
  const char* protocol = mbedtls_ssl_get_alpn_protocol(ssl_.get());
  return protocol != nullptr && std::strcmp(protocol, "h2") == 0;
}

Result<bool> TlsCore::refuse(unsigned char alert, Error why) {
  mbedtls_ssl_send_alert_message(ssl_.get(), MBEDTLS_SSL_ALERT_LEVEL_FATAL, alert);
  return fail(std::move(why));
}

Error TlsCore::describe(int code) {
  if (code == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE) {
    // mbedTLS has no getter for the alert it received; the message is still in its buffer.
    return Error{Code::unavailable, "remote error: tls: " + alert_text(ssl_->MBEDTLS_PRIVATE(in_msg)[1])};
  }
  if (code == MBEDTLS_ERR_SSL_CONN_EOF) return Error{Code::unavailable, "EOF"};
  if (code == MBEDTLS_ERR_SSL_INVALID_RECORD && mbedtls_ssl_is_handshake_over(ssl_.get()) == 0 && chain.empty()) {
    return Error{Code::unavailable, "tls: first record does not look like a TLS handshake"};
  }
  char text[120] = {};
  mbedtls_strerror(code, text, sizeof text);
  return Error{Code::unavailable, std::string("tls: ") + text};
}

Result<std::optional<size_t>> TlsCore::read(uint8_t* to, size_t size) {
  while (true) {
    const int result = mbedtls_ssl_read(ssl_.get(), to, size);
    if (result > 0) return static_cast<size_t>(result);
    if (result == MBEDTLS_ERR_SSL_WANT_READ) return size_t{0};
    if (result == 0 || result == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) return std::nullopt;
    if (result != MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET) return fail(describe(result));
  }
}

Result<void> TlsCore::write(BytesView plain) {
  while (!plain.empty()) {
    const int result = mbedtls_ssl_write(ssl_.get(), plain.data(), plain.size());
    if (result < 0) return fail(describe(result));
    plain = plain.subspan(static_cast<size_t>(result));
  }
  return {};
}

void TlsCore::close_notify() { mbedtls_ssl_close_notify(ssl_.get()); }

}  // namespace limpet::wire

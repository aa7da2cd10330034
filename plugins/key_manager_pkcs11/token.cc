// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/token.h"

#include <algorithm>
#include <vector>

#include "key_manager_pkcs11/ck.h"
#include "kit/kit.h"

namespace limpet::pkcs11 {
namespace {

constexpr CK_ULONG kMaxSlots = 1024;

// PKCS#11 pads with blanks; some modules with zeros.
template <size_t N>
std::string field(const unsigned char (&text)[N]) {
  std::string_view out(reinterpret_cast<const char*>(text), N);
  out = out.substr(0, out.find('\0'));
  while (!out.empty() && out.back() == ' ') out.remove_suffix(1);
  return std::string(out);
}

bool fits(const std::string& wanted, const std::string& found) { return wanted.empty() || wanted == found; }

bool matches(const TokenMatch& match, const CK_TOKEN_INFO& info) {
  return fits(match.label, field(info.label)) && fits(match.serial, field(info.serialNumber)) &&
         fits(match.manufacturer, field(info.manufacturerID)) && fits(match.model, field(info.model));
}

}  // namespace

Result<void> Session::check(const char* call, CK_RV rv) {
  if (rv == CKR_OK) return {};
  lost = lost || is_lost(rv);
  return fail(ck_error(call, rv));
}

void Token::run(const std::function<Result<void>(Session&)>& work, const std::function<void(Error)>& give_up) {
  if (run_once(work, give_up) || run_once(work, give_up)) return;
  module_.initialize_again(troubled_since_ms_);
  if (run_once(work, give_up)) return;
  if (!std::exchange(away_, true)) kit::log(host_, 2, describe(match_) + " does not answer; it is asked again");
}

// False: the session, or the token, is gone.
bool Token::run_once(const std::function<Result<void>(Session&)>& work, const std::function<void(Error)>& give_up) {
  const auto epoch = module_.initialize();
  if (!epoch) {
    give_up(epoch.error());
    return true;
  }
  const Module::Use use(module_);
  if (open_ && *epoch != epoch_) forget();
  epoch_ = *epoch;
  if (!open_) {
    if (const auto opened = open(); !opened) {
      forget();
      give_up(here(opened.error()));
      if (troubled_since_ms_ == 0) troubled_since_ms_ = steady_ms();
      return opened.error().code != Code::unavailable;
    }
    if (std::exchange(away_, false)) kit::log(host_, 3, describe(match_) + " answers again");
  }
  Session session(calls(), session_);
  const auto done = work(session);
  if (done || !session.lost) {
    if (done) module_.succeeded(steady_ms());
    if (done) troubled_since_ms_ = 0;
    if (!done) give_up(here(done.error()));
    return true;
  }
  give_up(here(done.error()));
  forget();
  if (troubled_since_ms_ == 0) troubled_since_ms_ = steady_ms();
  return false;
}

Result<void> Token::open() {
  CK_TOKEN_INFO info = {};
  TRY_ASSIGN(const CK_SLOT_ID slot, find_slot(info));
  const CK_FLAGS flags = CKF_SERIAL_SESSION | CKF_RW_SESSION;
  CK_RV rv = calls().C_OpenSession(slot, flags, nullptr, nullptr, &session_);
  // to sign takes no more than this
  if (rv == CKR_TOKEN_WRITE_PROTECTED)
    rv = calls().C_OpenSession(slot, CKF_SERIAL_SESSION, nullptr, nullptr, &session_);
  if (rv == CKR_SESSION_COUNT) {
    return fail(Code::resource_exhausted,
                "C_OpenSession: CKR_SESSION_COUNT: every session of the token is taken; close "
                "some, or give it more");
  }
  if (rv != CKR_OK) return fail(ck_error("C_OpenSession", rv));
  open_ = true;
  ++generation_;
  return log_in(info);
}

// A slot without a token, or whose token cannot be asked, is passed over.
Result<CK_SLOT_ID> Token::find_slot(CK_TOKEN_INFO& info) {
  CK_ULONG count = 0;
  if (const CK_RV rv = calls().C_GetSlotList(CK_TRUE, nullptr, &count); rv != CKR_OK)  // looks which slots there are
    return fail(ck_error("C_GetSlotList", rv));
  count = kMaxSlots;
  std::vector<CK_SLOT_ID> slots(count);
  if (const CK_RV rv = calls().C_GetSlotList(CK_TRUE, slots.data(), &count); rv != CKR_OK)
    return fail(ck_error("C_GetSlotList", rv));
  slots.resize(std::min(count, kMaxSlots));
  size_t found = 0;
  CK_SLOT_ID slot = 0;
  for (const CK_SLOT_ID candidate : slots) {
    CK_TOKEN_INFO one = {};
    if (calls().C_GetTokenInfo(candidate, &one) != CKR_OK) continue;
    if ((one.flags & CKF_TOKEN_INITIALIZED) == 0 || !matches(match_, one)) continue;
    slot = candidate;
    info = one;
    ++found;
  }
  if (found > 1) {
    return fail(Code::invalid_argument, std::to_string(found) + " tokens of " + module_.path() +
                                            " match; name one by a pkcs11: URI with its serial");
  }
  if (found == 0) return fail(Code::unavailable, "no such token in the slots of " + module_.path());
  return slot;
}

// All sessions of a process with a token are logged in, or none is.
Result<void> Token::log_in(const CK_TOKEN_INFO& info) {
  if ((info.flags & CKF_LOGIN_REQUIRED) == 0) return {};
  CK_SESSION_INFO session = {};
  if (const CK_RV rv = calls().C_GetSessionInfo(session_, &session); rv != CKR_OK)
    return fail(ck_error("C_GetSessionInfo", rv));
  if (session.state == CKS_RW_USER_FUNCTIONS || session.state == CKS_RO_USER_FUNCTIONS) return {};
  if ((info.flags & CKF_USER_PIN_LOCKED) != 0)
    return fail(Code::permission_denied, "its PIN is locked; unlock it with the security officer's PIN");
  if ((info.flags & CKF_USER_PIN_FINAL_TRY) != 0) {
    return fail(Code::permission_denied,
                "one more wrong PIN locks the token, so none is tried; log in to it once by hand with the right one");
  }
  if (pin_.given()) return show_pin(info);
  if ((info.flags & CKF_PROTECTED_AUTHENTICATION_PATH) == 0)
    return fail(Code::permission_denied, "it wants a PIN; set pin_file or pin_env");
  const CK_RV rv = calls().C_Login(session_, CKU_USER, nullptr, 0);
  if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN) return {};
  return fail(ck_error("C_Login", rv));
}

Result<void> Token::show_pin(const CK_TOKEN_INFO& info) {
  TRY_ASSIGN(Pin pin, read_pin(pin_));
  const std::string serial = field(info.serialNumber) + "/" + field(info.label);
  const std::string where = pin_.file.empty() ? pin_.env : pin_.file;
  if (module_.was_refused(serial, pin_digest(pin))) {
    return fail(Code::permission_denied,
                "the PIN in " + where + " was refused and is not tried again, lest the token is locked; mend it there" +
                    (pin_.file.empty() ? "" : ", or touch the file to have it tried once more"));
  }
  const CK_RV rv = calls().C_Login(session_, CKU_USER, pin.value.data(), pin.value.size());
  if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN) return {};
  Error error = ck_error("C_Login", rv);
  if (rv == CKR_PIN_LOCKED || rv == CKR_PIN_EXPIRED || rv == CKR_USER_PIN_NOT_INITIALIZED)
    error.message += ": have the token's security officer set its PIN";
  if (rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE) {
    module_.pin_refused(serial, pin_digest(pin));
    error.message += ": the PIN in " + where + " was refused";
  }
  return fail(std::move(error));
}

void Token::forget() {
  if (std::exchange(open_, false)) calls().C_CloseSession(session_);
}

}  // namespace limpet::pkcs11

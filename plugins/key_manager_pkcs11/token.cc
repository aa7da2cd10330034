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

bool is_wrong_pin(CK_RV rv) { return rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE; }

std::string name_of(const CK_TOKEN_INFO& info) { return field(info.serialNumber) + "/" + field(info.label); }

bool fits(const std::string& wanted, const std::string& found) { return wanted.empty() || wanted == found; }

bool matches(const TokenMatch& match, const CK_TOKEN_INFO& info) {
  return fits(match.label, field(info.label)) && fits(match.serial, field(info.serialNumber)) &&
         fits(match.manufacturer, field(info.manufacturerID)) && fits(match.model, field(info.model));
}

}  // namespace

Result<void> Session::check(const char* call, CK_RV rv) {
  last = rv;
  if (rv == CKR_OK) return {};
  lost = lost || is_lost(rv);
  return fail(ck_error(call, rv));
}

Token::~Token() {
  if (open_) module_.try_close_session(this, session_);
}

void Token::run(const std::function<Result<void>(Session&)>& work, const std::function<void(Error)>& give_up) {
  if (run_once(work, give_up) || run_once(work, give_up)) return;
  module_.initialize_again(troubled_since_ms_, wanted_);
  if (run_once(work, give_up)) return;
  if (!std::exchange(away_, true)) kit::log(host_, 2, describe(match_) + " does not answer; it is asked again");
}

// False: the session, or the token, is gone.
bool Token::run_once(const std::function<Result<void>(Session&)>& work, const std::function<void(Error)>& give_up) {
  if (const auto ready = module_.initialize(); !ready) {
    give_up(ready.error());
    return true;
  }
  const Module::Use use(module_, wanted_);
  if (!use) {
    give_up(here({Code::deadline_exceeded, "another call keeps its module busy"}));
    return true;
  }
  if (open_ && !module_.has_session(this, session_)) open_ = false;
  if (!open_) {
    if (const auto opened = open(); !opened) {
      forget();
      give_up(here(opened.error()));
      if (std::exchange(host_failed_, false) || !wanted_()) return true;  // to begin the module anew would not help
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
  CK_RV rv = module_.open_session(slot, flags, this, wanted_, session_);
  // to sign takes no more than this
  if (rv == CKR_TOKEN_WRITE_PROTECTED) rv = module_.open_session(slot, CKF_SERIAL_SESSION, this, wanted_, session_);
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
Result<void> Token::log_in(CK_TOKEN_INFO info) {
  if ((info.flags & CKF_LOGIN_REQUIRED) == 0) return {};
  std::unique_lock alone(module_.login(), std::defer_lock);
  if (!acquire(alone, wanted_)) return fail(Code::deadline_exceeded, "another login keeps it busy");
  CK_SESSION_INFO session = {};
  if (const CK_RV rv = calls().C_GetSessionInfo(session_, &session); rv != CKR_OK)
    return fail(ck_error("C_GetSessionInfo", rv));
  if (session.state == CKS_RW_USER_FUNCTIONS || session.state == CKS_RO_USER_FUNCTIONS) return {};
  // anew: another login may have used up a try
  if (const CK_RV rv = calls().C_GetTokenInfo(session.slotID, &info); rv != CKR_OK)
    return fail(ck_error("C_GetTokenInfo", rv));
  if ((info.flags & CKF_USER_PIN_LOCKED) != 0)
    return fail(Code::permission_denied, "its PIN is locked; unlock it with the security officer's PIN");
  if ((info.flags & CKF_USER_PIN_FINAL_TRY) != 0) {
    return fail(Code::permission_denied,
                "one more wrong PIN locks the token, so none is tried; log in to it once by hand with the right one");
  }
  if (pin_.given()) return show_pin(info);
  if ((info.flags & CKF_PROTECTED_AUTHENTICATION_PATH) == 0)
    return fail(Code::permission_denied, "it wants a PIN; set pin_file or pin_env");
  return ask_at_pad(name_of(info));
}

// Whoever stands there is asked again after a wrong PIN only when the plugin is started again.
Result<void> Token::ask_at_pad(const std::string& token) {
  constexpr const char* kRefused = "the PIN typed at its pad was refused; restart to be asked for it again";
  if (module_.was_refused(token, {})) return fail(Code::permission_denied, kRefused);
  const CK_RV rv = calls().C_Login(session_, CKU_USER, nullptr, 0);
  if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN) return {};
  Error error = ck_error("C_Login", rv);
  if (rv == CKR_FUNCTION_CANCELED || rv == CKR_FUNCTION_REJECTED) {  // no token that is away: once a call is enough
    error.code = Code::permission_denied;
    error.message += ": nobody typed the PIN at its pad";
  }
  if (is_wrong_pin(rv)) {
    module_.pin_refused(token, {});
    error.message += std::string(": ") + kRefused;
  }
  return fail(std::move(error));
}

Result<void> Token::may_be_shown(const ShownPin& pin) {
  PinPast past = module_.was_refused(pin.token, pin.digest) ? PinPast::refused : PinPast::none;
  if (past == PinPast::none && !pin.written.empty()) {
    const auto known = refused_.begin_try(pin.token, pin.written);
    host_failed_ = !known;
    if (!known) return fail(known.error());
    past = *known;
  }
  const std::string or_touch = pin.written.empty() ? "" : ", or touch the file to have it tried once more";
  if (past == PinPast::refused)
    return fail(Code::permission_denied,
                "the PIN in " + pin.where +
                    " was refused and is not tried again, lest the token is locked; mend it there" + or_touch);
  if (past == PinPast::never_told_twice)
    return fail(Code::permission_denied,
                "the PIN in " + pin.where +
                    " was tried twice and what the token said was never noted, so it is not tried again, lest the "
                    "token is locked; mend it there" +
                    or_touch);
  return {};
}

void Token::note_answer(const ShownPin& pin, bool refused) {
  if (refused) module_.pin_refused(pin.token, pin.digest);
  if (pin.written.empty()) return;
  if (const auto noted = refused_.end_try(pin.token, pin.written, refused); !noted)
    kit::log(host_, 2, describe(match_) + ": whether its PIN was refused is not noted: " + noted.error().message);
}

Result<void> Token::show_pin(const CK_TOKEN_INFO& info) {
  TRY_ASSIGN(Pin pin, read_pin(pin_));
  // when it was written is all that is kept of it; an environment variable is of one process
  const ShownPin shown = {name_of(info), pin_.file.empty() ? pin_.env : pin_.file,
                          pin_.file.empty() ? "" : pin_.file + ":" + std::to_string(pin.written_ns), pin_digest(pin)};
  TRY(may_be_shown(shown));
  const CK_RV rv = calls().C_Login(session_, CKU_USER, pin.value.data(), pin.value.size());
  note_answer(shown, is_wrong_pin(rv));
  if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN) return {};
  Error error = ck_error("C_Login", rv);
  if (rv == CKR_PIN_LOCKED || rv == CKR_PIN_EXPIRED || rv == CKR_USER_PIN_NOT_INITIALIZED)
    error.message += ": have the token's security officer set its PIN";
  if (is_wrong_pin(rv)) error.message += ": the PIN in " + shown.where + " was refused";
  return fail(std::move(error));
}

void Token::forget() {
  if (std::exchange(open_, false)) module_.close_session(this, session_, wanted_);
}

}  // namespace limpet::pkcs11

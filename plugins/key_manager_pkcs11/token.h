// SPDX-License-Identifier: Apache-2.0
#pragma once
// One token and the session with it. A session that is lost (the token was pulled out, the HSM's connection broke) is
// replaced and the work begun anew, once; a token that is away is UNAVAILABLE and looked for again with the next call.
// Owned by a plugin's instance, used by its thread.

#include <limpet_plugin.h>

#include <functional>

#include "key_manager_pkcs11/module.h"
#include "key_manager_pkcs11/pin.h"
#include "key_manager_pkcs11/refused_pin.h"
#include "key_manager_pkcs11/token_uri.h"

namespace limpet::pkcs11 {

// Calls of one session. A failed one that means "this session is gone" is noted.
class Session {
 public:
  Session(const CK_FUNCTION_LIST& functions, CK_SESSION_HANDLE session) : calls(functions), handle(session) {}
  Result<void> check(const char* call, CK_RV rv);

  const CK_FUNCTION_LIST& calls;
  const CK_SESSION_HANDLE handle;
  bool lost = false;
  CK_RV last = 0;  // what the last call said that was checked
};

class Token {
 public:
  Token(Module& module, TokenMatch match, PinSource pin, RefusedPin& refused, const limpet_host* host)
      : module_(module), match_(std::move(match)), pin_(std::move(pin)), refused_(refused), host_(host) {}
  ~Token();
  Token(const Token&) = delete;
  Token& operator=(const Token&) = delete;

  // Calls work(session), a Result, with a session that is logged in. Twice at most.
  template <class Work>
  auto with_session(Work work) -> decltype(work(std::declval<Session&>())) {
    decltype(work(std::declval<Session&>())) result = fail(Code::internal, "no session");
    run(
        [&](Session& session) {
          result = work(session);
          return result ? Result<void>() : fail(result.error());
        },
        [&](Error why) { result = fail(std::move(why)); });
    return result;
  }
  // Grows with each session: object handles are of one session.
  [[nodiscard]] uint64_t generation() const { return generation_; }

 private:
  void run(const std::function<Result<void>(Session&)>& work, const std::function<void(Error)>& give_up);
  bool run_once(const std::function<Result<void>(Session&)>& work, const std::function<void(Error)>& give_up);
  Result<void> open();
  Result<CK_SLOT_ID> find_slot(CK_TOKEN_INFO& info);
  Result<void> log_in(CK_TOKEN_INFO info);
  struct ShownPin {
    std::string token;
    std::string where;    // file or environment variable
    std::string written;  // file and when it was; empty: an environment variable
    Bytes digest;
  };
  Result<void> show_pin(const CK_TOKEN_INFO& info);
  Result<void> may_be_shown(const ShownPin& pin);
  void note_answer(const ShownPin& pin, bool refused);
  Result<void> ask_at_pad(const std::string& token);
  void forget();
  [[nodiscard]] const CK_FUNCTION_LIST& calls() const { return module_.calls(); }
  [[nodiscard]] Error here(Error error) const { return std::move(error).within(describe(match_)); }

  Module& module_;
  const TokenMatch match_;
  const PinSource pin_;
  RefusedPin& refused_;  // the instance's
  const Wanted wanted_ = [this] { return refused_.wanted(); };
  const limpet_host* host_;
  bool open_ = false;
  CK_SESSION_HANDLE session_ = 0;
  uint64_t generation_ = 0;
  bool away_ = false;         // said so in the log
  bool host_failed_ = false;  // the last open() ended because of the role's state: the token is not away
  int64_t troubled_since_ms_ = 0;
};

}  // namespace limpet::pkcs11

// SPDX-License-Identifier: Apache-2.0
#pragma once
// A PKCS#11 module, mapped once per process and never unmapped: the vendors' libraries start threads of their own. All
// instances of this plugin that name it, by whatever path, share it, what it knows of refused PINs, and its one
// C_Initialize. Where somebody else initialized it, it is used as it is. Any thread.

#include <p11-kit/pkcs11.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>

#include "base/bytes.h"

namespace limpet::pkcs11 {

// Whether somebody waits for the call still. What another instance's call is in the way of is waited for just as long:
// a token may hang, or a pad wait for a person.
using Wanted = std::function<bool()>;
template <class Lock>
bool acquire(Lock& lock, const Wanted& wanted) {
  if (lock.try_lock()) return true;
  while (wanted()) {
    if (lock.try_lock_for(std::chrono::milliseconds(50))) return true;
  }
  return false;
}

class Module {
 public:
  // INVALID_ARGUMENT: no absolute path, no such file, every user may write it, or it is no PKCS#11 module.
  static Result<Module*> open(const std::string& path);
  static Result<void> check_file(const std::string& path);

  [[nodiscard]] const CK_FUNCTION_LIST& calls() const { return *calls_; }
  [[nodiscard]] const std::string& path() const { return path_; }

  // Held while calls are made: initialize_again() waits for it. A module that cannot be used by several threads is
  // used by one at a time. False: not to be had in time.
  class Use {
   public:
    Use(Module& module, const Wanted& wanted);
    explicit operator bool() const { return alone_.owns_lock() || shared_.owns_lock(); }

   private:
    std::unique_lock<std::shared_timed_mutex> alone_;
    std::shared_lock<std::shared_timed_mutex> shared_;
  };

  // Before any other call.
  Result<void> initialize();
  // Many modules see a token that came back only then. Not when another initialized it, nor while somebody's calls
  // succeed or go on, nor twice within half a minute. Call it without a Use.
  void initialize_again(int64_t troubled_since_ms, const Wanted& wanted);
  void succeeded(int64_t now_ms) { success_ms_ = now_ms; }

  // C_OpenSession and C_CloseSession. A session may end by itself, with C_Finalize or when its token is pulled out, and
  // its handle may then be another instance's: it is that one's from now on, and closed for nobody else. With a Use.
  // CKR_FUNCTION_CANCELED: nobody waits any more. A session that could not be closed in time stays open.
  CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, const void* owner, const Wanted& wanted,
                     CK_SESSION_HANDLE& session);
  [[nodiscard]] bool has_session(const void* owner, CK_SESSION_HANDLE session);
  void close_session(const void* owner, CK_SESSION_HANDLE session, const Wanted& wanted);
  // The same without a Use, on the loop: while anybody is in the module the session stays open.
  void try_close_session(const void* owner, CK_SESSION_HANDLE session);

  // One login at a time: a second instance that comes meanwhile would show a wrong PIN once more, or have a pad ask
  // twice. Held until pin_refused() was told.
  [[nodiscard]] std::timed_mutex& login() { return login_; }
  // A token's PIN that was refused is not shown to it again: three times, and it may be locked. `digest` is of the PIN.
  void pin_refused(const std::string& serial, Bytes digest);
  [[nodiscard]] bool was_refused(const std::string& serial, const Bytes& digest);

 private:
  Module(std::string path, void* library, CK_FUNCTION_LIST* calls)
      : path_(std::move(path)), library_(library), calls_(calls) {}
  Result<void> initialize_now();

  const std::string path_;
  void* const library_;  // of dlopen()
  CK_FUNCTION_LIST* const calls_;
  std::shared_timed_mutex use_;
  std::timed_mutex login_;
  std::timed_mutex opening_;  // held while a session is opened or closed
  std::mutex mutex_;          // guards down to again_ms_
  bool initialized_ = false;
  bool ours_ = false;  // C_Initialize was our call
  std::map<CK_SESSION_HANDLE, const void*> owners_;
  std::map<std::string, std::deque<Bytes>> refused_;
  int64_t again_ms_ = 0;
  std::atomic<bool> one_thread_ = false;
  std::atomic<int64_t> success_ms_ = 0;
};

int64_t steady_ms();

}  // namespace limpet::pkcs11

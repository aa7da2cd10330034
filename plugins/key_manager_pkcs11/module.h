// SPDX-License-Identifier: Apache-2.0
#pragma once
// A PKCS#11 module, mapped once per process and never unmapped: the vendors' libraries start threads of their own. All
// instances of this plugin that name it share it, what it knows of refused PINs, and its one C_Initialize. Where
// somebody else initialized it, it is used as it is. Any thread.

#include <p11-kit/pkcs11.h>

#include <atomic>
#include <map>
#include <mutex>
#include <shared_mutex>
#include <string>

#include "base/bytes.h"

namespace limpet::pkcs11 {

class Module {
 public:
  // INVALID_ARGUMENT: no absolute path, no such file, every user may write it, or it is no PKCS#11 module.
  static Result<Module*> open(const std::string& path);
  static Result<void> check_file(const std::string& path);

  [[nodiscard]] const CK_FUNCTION_LIST& calls() const { return *calls_; }
  [[nodiscard]] const std::string& path() const { return path_; }

  // Held while calls are made: initialize_again() waits for it. A module that cannot be used by several threads is
  // used by one at a time.
  class Use {
   public:
    explicit Use(Module& module);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    Module& module_;
    const bool alone_;
  };

  // Before any other call. Changes when every session was lost because the module was initialized anew.
  Result<uint64_t> initialize();
  // Many modules see a token that came back only then. Not when another initialized it, nor while somebody's calls
  // succeed, nor twice within half a minute. Call it without a Use.
  void initialize_again(int64_t troubled_since_ms);
  void succeeded(int64_t now_ms) { success_ms_ = now_ms; }

  // A token's PIN that was refused is not shown to it again: three times, and it may be locked. `digest` is of the PIN.
  void pin_refused(const std::string& serial, Bytes digest);
  [[nodiscard]] bool was_refused(const std::string& serial, const Bytes& digest);

 private:
  Module(std::string path, CK_FUNCTION_LIST* calls) : path_(std::move(path)), calls_(calls) {}
  Result<void> initialize_now();

  const std::string path_;
  CK_FUNCTION_LIST* const calls_;
  std::shared_mutex use_;
  std::mutex mutex_;  // guards down to again_ms_
  bool initialized_ = false;
  bool ours_ = false;  // C_Initialize was our call
  uint64_t epoch_ = 0;
  std::map<std::string, Bytes> refused_;
  int64_t again_ms_ = 0;
  std::atomic<bool> one_thread_ = false;
  std::atomic<int64_t> success_ms_ = 0;
};

int64_t steady_ms();

}  // namespace limpet::pkcs11

// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/module.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <memory>

#include "base/errno_text.h"
#include "key_manager_pkcs11/ck.h"

namespace limpet::pkcs11 {
namespace {

constexpr int64_t kAgainEveryMs = 30'000;

std::unexpected<Error> bad(const std::string& path, const std::string& why) {
  return fail(Code::invalid_argument, "PKCS#11 module " + path + " " + why);
}

// Kept for the life of the process, as what they map is.
struct Registry {
  std::mutex mutex;
  std::map<std::string, Module*> modules;
};
Registry& registry() {
  static auto* const kept = new Registry();
  return *kept;
}

}  // namespace

int64_t steady_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count();
}

Result<void> Module::check_file(const std::string& path) {
  if (!path.starts_with("/")) return bad(path, "must be named by its whole path");
  struct stat st = {};
  if (::stat(path.c_str(), &st) != 0)
    return bad(path, "cannot be opened: " + errno_text(errno) + "; install it, or mend the key \"module\"");
  if (!S_ISREG(st.st_mode)) return bad(path, "is not a file");
  if ((st.st_mode & S_IWOTH) != 0) return bad(path, "may be written by every user; run chmod o-w on it and check it");
  return {};
}

Result<Module*> Module::open(const std::string& path) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  if (const auto place = all.modules.find(path); place != all.modules.end()) return place->second;
  TRY(check_file(path));
  void* handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) {
    const char* why = ::dlerror();
    return bad(path, std::string("cannot be loaded: ") + (why != nullptr ? why : "no reason given"));
  }
  const auto entry = reinterpret_cast<CK_C_GetFunctionList>(::dlsym(handle, "C_GetFunctionList"));
  if (entry == nullptr) return bad(path, "is no PKCS#11 module: it does not export C_GetFunctionList");
  CK_FUNCTION_LIST* calls = nullptr;
  const CK_RV rv = entry(&calls);
  if (rv != CKR_OK || calls == nullptr)
    return bad(path, "gives no functions: " + ck_error("C_GetFunctionList", rv).message);
  if (calls->version.major != 2) return bad(path, "has functions of another major version than 2");
  auto* made = new Module(path, calls);
  all.modules.emplace(path, made);
  return made;
}

Module::Use::Use(Module& module) : module_(module), alone_(module.one_thread_) {
  alone_ ? module_.use_.lock() : module_.use_.lock_shared();
}
Module::Use::~Use() { alone_ ? module_.use_.unlock() : module_.use_.unlock_shared(); }

Result<uint64_t> Module::initialize() {
  const std::lock_guard lock(mutex_);
  if (!initialized_) TRY(initialize_now());
  initialized_ = true;
  return epoch_;
}

// With mutex_.
Result<void> Module::initialize_now() {
  CK_C_INITIALIZE_ARGS args = {};
  args.flags = CKF_OS_LOCKING_OK;
  CK_RV rv = calls_->C_Initialize(&args);
  if (rv == CKR_CANT_LOCK) {
    one_thread_ = true;
    rv = calls_->C_Initialize(nullptr);
  }
  ours_ = rv == CKR_OK;
  if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED) {
    Error error = ck_error("C_Initialize", rv);
    error.code = Code::unavailable;
    return fail(std::move(error).within("PKCS#11 module " + path_));
  }
  ++epoch_;
  return {};
}

void Module::initialize_again(int64_t troubled_since_ms) {
  const std::unique_lock alone(use_);
  const std::lock_guard lock(mutex_);
  const int64_t now = steady_ms();
  if (!ours_ || success_ms_ > troubled_since_ms || (again_ms_ != 0 && now - again_ms_ < kAgainEveryMs)) return;
  again_ms_ = now;
  calls_->C_Finalize(nullptr);
  initialized_ = false;
}

void Module::pin_refused(const std::string& serial, Bytes digest) {
  const std::lock_guard lock(mutex_);
  refused_[serial] = std::move(digest);
}

bool Module::was_refused(const std::string& serial, const Bytes& digest) {
  const std::lock_guard lock(mutex_);
  const auto place = refused_.find(serial);
  return place != refused_.end() && place->second == digest;
}

}  // namespace limpet::pkcs11

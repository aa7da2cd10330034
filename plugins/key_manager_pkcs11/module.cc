// SPDX-License-Identifier: Apache-2.0
#include "key_manager_pkcs11/module.h"

#include <dlfcn.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>

#include "base/errno_text.h"
#include "key_manager_pkcs11/ck.h"

namespace limpet::pkcs11 {
namespace {

constexpr int64_t kAgainEveryMs = 30'000;
constexpr size_t kRefusedOfAToken = 64;

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
  for (const auto& [other, module] : all.modules) {  // the same library by another name
    if (module->library_ != handle) continue;
    Module* const known = module;
    all.modules.emplace(path, known);
    return known;
  }
  const auto entry = reinterpret_cast<CK_C_GetFunctionList>(::dlsym(handle, "C_GetFunctionList"));
  if (entry == nullptr) return bad(path, "is no PKCS#11 module: it does not export C_GetFunctionList");
  CK_FUNCTION_LIST* calls = nullptr;
  const CK_RV rv = entry(&calls);
  if (rv != CKR_OK || calls == nullptr)
    return bad(path, "gives no functions: " + ck_error("C_GetFunctionList", rv).message);
  if (calls->version.major != 2) return bad(path, "has functions of another major version than 2");
  auto* made = new Module(path, handle, calls);
  all.modules.emplace(path, made);
  return made;
}

Module::Use::Use(Module& module, const Wanted& wanted)
    : alone_(module.use_, std::defer_lock), shared_(module.use_, std::defer_lock) {
  if (module.one_thread_)
    acquire(alone_, wanted);
  else
    acquire(shared_, wanted);
}

Result<void> Module::initialize() {
  const std::lock_guard lock(mutex_);
  if (!initialized_) TRY(initialize_now());
  initialized_ = true;
  return {};
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
  return {};
}

void Module::initialize_again(int64_t troubled_since_ms, const Wanted& wanted) {
  std::unique_lock alone(use_, std::defer_lock);
  if (!acquire(alone, wanted)) return;
  const std::lock_guard lock(mutex_);
  const int64_t now = steady_ms();
  if (!ours_ || success_ms_ > troubled_since_ms || (again_ms_ != 0 && now - again_ms_ < kAgainEveryMs)) return;
  again_ms_ = now;
  calls_->C_Finalize(nullptr);
  owners_.clear();
  initialized_ = initialize_now().has_value();  // at once: nobody may call it meanwhile
}

CK_RV Module::open_session(CK_SLOT_ID slot, CK_FLAGS flags, const void* owner, const Wanted& wanted,
                           CK_SESSION_HANDLE& session) {
  std::unique_lock opening(opening_, std::defer_lock);
  if (!acquire(opening, wanted)) return CKR_FUNCTION_CANCELED;
  const CK_RV rv = calls_->C_OpenSession(slot, flags, nullptr, nullptr, &session);
  if (rv != CKR_OK) return rv;
  const std::lock_guard lock(mutex_);
  owners_[session] = owner;
  return rv;
}

bool Module::has_session(const void* owner, CK_SESSION_HANDLE session) {
  const std::lock_guard lock(mutex_);
  const auto place = owners_.find(session);
  return place != owners_.end() && place->second == owner;
}

// With opening_, or the handle might become another's before it is closed.
void Module::close_session(const void* owner, CK_SESSION_HANDLE session, const Wanted& wanted) {
  std::unique_lock opening(opening_, std::defer_lock);
  if (!acquire(opening, wanted) || !has_session(owner, session)) return;
  calls_->C_CloseSession(session);
  const std::lock_guard lock(mutex_);
  owners_.erase(session);
}

// Alone, as C_CloseSession waits for the others' calls in many a module.
void Module::try_close_session(const void* owner, CK_SESSION_HANDLE session) {
  const std::unique_lock alone(use_, std::try_to_lock);
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!alone.owns_lock() || !lock.owns_lock()) return;
  const auto place = owners_.find(session);
  if (place == owners_.end() || place->second != owner) return;
  calls_->C_CloseSession(session);
  owners_.erase(place);
}

void Module::pin_refused(const std::string& serial, Bytes digest) {
  const std::lock_guard lock(mutex_);
  auto& known = refused_[serial];
  known.push_back(std::move(digest));
  if (known.size() > kRefusedOfAToken) known.pop_front();
}

bool Module::was_refused(const std::string& serial, const Bytes& digest) {
  const std::lock_guard lock(mutex_);
  const auto place = refused_.find(serial);
  return place != refused_.end() && std::ranges::find(place->second, digest) != place->second.end();
}

}  // namespace limpet::pkcs11

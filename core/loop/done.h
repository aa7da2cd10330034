// SPDX-License-Identifier: Apache-2.0
#pragma once
// Pending and Done: how one thing waits for another. Pending<T> is a member of the one who waits;
// then<&C::method>(this) arms it and returns the Done<T> that the operation keeps. Each points at the other; whichever
// dies first unhooks the other. Calling an unhooked Done does nothing. Destroying a Done that was never called delivers
// an Error. So every request ends exactly once, without heap or reference count.
//
// Loop thread only. An operation never calls its Done before it has returned to its caller: it posts to the loop.

#include <utility>

#include "base/result.h"

namespace limpet {

template <class T>
class Done;

template <class T>
class Pending {
 public:
  Pending() = default;
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  ~Pending() { drop(); }

  // Arms this and returns its other half. An earlier operation still in flight is forgotten.
  template <auto Method, class C>
  [[nodiscard]] Done<T> then(C* object) {
    drop();
    object_ = object;
    call_ = [](void* self, Result<T> result) { (static_cast<C*>(self)->*Method)(std::move(result)); };
    return Done<T>(this);
  }
  [[nodiscard]] bool armed() const { return done_ != nullptr; }
  // Forgets the operation in flight: its answer will go nowhere.
  void drop() {
    if (done_ != nullptr) done_->pending_ = nullptr;
    done_ = nullptr;
  }

 private:
  friend class Done<T>;
  Done<T>* done_ = nullptr;
  void* object_ = nullptr;
  void (*call_)(void*, Result<T>) = nullptr;
};

template <class T>
class [[nodiscard]] Done {
 public:
  Done() = default;
  Done(Done&& other) noexcept : pending_(std::exchange(other.pending_, nullptr)) { rehook(); }
  Done& operator=(Done&& other) noexcept {
    if (this != &other) {
      abandon();
      pending_ = std::exchange(other.pending_, nullptr);
      rehook();
    }
    return *this;
  }
  ~Done() { abandon(); }

  // Delivers the answer. The waiter may destroy itself, and with it the operation that holds this Done.
  void operator()(Result<T> result) {
    Pending<T>* pending = std::exchange(pending_, nullptr);
    if (pending == nullptr) return;
    pending->done_ = nullptr;
    pending->call_(pending->object_, std::move(result));
  }
  // False when nobody waits any more: the work can be spared.
  [[nodiscard]] bool wanted() const { return pending_ != nullptr; }

 private:
  friend class Pending<T>;
  explicit Done(Pending<T>* pending) : pending_(pending) { rehook(); }
  void rehook() {
    if (pending_ != nullptr) pending_->done_ = this;
  }
  void abandon() {
    if (pending_ != nullptr) (*this)(std::unexpected(Error{Code::internal, "operation dropped"}));
  }
  Pending<T>* pending_ = nullptr;
};

}  // namespace limpet

// SPDX-License-Identifier: Apache-2.0
#include "loop/fake_stream.h"

#include <algorithm>
#include <deque>

namespace limpet {

// What both ends share, and the tasks that move bytes: it lives as long as any of them.
struct MemoryLink : std::enable_shared_from_this<MemoryLink> {
  struct Write {
    Bytes bytes;
    size_t taken = 0;
    Done<void> done;
    bool last = false;  // a shutdown: no bytes, and nothing after it
  };
  // The direction towards one side.
  struct Pipe {
    std::deque<Write> queue;  // not yet in the kernel
    Bytes kernel;
    bool shut = false;   // the writer has closed its half, or is gone
    bool ended = false;  // the reader was told
    bool scheduled = false;
  };

  explicit MemoryLink(Loop& l) : loop(l) {}

  void schedule(int to);
  void pump(int to);
  void fill(Pipe& pipe, size_t capacity);
  void deliver(int to);
  void drop_writes(int to, const char* why);
  void answer(Done<void> done, Result<void> result);
  [[nodiscard]] size_t queued(int to) const;

  Loop& loop;
  MemoryStream* ends[2] = {nullptr, nullptr};
  Pipe towards[2];
  bool broken = false;
};

void MemoryLink::schedule(int to) {
  Pipe& pipe = towards[to];
  if (pipe.scheduled) return;
  pipe.scheduled = true;
  loop.post([self = shared_from_this(), to] { self->pump(to); });
}

void MemoryLink::answer(Done<void> done, Result<void> result) {
  if (!done.wanted()) return;
  loop.post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
}

void MemoryLink::drop_writes(int to, const char* why) {
  for (Write& write : std::exchange(towards[to].queue, {})) {
    answer(std::move(write.done), fail(Code::unavailable, std::string(write.last ? "shutdown: " : "write: ") + why));
  }
}

size_t MemoryLink::queued(int to) const {
  size_t total = 0;
  for (const Write& write : towards[to].queue) total += write.bytes.size() - write.taken;
  return total;
}

// Moves queued bytes into the kernel as far as there is room.
void MemoryLink::fill(Pipe& pipe, size_t capacity) {
  while (!pipe.queue.empty()) {
    Write& write = pipe.queue.front();
    const size_t room = capacity > pipe.kernel.size() ? capacity - pipe.kernel.size() : 0;
    const size_t part = std::min(room, write.bytes.size() - write.taken);
    append(pipe.kernel, BytesView(write.bytes).subspan(write.taken, part));
    write.taken += part;
    if (write.taken < write.bytes.size()) return;
    if (write.last) pipe.shut = true;
    answer(std::move(write.done), {});
    pipe.queue.pop_front();
  }
}

void MemoryLink::pump(int to) {
  Pipe& pipe = towards[to];
  pipe.scheduled = false;
  MemoryStream* end = ends[to];
  if (end == nullptr) return drop_writes(to, "broken pipe");
  if (!broken) fill(pipe, end->capacity);
  if (end->reader_ != nullptr) deliver(to);
}

void MemoryLink::deliver(int to) {
  Pipe& pipe = towards[to];
  MemoryStream* end = ends[to];
  if (pipe.ended) return;
  if (broken) {
    pipe.ended = true;
    return end->reader_->on_end(Error{Code::unavailable, "read: connection reset by peer"});
  }
  if (pipe.kernel.empty()) {
    if (!pipe.shut) return;
    pipe.ended = true;
    return end->reader_->on_end(std::nullopt);
  }
  const auto size = static_cast<ptrdiff_t>(std::min(std::max<size_t>(end->chunk, 1), pipe.kernel.size()));
  const Bytes part(pipe.kernel.begin(), pipe.kernel.begin() + size);
  pipe.kernel.erase(pipe.kernel.begin(), pipe.kernel.begin() + size);
  schedule(to);                  // there may be more, or the end
  end->reader_->on_bytes(part);  // the end may be gone afterwards
}

MemoryStream::MemoryStream(std::shared_ptr<MemoryLink> link, int side) : link_(std::move(link)), side_(side) {
  link_->ends[side] = this;
}

MemoryStream::~MemoryStream() {
  const int other = 1 - side_;
  link_->ends[side_] = nullptr;
  link_->drop_writes(other, "the stream was closed");
  link_->towards[other].shut = true;
  link_->schedule(other);
  link_->schedule(side_);  // what the other end still has queued fails
}

void MemoryStream::read(StreamReader& reader) {
  reader_ = &reader;
  link_->schedule(side_);
}

void MemoryStream::pause() { reader_ = nullptr; }

void MemoryStream::write(Bytes bytes, Done<void> done) {
  const int other = 1 - side_;
  MemoryLink::Pipe& pipe = link_->towards[other];
  const bool closed = pipe.shut || (!pipe.queue.empty() && pipe.queue.back().last);
  if (link_->broken || closed || link_->ends[other] == nullptr) {
    return link_->answer(std::move(done), fail(Code::unavailable, "write: broken pipe"));
  }
  pipe.queue.push_back({.bytes = std::move(bytes), .taken = 0, .done = std::move(done), .last = false});
  link_->schedule(other);
}

void MemoryStream::shutdown(Done<void> done) {
  const int other = 1 - side_;
  if (link_->broken) return link_->answer(std::move(done), fail(Code::unavailable, "shutdown: broken pipe"));
  link_->towards[other].queue.push_back({.bytes = {}, .taken = 0, .done = std::move(done), .last = true});
  link_->schedule(other);
}

size_t MemoryStream::queued() const { return link_->queued(1 - side_); }

void MemoryStream::cut() {
  link_->broken = true;
  for (int side = 0; side < 2; side++) {
    link_->drop_writes(side, "broken pipe");
    link_->towards[side].kernel.clear();
    link_->schedule(side);
  }
}

MemoryPair connect_memory(Loop& loop) {
  auto link = std::make_shared<MemoryLink>(loop);
  return {std::make_unique<MemoryStream>(link, 0), std::make_unique<MemoryStream>(link, 1)};
}

}  // namespace limpet

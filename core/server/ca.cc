// SPDX-License-Identifier: Apache-2.0
#include "server/ca.h"

#include <algorithm>
#include <utility>

#include "server/ca_flows.h"

namespace limpet::server {
namespace {
constexpr int64_t kTickMs = 10'000;
constexpr int64_t kShortestTickMs = 250;
constexpr int64_t kFirstCaTickMs = 2'000;  // while there is none: the server above may just be starting
constexpr int64_t kPruneMs = int64_t{6} * 3600 * 1000;
constexpr int64_t kPruneAfter = 24 * 3600;  // seconds after its expiry that a root leaves the bundle, at most
constexpr int kFailuresUntilUnhealthy = 10;

std::string authority_id(const CaSlot& slot) { return hex_encode(slot.authority->certificate.subject_key_id); }
}  // namespace

// One signature: holds on to the authority it began with.
class X509Ca::SignOperation {
 public:
  SignOperation(X509Ca& ca, const char* metric, std::shared_ptr<const Authority> authority, Done<SignedSvid> done)
      : ca_(ca), metric_(metric), authority_(std::move(authority)), done_(std::move(done)) {}
  std::list<std::unique_ptr<SignOperation>>::iterator place;

  [[nodiscard]] const Authority& authority() const { return *authority_; }

  void start(const CertificateTemplate& cert) {
    Certificate numbered;
    numbered.serial = cert.serial;
    serial_ = numbered.serial_decimal();
    expires_at_ = cert.not_after;
    KeyType type = authority_->signer->type();
    tbs_ = encode_tbs(cert, type, hash_for(type));
    authority_->signer->sign(hash_for(type), hash(hash_for(type), tbs_), signed_.then<&SignOperation::on_signed>(this));
  }

 private:
  void on_signed(Result<Bytes> signature) {
    Result<SignedSvid> result;
    ca_.on_key_answered(*authority_, signature ? nullptr : &signature.error());
    if (signature) {
      KeyType type = authority_->signer->type();
      result->chain = {seal_certificate(tbs_, type, hash_for(type), *signature)};
      result->chain.insert(result->chain.end(), authority_->upstream_chain.begin(), authority_->upstream_chain.end());
      result->expires_at = expires_at_;
      result->serial = std::move(serial_);
      ca_.metrics_.count(metric_);
    } else {
      result = std::unexpected(std::move(signature).error().within("sign with the X.509 CA's key"));
    }
    Done<SignedSvid> done = std::move(done_);
    std::unique_ptr<SignOperation> self = std::move(*place);
    ca_.signing_.erase(self->place);
    self.reset();
    done(std::move(result));
  }

  X509Ca& ca_;
  const char* metric_;
  std::shared_ptr<const Authority> authority_;
  Done<SignedSvid> done_;
  Bytes tbs_;
  std::string serial_;
  int64_t expires_at_ = 0;
  Pending<Bytes> signed_;
};

X509Ca::X509Ca(Loop& loop, const Clock& clock, Logger& logger, Health& health, Store& store, KeyManager& keys,
               BundleCache& bundles, CaOptions options, UpstreamAuthority* upstream, Metrics& metrics)
    : loop_(loop),
      clock_(clock),
      logger_(logger),
      health_(health),
      store_(store),
      keys_(keys),
      bundles_(bundles),
      options_(std::move(options)),
      upstream_(upstream),
      metrics_(metrics),
      tick_(loop) {}
X509Ca::~X509Ca() = default;

void X509Ca::start(Done<void> done) {
  started_ = std::move(done);
  loading_ = std::make_unique<LoadCaFlow>(clock_, store_, keys_, loaded_.then<&X509Ca::on_loaded>(this));
  loading_->start();
}

void X509Ca::on_loaded(Result<LoadedCa> loaded) {
  loading_.reset();
  if (!loaded) return started_(std::unexpected(std::move(loaded).error().within("start the X.509 CA")));
  journal_ = std::move(loaded->journal);
  current_ = std::move(loaded->current);
  next_ = std::move(loaded->next);
  next_prune_ms_ = loop_.now_ms() + std::min(kPruneMs, options_.ttl * 1000);
  if (current_)
    logger_.info("X509 CA loaded", {{"slot", current_->slot_id}, {"local_authority_id", authority_id(*current_)}});
  on_tick();
}

// What is due is decided here and nowhere else; one thing at a time.
void X509Ca::on_tick() {
  // an authority of minutes, as in tests and demonstrations, is looked at more often than one of hours
  const int64_t longest = current_ ? kTickMs : kFirstCaTickMs;
  tick_.start<&X509Ca::on_tick>(std::clamp(options_.ttl * 1000 / 24, kShortestTickMs, longest), this);
  if (preparing_) return;
  int64_t now = clock_.now();
  if (next_ && next_->not_after() <= now) next_.reset();
  if (next_ && next_is_due(now)) activate_next();
  if (!current_) return prepare("A");
  if (journal_dirty_ && !journal_saved_.armed()) save_journal();
  if (loop_.now_ms() >= next_prune_ms_) prune_bundle();
  const bool lost = key_lost_ && !just_made(current_->published_at, current_->not_after(), now);
  if (!next_ && (now >= current_->prepare_at() || outdated(*current_) || lost)) return prepare(free_slot());
  report({});
}

bool X509Ca::next_is_due(int64_t now) const {
  if (!current_ || key_lost_) return true;
  if (spreading(next_->published_at, next_->not_after(), now, current_->not_after())) return false;
  return now >= current_->activate_at() || (outdated(*current_) && !outdated(*next_));
}

std::string X509Ca::free_slot() const { return current_ && current_->slot_id == "A" ? "B" : "A"; }

void X509Ca::prepare(const std::string& slot_id) {
  next_.reset();  // its key is about to be replaced: should what follows fail, it must not be activated
  const PrepareCaFlow::Parts parts{loop_, clock_, keys_, upstream_, bundles_, options_, journal_, spare_key_};
  prepare_ms_ = loop_.now_ms();
  preparing_ = std::make_unique<PrepareCaFlow>(parts, slot_id, !current_, prepared_.then<&X509Ca::on_prepared>(this));
  preparing_->start();
}

void X509Ca::on_prepared(Result<CaSlot> slot) {
  preparing_.reset();
  Done<void> asked = std::move(asked_);
  metrics_.call("ca_manager_x509_ca_prepare", slot ? Code::ok : slot.error().code, loop_.now_ms() - prepare_ms_);
  if (!slot) {
    report(std::unexpected(Error(slot.error()).within("prepare X.509 CA")));
    return asked(std::unexpected(std::move(slot).error()));
  }
  logger_.info(current_ ? "X509 CA prepared" : "X509 CA activated",
               {{"slot", slot->slot_id},
                {"local_authority_id", authority_id(*slot)},
                {"expiration", TimeText(slot->not_after()).rfc3339()}});
  if (!current_) metrics_.count("ca_manager_x509_ca_activate");
  (current_ ? next_ : current_) = std::move(*slot);
  if (key_lost_) tick_.start<&X509Ca::on_tick>(0, this);
  report({});
  asked({});
}

void X509Ca::prepare_now(Done<void> done) {
  if (preparing_ || !current_) {
    return loop_.post([d = std::move(done)]() mutable {
      d(fail(Code::unavailable, "an X.509 authority is being prepared already: try again"));
    });
  }
  asked_ = std::move(done);
  prepare(free_slot());
}

Result<void> X509Ca::activate() {
  if (!next_) return fail(Code::failed_precondition, "there is no prepared X.509 authority");
  activate_next();
  if (!journal_saved_.armed()) save_journal();
  return {};
}

std::optional<JournalX509Ca> X509Ca::old() const {
  if (next_ || !current_) return std::nullopt;
  for (auto entry = journal_.x509_cas.rbegin(); entry != journal_.x509_cas.rend(); ++entry) {
    if (entry->slot_id == current_->slot_id || entry->status != AuthorityStatus::old) continue;
    return entry->not_after > clock_.now() ? std::optional(*entry) : std::nullopt;
  }
  return std::nullopt;
}

void X509Ca::activate_next() {
  std::string was = current_ ? authority_id(*current_) : std::string();
  current_ = std::move(next_);
  next_.reset();
  key_lost_ = false;
  std::string is = authority_id(*current_);
  for (JournalX509Ca& entry : journal_.x509_cas) {
    if (entry.authority_id == is) {
      entry.status = AuthorityStatus::active;
    } else if (entry.status == AuthorityStatus::active) {
      entry.status = AuthorityStatus::old;
    }
  }
  metrics_.count("ca_manager_x509_ca_activate");
  // Not waited for: should it be lost, a restart finds the slot prepared and activates it again.
  journal_dirty_ = true;
  logger_.info("X509 CA activated", {{"slot", current_->slot_id},
                                     {"local_authority_id", is},
                                     {"was", was},
                                     {"expiration", TimeText(current_->not_after()).rfc3339()}});
}

void X509Ca::save_journal() {
  journal_dirty_ = false;
  ChangeSet changes;
  put_journal(changes, journal_);
  store_.commit(std::move(changes), journal_saved_.then<&X509Ca::on_journal_saved>(this));
}

void X509Ca::on_journal_saved(Result<uint64_t> saved) {
  if (saved) return;
  journal_dirty_ = true;
  logger_.warn("CA journal not saved, trying again", {{"error", saved.error().text()}});
}

// A root leaves the bundle a day after it expired, one of a short-lived authority sooner: there are many of those. The
// authorities in use never do, whatever the clock says.
void X509Ca::prune_bundle() {
  next_prune_ms_ = loop_.now_ms() + std::min(kPruneMs, options_.ttl * 1000);
  std::vector<std::string> in_use;  // as hex of their subject key ids
  for (const auto* slot : {&current_, &next_}) {
    if (!*slot) continue;
    const std::string& upstream_id = (*slot)->upstream_authority_id;
    in_use.push_back(upstream_id.empty() ? authority_id(**slot) : upstream_id);
  }
  prune_ms_ = loop_.now_ms();
  int64_t limit = clock_.now() - std::min(kPruneAfter, 2 * options_.ttl);
  bundles_.edit_own(
      [in_use = std::move(in_use), limit](Bundle& bundle, ChangeSet&) {
        size_t roots = std::erase_if(bundle.x509_authorities, [&](const X509Authority& root) {
          auto certificate = Certificate::parse(root.der);
          return certificate && certificate->not_after < limit &&
                 std::ranges::find(in_use, hex_encode(certificate->subject_key_id)) == in_use.end();
        });
        size_t keys = std::erase_if(bundle.jwt_authorities, [&](const JwtAuthority& key) {
          return key.expires_at != 0 && key.expires_at < limit;
        });
        return roots + keys != 0;
      },
      pruned_.then<&X509Ca::on_pruned>(this));
}

void X509Ca::on_pruned(Result<Bundle> pruned) {
  metrics_.call("ca_manager_bundle_prune", pruned ? Code::ok : pruned.error().code, loop_.now_ms() - prune_ms_);
  if (!pruned) logger_.warn("Bundle not pruned, trying again later", {{"error", pruned.error().text()}});
}

void X509Ca::report(Result<void> outcome) {
  if (!outcome && !current_ && !has_upstream()) {
    tick_.stop();  // whoever called start() says it, and may call it again
    return std::exchange(started_, {})(std::move(outcome));
  }
  if (!outcome) {
    failures_++;
    // an upstream that is away for hours is no reason to stop: what is active signs until its end
    bool given_up = upstream_ == nullptr && failures_ > kFailuresUntilUnhealthy;
    const bool expired = current_ && current_->not_after() <= clock_.now();
    health_.report("ca", !current_ || expired || given_up ? HealthState::failed : HealthState::degraded,
                   (expired ? "the X.509 CA has expired; " : "") + outcome.error().message);
    logger_.error("X509 CA rotation failed, trying again", {{"error", outcome.error().text()}});
  } else if (current_) {
    if (!preparing_) failures_ = 0;
    bool expired = current_->not_after() <= clock_.now();
    health_.report("ca", expired ? HealthState::failed : HealthState::ok, expired ? "the X.509 CA has expired" : "");
  }
  // An authority that is there is enough to begin with: what is due besides is tried again.
  if (current_) std::exchange(started_, {})({});
}

// A TPM or an HSM may go away between two rotations. Told and logged when it changes. A key that was replaced or
// deleted does not come back: the next authority takes over as soon as there is one.
void X509Ca::on_key_answered(const Authority& authority, const Error* why) {
  if (current_->authority.get() != &authority) return;  // of a rotation ago
  const bool lost = why != nullptr && (why->code == Code::failed_precondition || why->code == Code::not_found);
  const bool news = lost && !key_lost_;
  key_lost_ = lost || (key_lost_ && why != nullptr);
  if (news) tick_.start<&X509Ca::on_tick>(0, this);
  if ((why != nullptr) == key_failing_ && !news) return;
  key_failing_ = why != nullptr;
  std::string reason = key_failing_ ? why->text() : "";
  if (lost) reason += "; another authority takes its place";
  health_.report("ca_key", key_failing_ ? HealthState::degraded : HealthState::ok, std::move(reason));
  if (key_failing_) {
    logger_.error("The X509 CA's key cannot be used, nothing can be signed", {{"error", why->text()}});
  } else {
    logger_.info("The X509 CA's key can be used again");
  }
}

void X509Ca::sign(SvidRequest request, Done<SignedSvid> done) {
  if (SignOperation* operation = begin_signature("server_ca_sign_x509_svid", std::move(done)))
    operation->start(svid_template(request, operation->authority().certificate, clock_.now()));
}

void X509Ca::sign_downstream(DownstreamCaRequest request, Done<SignedSvid> done) {
  SignOperation* operation = begin_signature("server_ca_sign_x509_ca_svid", std::move(done));
  if (operation == nullptr) return;
  const Authority& authority = operation->authority();
  const size_t parents = std::max(authority.upstream_chain.size(), size_t{1});
  operation->start(
      downstream_ca_template(request, authority.certificate, parents, options_.trust_domain, clock_.now()));
}

X509Ca::SignOperation* X509Ca::begin_signature(const char* metric, Done<SignedSvid> done) {
  // a certificate that ends with its CA, in the past, would only cost its owner the one that it has
  if (!current_ || current_->not_after() <= clock_.now()) {
    const char* why = current_ ? "the X.509 CA has expired" : "X509 CA is not available for signing";
    loop_.post([held = std::move(done), why]() mutable { held(fail(Code::unavailable, why)); });
    return nullptr;
  }
  auto& operation =
      signing_.emplace_back(std::make_unique<SignOperation>(*this, metric, current_->authority, std::move(done)));
  operation->place = std::prev(signing_.end());
  return operation.get();
}

}  // namespace limpet::server

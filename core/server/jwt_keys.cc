// SPDX-License-Identifier: Apache-2.0
#include "server/jwt_keys.h"

#include <algorithm>
#include <utility>

#include "crypto/jws_sign.h"
#include "server/ca_slot.h"

namespace limpet::server {
namespace {

constexpr int64_t kTickMs = 10'000;
constexpr int64_t kShortestTickMs = 250;
constexpr int64_t kUpstreamMs = 5'000;    // SPIRE's patience
constexpr int64_t kTellAgainMs = 60'000;  // nobody waits for these
constexpr size_t kKeyIdLetters = 32;

// As many random letters and digits as SPIRE's have; without bias, so that 62 of 64 values are taken.
std::string random_key_id() {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  std::string out;
  while (out.size() < kKeyIdLetters) {
    for (const uint8_t byte : random_bytes(kKeyIdLetters)) {
      const size_t at = byte & 0x3f;
      if (at < kLetters.size() && out.size() < kKeyIdLetters) out += kLetters[at];
    }
  }
  return out;
}

}  // namespace

// New key, public half into the bundle and into the record, in one commit.
class JwtKeys::PrepareFlow {
 public:
  PrepareFlow(JwtKeys& owner, std::string slot_id, bool activate, Done<JwtSlot> done)
      : owner_(owner), activate_(activate), done_(std::move(done)), deadline_(owner.loop_) {
    slot_.slot_id = std::move(slot_id);
  }
  void start() {
    owner_.keys_.generate(jwt_key_id(slot_.slot_id), owner_.options_.key_type,
                          generated_.then<&PrepareFlow::on_key>(this));
  }

 private:
  // 1. the key is there
  void on_key(Result<ManagedKey> key) {
    if (!key) return done_(std::unexpected(std::move(key).error().within("generate key " + jwt_key_id(slot_.slot_id))));
    slot_.key_id = random_key_id();
    slot_.issued_at = owner_.clock_.now();
    slot_.not_after = slot_.issued_at + owner_.options_.ttl;
    slot_.status = activate_ ? AuthorityStatus::active : AuthorityStatus::prepared;
    authority_ = {slot_.key_id, key->key.spki(), slot_.not_after, false};
    slot_.signer = make_signer(owner_.keys_, std::move(*key));
    if (owner_.upstream_ == nullptr) return publish();
    deadline_.start<&PrepareFlow::on_deadline>(kUpstreamMs, this);
    owner_.upstream_->publish_jwt_key({authority_.key_id, authority_.spki, authority_.expires_at},
                                      told_.then<&PrepareFlow::on_upstream_told>(this));
  }
  // 2. the whole trust domain has to know it, not only what hangs under this server
  void on_upstream_told(Result<void> told) {
    deadline_.stop();
    slot_.known_above = told || told.error().code == Code::unimplemented;
    if (slot_.known_above) return publish();
    Error why = std::move(told).error().within("publish the new JWT key upstream");
    // A first key is better known here alone than not there at all, and JwtKeys goes on telling; with an active one
    // there is time to try again.
    if (!activate_) return done_(std::unexpected(std::move(why)));
    owner_.untold_ = why.text();
    owner_.logger_.warn("JWT key is known to this server alone, trying again", {{"error", owner_.untold_}});
    publish();
  }
  void on_deadline() {
    told_.drop();
    on_upstream_told(fail(Code::deadline_exceeded, "no answer within 5 s"));
  }
  // 3. into the own bundle
  void publish() {
    journal_ = journal_with(authority_.spki);
    owner_.bundles_.edit_own(
        [authority = authority_, journal = journal_](Bundle& bundle, ChangeSet& also) {
          // the upstream authority may have sent it back already
          std::erase_if(bundle.jwt_authorities,
                        [&](const JwtAuthority& key) { return key.key_id == authority.key_id; });
          bundle.jwt_authorities.push_back(authority);
          put_jwt_journal(also, journal);
          return true;
        },
        published_.then<&PrepareFlow::on_published>(this));
  }
  // 4. on disk
  void on_published(Result<Bundle> bundle) {
    if (!bundle) return done_(std::unexpected(std::move(bundle).error().within("publish the new JWT key")));
    owner_.journal_ = std::move(journal_);
    slot_.published_at = owner_.clock_.now();
    done_(std::move(slot_));
  }
  [[nodiscard]] std::vector<JournalJwtKey> journal_with(const Bytes& spki) const {
    std::vector<JournalJwtKey> journal = owner_.journal_;
    for (JournalJwtKey& entry : journal) {  // what it takes the place of will not be found again
      if (entry.slot_id == slot_.slot_id || entry.status == AuthorityStatus::prepared || activate_)
        entry.status = AuthorityStatus::old;
    }
    journal.push_back(
        {slot_.slot_id, slot_.issued_at, slot_.not_after, slot_.key_id, spki, slot_.status, slot_.key_id});
    while (journal.size() > kJournalEntries) journal.erase(journal.begin());
    return journal;
  }

  JwtKeys& owner_;
  bool activate_;
  Done<JwtSlot> done_;
  JwtSlot slot_;
  JwtAuthority authority_;
  std::vector<JournalJwtKey> journal_;
  Timer deadline_;
  Pending<ManagedKey> generated_;
  Pending<void> told_;
  Pending<Bundle> published_;
};

// One signature: holds on to the key it began with.
class JwtKeys::SignOperation {
 public:
  SignOperation(JwtKeys& owner, std::shared_ptr<Signer> signer, Done<SignedJwt> done)
      : owner_(owner), signer_(std::move(signer)), done_(std::move(done)) {}
  std::list<std::unique_ptr<SignOperation>>::iterator place;

  void start(const JwtClaims& claims, const std::string& key_id) {
    jwt_.issued_at = claims.issued_at;
    jwt_.expires_at = claims.expires_at;
    jwt_.token = jws_signing_input(jwt_header_json(signer_->type(), key_id), jwt_claims_json(claims));
    const HashAlg alg = hash_for(signer_->type());
    signer_->sign(alg, hash(alg, as_bytes(jwt_.token)), signed_.then<&SignOperation::on_signed>(this));
  }

 private:
  void on_signed(Result<Bytes> signature) {
    owner_.on_key_answered(*signer_, signature ? nullptr : &signature.error());
    if (!signature) return end(std::unexpected(std::move(signature).error().within("sign with the JWT key")));
    auto token = jws_seal(std::move(jwt_.token), signer_->type(), *signature);
    if (!token) return end(std::unexpected(std::move(token).error().within("sign with the JWT key")));
    jwt_.token = std::move(*token);
    owner_.metrics_.count("server_ca_sign_jwt_svid");
    end(std::move(jwt_));
  }
  void end(Result<SignedJwt> result) {
    Done<SignedJwt> done = std::move(done_);
    std::unique_ptr<SignOperation> self = std::move(*place);
    owner_.signing_.erase(self->place);
    self.reset();
    done(std::move(result));
  }

  JwtKeys& owner_;
  std::shared_ptr<Signer> signer_;
  Done<SignedJwt> done_;
  SignedJwt jwt_;
  Pending<Bytes> signed_;
};

JwtKeys::JwtKeys(Loop& loop, const Clock& clock, Logger& logger, Health& health, Store& store, KeyManager& keys,
                 BundleCache& bundles, JwtKeyOptions options, UpstreamAuthority* upstream, Metrics& metrics)
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
      tick_(loop),
      tell_deadline_(loop) {}
JwtKeys::~JwtKeys() = default;

void JwtKeys::start(Done<void> done) {
  started_ = std::move(done);
  keys_.list(listed_.then<&JwtKeys::on_keys>(this));
}

void JwtKeys::on_keys(Result<std::vector<ManagedKey>> keys) {
  if (!keys)
    return started_(std::unexpected(std::move(keys).error().within("list the keys of key manager " + keys_.name())));
  auto journal = read_jwt_journal(store_.read());
  if (!journal) return started_(std::unexpected(std::move(journal).error().within("read the JWT key journal")));
  journal_ = std::move(*journal);
  for (const JournalJwtKey& entry : journal_) {  // oldest first: the last one wins
    auto& slot = entry.status == AuthorityStatus::active ? current_ : other_;
    if (auto found = slot_of(entry, *keys)) slot = std::move(found);
  }
  if (current_) logger_.info("JWT key loaded", {{"slot", current_->slot_id}, {"local_authority_id", current_->key_id}});
  on_tick();
}

std::optional<JwtSlot> JwtKeys::slot_of(const JournalJwtKey& entry, const std::vector<ManagedKey>& keys) {
  if (entry.not_after <= clock_.now()) return std::nullopt;
  auto key = std::ranges::find_if(
      keys, [&](const ManagedKey& k) { return k.id == jwt_key_id(entry.slot_id) && k.key.spki() == entry.public_key; });
  if (key == keys.end()) return std::nullopt;
  return JwtSlot{entry.slot_id,  entry.key_id, entry.issued_at, entry.not_after, entry.status, make_signer(keys_, *key),
                 entry.issued_at};
}

// What is due is decided here and nowhere else; one thing at a time.
void JwtKeys::on_tick() {
  tick_.start<&JwtKeys::on_tick>(std::clamp(options_.ttl * 1000 / 24, kShortestTickMs, kTickMs), this);
  if (preparing_) return;
  const int64_t now = clock_.now();
  if (other_ && other_->not_after <= now) other_.reset();
  const bool prepared = other_ && other_->status == AuthorityStatus::prepared;
  if (prepared && (!current_ || !lost_.empty() ||
                   (now >= activation_time(current_->issued_at, current_->not_after) &&
                    !spreading(other_->published_at, other_->not_after, now, current_->not_after))))
    (void)activate();
  tell_upstream();
  if (journal_dirty_ && !journal_saved_.armed()) save_journal();
  const bool due = !current_ || now >= preparation_time(current_->issued_at, current_->not_after) ||
                   (!lost_.empty() && !just_made(current_->published_at, current_->not_after, now));
  if (due && !(other_ && other_->status == AuthorityStatus::prepared)) return prepare({});
  report({});
}

void JwtKeys::prepare(Done<JwtSlot> done) {
  if (preparing_) {
    return loop_.post([d = std::move(done)]() mutable {
      d(fail(Code::unavailable, "a JWT key is being prepared already: try again"));
    });
  }
  asked_ = std::move(done);
  // its key is about to be replaced: should what follows fail, it must not be activated
  if (other_ && other_->status == AuthorityStatus::prepared) other_.reset();
  prepare_ms_ = loop_.now_ms();
  preparing_ = std::make_unique<PrepareFlow>(*this, current_ && current_->slot_id == "A" ? "B" : "A", !current_,
                                             prepared_.then<&JwtKeys::on_prepared>(this));
  preparing_->start();
}

void JwtKeys::on_prepared(Result<JwtSlot> slot) {
  preparing_.reset();
  Done<JwtSlot> asked = std::move(asked_);
  metrics_.call("ca_manager_jwt_key_prepare", slot ? Code::ok : slot.error().code, loop_.now_ms() - prepare_ms_);
  if (!slot) {
    report(std::unexpected(Error(slot.error()).within("prepare JWT key")));
    return asked(std::move(slot));
  }
  logger_.info(current_ ? "JWT key prepared" : "JWT key activated",
               {{"slot", slot->slot_id},
                {"local_authority_id", slot->key_id},
                {"expiration", TimeText(slot->not_after).rfc3339()}});
  if (!current_) metrics_.count("manager_jwt_key_activate");
  (current_ ? other_ : current_) = *slot;
  if (current_->known_above) untold_.clear();
  if (!lost_.empty()) tick_.start<&JwtKeys::on_tick>(0, this);
  report({});
  asked(std::move(slot));
}

Result<void> JwtKeys::activate() {
  if (!other_ || other_->status != AuthorityStatus::prepared)
    return fail(Code::failed_precondition, "there is no prepared JWT key");
  std::swap(current_, other_);
  current_->status = AuthorityStatus::active;
  lost_.clear();
  if (current_->known_above) untold_.clear();
  metrics_.count("manager_jwt_key_activate");
  set_status(current_->key_id, AuthorityStatus::active);
  if (other_) {
    other_->status = AuthorityStatus::old;
    set_status(other_->key_id, AuthorityStatus::old);
  }
  // Not waited for: should it be lost, a restart finds the slots as they were and decides the same again.
  journal_dirty_ = true;
  if (!journal_saved_.armed()) save_journal();
  logger_.info("JWT key activated", {{"slot", current_->slot_id},
                                     {"local_authority_id", current_->key_id},
                                     {"expiration", TimeText(current_->not_after).rfc3339()}});
  return {};
}

void JwtKeys::set_status(const std::string& key_id, AuthorityStatus status) {
  for (JournalJwtKey& entry : journal_) {
    if (entry.key_id == key_id) entry.status = status;
  }
}

// The first key may have become active without the upstream authority, and what a process before this one told it is
// not known: telling it twice is harmless. A key that is no longer in the bundle was revoked and is not brought back.
void JwtKeys::tell_upstream() {
  if (upstream_ == nullptr || !current_ || current_->known_above || told_.armed() || bundles_.own() == nullptr) return;
  const auto& keys = bundles_.own()->jwt_authorities;
  const auto key = std::ranges::find(keys, current_->key_id, &JwtAuthority::key_id);
  if (key == keys.end()) return;
  telling_ = key->key_id;
  tell_deadline_.start<&JwtKeys::on_tell_deadline>(kTellAgainMs, this);
  upstream_->publish_jwt_key({key->key_id, key->spki, key->expires_at, key->tainted},
                             told_.then<&JwtKeys::on_told>(this));
}

void JwtKeys::on_tell_deadline() {
  told_.drop();
  on_told(fail(Code::deadline_exceeded, "no answer within 60 s"));
}

void JwtKeys::on_told(Result<void> told) {
  tell_deadline_.stop();
  if (!current_ || current_->key_id != telling_) return;  // the next one has its turn at the next tick
  current_->known_above = told || told.error().code == Code::unimplemented;
  const std::string why =
      current_->known_above ? std::string() : Error(told.error()).within("publish the JWT key upstream").text();
  if (why.empty() != untold_.empty()) {
    if (why.empty()) {
      logger_.info("JWT key is known to the upstream authority", {{"local_authority_id", telling_}});
    } else {
      logger_.warn("JWT key is known to this server alone, trying again", {{"error", why}});
    }
  }
  untold_ = why;
  if (!preparing_) report({});
}

// A TPM or an HSM may go away between two rotations. Told and logged when it changes. A key that was replaced or
// deleted does not come back: the next one takes over as soon as there is one.
void JwtKeys::on_key_answered(const Signer& signer, const Error* why) {
  if (!current_ || current_->signer.get() != &signer) return;  // of a rotation ago
  const bool gone = why != nullptr && (why->code == Code::failed_precondition || why->code == Code::not_found);
  if (gone) return on_key_lost(*why);
  const bool news = (why == nullptr) != unusable_.empty();
  unusable_ = why == nullptr ? std::string() : why->text();
  if (!news) return;
  if (why == nullptr) {
    logger_.info("The JWT key can be used again");
  } else {
    logger_.error("The JWT key cannot be used, no JWT-SVID can be signed", {{"error", unusable_}});
  }
  if (why != nullptr || !preparing_) report({});  // what is being made says it when it is there, or why it is not
}

void JwtKeys::on_key_lost(const Error& why) {
  if (!lost_.empty()) return;
  lost_ = why.text();
  unusable_.clear();
  logger_.error("The JWT key is lost, another one takes its place", {{"error", lost_}});
  report({});
  tick_.start<&JwtKeys::on_tick>(0, this);
}

void JwtKeys::save_journal() {
  journal_dirty_ = false;
  ChangeSet changes;
  put_jwt_journal(changes, journal_);
  store_.commit(std::move(changes), journal_saved_.then<&JwtKeys::on_journal_saved>(this));
}

void JwtKeys::on_journal_saved(Result<uint64_t> saved) {
  if (saved) return;
  journal_dirty_ = true;
  logger_.warn("JWT key journal not saved, trying again", {{"error", saved.error().text()}});
}

void JwtKeys::report(Result<void> outcome) {
  if (!outcome && !current_) {
    tick_.stop();  // whoever called start() says it, and may call it again
    return std::exchange(started_, {})(std::move(outcome));
  }
  if (!outcome) {
    const bool dead = current_->not_after <= clock_.now();
    health_.report("jwt_key", dead ? HealthState::failed : HealthState::degraded, outcome.error().message);
    logger_.error("JWT key rotation failed, trying again", {{"error", outcome.error().text()}});
  } else if (current_) {
    const bool expired = current_->not_after <= clock_.now();
    std::string why;
    if (!untold_.empty()) why = "the JWT key is known to this server alone: " + untold_;
    if (!unusable_.empty()) why = "the last signature with the JWT key failed: " + unusable_;
    if (!lost_.empty()) why = "the JWT key is lost, another one takes its place: " + lost_;
    if (expired) why = "the JWT key has expired";
    const HealthState bad = expired || !lost_.empty() ? HealthState::failed : HealthState::degraded;
    health_.report("jwt_key", why.empty() ? HealthState::ok : bad, why);
  }
  if (current_) std::exchange(started_, {})({});
}

void JwtKeys::sign(const JwtRequest& request, Done<SignedJwt> done) {
  const int64_t now = clock_.now();
  if (!current_ || current_->not_after <= now) {
    return loop_.post(
        [d = std::move(done)]() mutable { d(fail(Code::unavailable, "JWT key is not available for signing")); });
  }
  JwtClaims claims{request.id, request.audience, options_.issuer, {}, now, 0};
  claims.expires_at = std::min(now + request.ttl, current_->not_after);
  if (request.with_token_id) claims.token_id = base64url_encode(random_bytes(16));
  auto& operation = signing_.emplace_back(std::make_unique<SignOperation>(*this, current_->signer, std::move(done)));
  operation->place = std::prev(signing_.end());
  operation->start(claims, current_->key_id);
}

}  // namespace limpet::server

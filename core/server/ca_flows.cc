// SPDX-License-Identifier: Apache-2.0
#include "server/ca_flows.h"

#include <algorithm>

namespace limpet::server {

// ---- LoadCaFlow ----
void LoadCaFlow::start() { keys_.list(listed_.then<&LoadCaFlow::on_keys>(this)); }

void LoadCaFlow::on_keys(Result<std::vector<ManagedKey>> keys) {
  if (!keys)
    return done_(std::unexpected(std::move(keys).error().within("list the keys of key manager " + keys_.name())));
  auto journal = read_journal(store_.read());
  if (!journal) return done_(std::unexpected(std::move(journal).error().within("read the CA journal")));
  LoadedCa loaded;
  loaded.journal = std::move(*journal);
  for (const JournalX509Ca& entry : loaded.journal.x509_cas) {  // oldest first: the last one wins
    if (entry.status == AuthorityStatus::active) loaded.current = slot_of(entry, *keys);
    if (entry.status == AuthorityStatus::prepared) loaded.next = slot_of(entry, *keys);
  }
  done_(std::move(loaded));
}

std::optional<CaSlot> LoadCaFlow::slot_of(const JournalX509Ca& entry, const std::vector<ManagedKey>& keys) const {
  auto certificate = Certificate::parse(entry.certificate);
  if (!certificate || certificate->not_after <= clock_.now()) return std::nullopt;
  auto key = std::ranges::find_if(
      keys, [&](const ManagedKey& k) { return k.id == ca_key_id(entry.slot_id) && k.key == certificate->key; });
  if (key == keys.end()) return std::nullopt;
  CaSlot slot{entry.slot_id, entry.issued_at, nullptr};
  auto signer = make_signer(keys_, *key);
  slot.authority = std::make_shared<const Authority>(Authority{std::move(*certificate), std::move(signer)});
  return slot;
}

// ---- PrepareCaFlow ----
void PrepareCaFlow::start() {
  keys_.generate(ca_key_id(slot_id_), options_.key_type, generated_.then<&PrepareCaFlow::on_key>(this));
}

// 1. the key is there: the certificate that goes with it
void PrepareCaFlow::on_key(Result<ManagedKey> key) {
  if (!key) return end(std::unexpected(std::move(key).error().within("generate key " + ca_key_id(slot_id_))));
  key_ = std::move(*key);
  issued_at_ = clock_.now();
  HashAlg alg = hash_for(key_->type);
  tbs_ = encode_tbs(ca_template(options_.subject, options_.trust_domain, key_->key, options_.ttl, issued_at_),
                    key_->type, alg);
  keys_.sign(*key_, alg, hash(alg, tbs_), signed_.then<&PrepareCaFlow::on_signed>(this));
}

// 2. signed: its root goes into the bundle before anything is signed with it, the journal along with it
void PrepareCaFlow::on_signed(Result<Bytes> signature) {
  if (!signature) return end(std::unexpected(std::move(signature).error().within("sign with key " + key_->id)));
  Bytes der = seal_certificate(tbs_, key_->type, hash_for(key_->type), *signature);
  auto certificate = Certificate::parse(der);
  if (!certificate) return end(std::unexpected(std::move(certificate).error().within("parse the new CA certificate")));
  auto signer = make_signer(keys_, *key_);
  slot_ = {slot_id_, issued_at_,
           std::make_shared<const Authority>(Authority{std::move(*certificate), std::move(signer)})};
  new_journal_ = journal_with(slot_);
  bundles_.edit_own(
      [der = std::move(der), journal = new_journal_](Bundle& bundle, ChangeSet& also) {
        bundle.x509_authorities.push_back({der, false});
        put_journal(also, journal);
        return true;
      },
      published_.then<&PrepareCaFlow::on_published>(this));
}

// 3. on disk
void PrepareCaFlow::on_published(Result<Bundle> bundle) {
  if (!bundle) return end(std::unexpected(std::move(bundle).error().within("publish the new root")));
  journal_ = std::move(new_journal_);
  end(std::move(slot_));
}

void PrepareCaFlow::end(Result<CaSlot> slot) { done_(std::move(slot)); }

Journal PrepareCaFlow::journal_with(const CaSlot& slot) const {
  Journal journal = journal_;
  // what stood as prepared or active and is replaced by this one, will not be found again
  for (JournalX509Ca& entry : journal.x509_cas) {
    bool replaced = entry.slot_id == slot.slot_id || entry.status == AuthorityStatus::prepared || activate_;
    if (replaced) entry.status = AuthorityStatus::old;
  }
  JournalX509Ca entry;
  entry.slot_id = slot.slot_id;
  entry.issued_at = slot.issued_at;
  entry.not_after = slot.not_after();
  entry.certificate = slot.authority->certificate.der;
  entry.status = activate_ ? AuthorityStatus::active : AuthorityStatus::prepared;
  entry.authority_id = hex_encode(slot.authority->certificate.subject_key_id);
  journal.x509_cas.push_back(std::move(entry));
  while (journal.x509_cas.size() > kJournalEntries) journal.x509_cas.erase(journal.x509_cas.begin());
  return journal;
}

}  // namespace limpet::server

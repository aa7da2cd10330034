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
  CaSlot slot{entry.slot_id, entry.issued_at, nullptr, entry.upstream_authority_id, entry.issued_at};
  slot.authority = std::make_shared<const Authority>(
      Authority{std::move(*certificate), make_signer(keys_, *key), entry.upstream_chain});
  return slot;
}

// ---- PrepareCaFlow ----
void PrepareCaFlow::start() {
  if (parts_.spare && parts_.spare->id == ca_key_id(slot_id_)) {
    Done<ManagedKey> done = generated_.then<&PrepareCaFlow::on_key>(this);
    return parts_.loop.post([key = *parts_.spare, d = std::move(done)]() mutable { d(std::move(key)); });
  }
  parts_.keys.generate(ca_key_id(slot_id_), parts_.options.key_type, generated_.then<&PrepareCaFlow::on_key>(this));
}

// 1. the key is there: the certificate that goes with it, or the request for one
void PrepareCaFlow::on_key(Result<ManagedKey> key) {
  if (!key) return end(std::unexpected(std::move(key).error().within("generate key " + ca_key_id(slot_id_))));
  key_ = std::move(*key);
  parts_.spare = key_;
  issued_at_ = parts_.clock.now();
  HashAlg alg = hash_for(key_->type);
  const CaOptions& options = parts_.options;
  CertificateTemplate cert = ca_template(options.subject, options.trust_domain, key_->key, options.ttl, issued_at_);
  if (parts_.upstream == nullptr) {
    tbs_ = encode_tbs(cert, key_->type, alg);
    return parts_.keys.sign(*key_, alg, hash(alg, tbs_), signed_.then<&PrepareCaFlow::on_signed>(this));
  }
  tbs_ = encode_csr_info({cert.subject, cert.spki, cert.uris, {}});
  parts_.keys.sign(*key_, alg, hash(alg, tbs_), signed_.then<&PrepareCaFlow::on_csr_signed>(this));
}

// 2. signed by itself
void PrepareCaFlow::on_signed(Result<Bytes> signature) {
  if (!signature) return end(std::unexpected(std::move(signature).error().within("sign with key " + key_->id)));
  Bytes der = seal_certificate(tbs_, key_->type, hash_for(key_->type), *signature);
  auto certificate = Certificate::parse(der);
  if (!certificate) return end(std::unexpected(std::move(certificate).error().within("parse the new CA certificate")));
  publish(std::move(*certificate), {}, {std::move(der)});
}

// 2. or asked for upstream
void PrepareCaFlow::on_csr_signed(Result<Bytes> signature) {
  if (!signature) return end(std::unexpected(std::move(signature).error().within("sign with key " + key_->id)));
  Bytes csr = seal_csr(tbs_, key_->type, hash_for(key_->type), *signature);
  parts_.upstream->mint_ca(std::move(csr), parts_.options.ttl, minted_.then<&PrepareCaFlow::on_minted>(this));
}

// 3. the upstream authority signed: is it what was asked for?
void PrepareCaFlow::on_minted(Result<MintedCa> minted) {
  if (!minted) return end(std::unexpected(std::move(minted).error()));
  parts_.loop.work([m = std::move(*minted), key = key_->key, trust_domain = parts_.options.trust_domain,
                    now = parts_.clock.now()] { return check_minted(m, key, trust_domain, now); },
                   checked_.then<&PrepareCaFlow::on_checked>(this));
}

void PrepareCaFlow::on_checked(Result<CheckedCa> checked) {
  if (!checked) return end(std::unexpected(std::move(checked).error()));
  slot_.upstream_authority_id = std::move(checked->upstream_id);
  publish(std::move(checked->certificate), std::move(checked->chain), std::move(checked->roots));
}

// 4. its roots go into the bundle before anything is signed with it, the journal along with them
void PrepareCaFlow::publish(Certificate certificate, std::vector<Bytes> chain, std::vector<Bytes> roots) {
  slot_.slot_id = slot_id_;
  slot_.issued_at = issued_at_;
  slot_.authority = std::make_shared<const Authority>(
      Authority{std::move(certificate), make_signer(parts_.keys, *key_), std::move(chain)});
  new_journal_ = journal_with(slot_);
  parts_.bundles.edit_own(
      [added = std::move(roots), journal = new_journal_](Bundle& bundle, ChangeSet& also) {
        for (const Bytes& root : added) {
          if (std::ranges::find(bundle.x509_authorities, root, &X509Authority::der) == bundle.x509_authorities.end())
            bundle.x509_authorities.push_back({root, false});
        }
        put_journal(also, journal);
        return true;
      },
      published_.then<&PrepareCaFlow::on_published>(this));
}

// 5. on disk
void PrepareCaFlow::on_published(Result<Bundle> bundle) {
  if (!bundle) return end(std::unexpected(std::move(bundle).error().within("publish the new root")));
  parts_.journal = std::move(new_journal_);
  parts_.spare.reset();
  slot_.published_at = parts_.clock.now();
  end(std::move(slot_));
}

void PrepareCaFlow::end(Result<CaSlot> slot) { done_(std::move(slot)); }

Journal PrepareCaFlow::journal_with(const CaSlot& slot) const {
  Journal journal = parts_.journal;
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
  entry.upstream_chain = slot.authority->upstream_chain;
  entry.upstream_authority_id = slot.upstream_authority_id;
  journal.x509_cas.push_back(std::move(entry));
  while (journal.x509_cas.size() > kJournalEntries) journal.x509_cas.erase(journal.x509_cas.begin());
  return journal;
}

}  // namespace limpet::server

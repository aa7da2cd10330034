// SPDX-License-Identifier: Apache-2.0
// Opening, loading, saving and flushing; device_use.cc signs and unseals, device_facts.cc reads what the TPM holds.
#include "kit_tpm/device.h"

#include "kit_tpm/device_impl.h"
#include "kit_tpm/secret_session.h"

namespace limpet::tpm {
namespace {

constexpr uint64_t kTctiMagic = 0x4c494d5045540001;  // any number of our own

Tcti& tcti_of(TSS2_TCTI_CONTEXT* context) { return *reinterpret_cast<Tcti*>(context); }

TSS2_RC transmit(TSS2_TCTI_CONTEXT* context, size_t size, const uint8_t* command) {
  Tcti& tcti = tcti_of(context);
  tcti.answer.clear();
  auto sent = tcti.transport->send({command, size});
  if (sent) return TSS2_RC_SUCCESS;
  tcti.error = std::move(sent).error();
  return TSS2_TCTI_RC_IO_ERROR;
}

// A null `response` asks for the size only.
TSS2_RC receive(TSS2_TCTI_CONTEXT* context, size_t* size, uint8_t* response, int32_t) {
  Tcti& tcti = tcti_of(context);
  if (tcti.answer.empty()) {
    auto answer = tcti.transport->receive(tcti.answer_ms);
    if (!answer) {
      tcti.error = std::move(answer).error();
      return TSS2_TCTI_RC_IO_ERROR;
    }
    tcti.answer = std::move(*answer);
  }
  const size_t room = *size;
  *size = tcti.answer.size();
  if (response == nullptr) return TSS2_RC_SUCCESS;
  if (room < tcti.answer.size()) return TSS2_TCTI_RC_INSUFFICIENT_BUFFER;
  std::memcpy(response, tcti.answer.data(), tcti.answer.size());
  wipe(tcti.answer);  // an unsealed secret may be in it
  return TSS2_RC_SUCCESS;
}

void finalize(TSS2_TCTI_CONTEXT*) {}
TSS2_RC cancel(TSS2_TCTI_CONTEXT*) { return TSS2_TCTI_RC_NOT_IMPLEMENTED; }
TSS2_RC poll_handles(TSS2_TCTI_CONTEXT*, TSS2_TCTI_POLL_HANDLE*, size_t*) { return TSS2_TCTI_RC_NOT_IMPLEMENTED; }
TSS2_RC set_locality(TSS2_TCTI_CONTEXT*, uint8_t) { return TSS2_TCTI_RC_NOT_IMPLEMENTED; }

constexpr uint32_t handle_of(Hierarchy hierarchy) {
  return hierarchy == Hierarchy::owner         ? TPM2_RH_OWNER
         : hierarchy == Hierarchy::endorsement ? TPM2_RH_ENDORSEMENT
                                               : TPM2_RH_NULL;
}

// The sensitive half of a new object: its password and, for sealed data, the data.
struct Sensitive {
  TPM2B_SENSITIVE_CREATE value = {};
  ~Sensitive() { wipe(&value, sizeof value); }
  Result<void> set(BytesView auth, BytesView data) {
    TRY(fill(value.sensitive.userAuth, auth, "the password of a TPM object"));
    return fill(value.sensitive.data, data, "the data to seal in a TPM object");
  }
};

}  // namespace

Auths& Auths::password(BytesView secret) {
  TPMS_AUTH_COMMAND& auth = value.auths[value.count++];
  auth.sessionHandle = TPM2_RH_PW;
  const size_t size = std::min(secret.size(), sizeof auth.hmac.buffer);
  auth.hmac.size = static_cast<UINT16>(size);
  if (size > 0) std::memcpy(auth.hmac.buffer, secret.data(), size);
  return *this;
}

Auths& Auths::session(uint32_t handle) {
  value.auths[value.count++].sessionHandle = handle;
  return *this;
}

Result<TPM2B_PUBLIC> public_of(BytesView area) {
  TPM2B_PUBLIC out = {};
  size_t at = 0;
  if (Tss2_MU_TPMT_PUBLIC_Unmarshal(area.data(), area.size(), &at, &out.publicArea) != TSS2_RC_SUCCESS ||
      at != area.size()) {
    return fail(Code::invalid_argument, "malformed TPM public area");
  }
  return out;
}

Bytes bytes_of(const TPMT_PUBLIC& area) {
  Bytes out(sizeof area);
  size_t at = 0;
  if (Tss2_MU_TPMT_PUBLIC_Marshal(&area, out.data(), out.size(), &at) != TSS2_RC_SUCCESS) at = 0;
  out.resize(at);
  return out;
}

Bytes bytes_of(const TPMT_SIGNATURE& signature) {
  Bytes out(sizeof signature);
  size_t at = 0;
  if (Tss2_MU_TPMT_SIGNATURE_Marshal(&signature, out.data(), out.size(), &at) != TSS2_RC_SUCCESS) at = 0;
  out.resize(at);
  return out;
}

TPMI_ALG_HASH hash_of(HashAlg alg) {
  return alg == HashAlg::sha512 ? TPM2_ALG_SHA512 : alg == HashAlg::sha384 ? TPM2_ALG_SHA384 : TPM2_ALG_SHA256;
}

TPML_PCR_SELECTION selection_of(PcrSelection pcrs) {
  TPML_PCR_SELECTION out = {};
  out.count = 1;
  out.pcrSelections[0].hash = pcrs.bank;
  out.pcrSelections[0].sizeofSelect = 3;
  for (unsigned i = 0; i < 3; ++i) out.pcrSelections[0].pcrSelect[i] = static_cast<uint8_t>(pcrs.mask >> (8 * i));
  return out;
}

// ---- the connection ----

Tpm::Impl::~Impl() {
  if (sys != nullptr) Tss2_Sys_Finalize(sys);
  wipe(tcti.answer);
}

Result<void> Tpm::Impl::startup(Tpm& tpm) {
  auto started = repeat(tpm, "TPM2_Startup", [&] { return Tss2_Sys_Startup(sys, TPM2_SU_CLEAR); });
  return tpm.last_rc_ == TPM2_RC_INITIALIZE ? Result<void>() : started;  // somebody else was first
}

Result<std::unique_ptr<Tpm>> Device::open(int64_t answer_ms) const {
  auto impl = std::make_unique<Tpm::Impl>(settings_);
  TRY_ASSIGN(impl->tcti.transport, Transport::open(settings_.address, std::min(answer_ms, settings_.busy_ms)));
  impl->tcti.answer_ms = std::min(answer_ms, settings_.answer_ms);
  impl->tcti.common = {kTctiMagic, 1, transmit, receive, finalize, cancel, poll_handles, set_locality};
  const size_t size = Tss2_Sys_GetContextSize(0);
  impl->memory = SecretBytes(size);
  auto* const sys = reinterpret_cast<TSS2_SYS_CONTEXT*>(impl->memory.data());
  TSS2_ABI_VERSION abi = TSS2_ABI_VERSION_CURRENT;
  const TSS2_RC rc = Tss2_Sys_Initialize(sys, size, reinterpret_cast<TSS2_TCTI_CONTEXT*>(&impl->tcti.common), &abi);
  if (rc != TSS2_RC_SUCCESS) return fail(error_of("Tss2_Sys_Initialize", rc));
  impl->sys = sys;
  return std::unique_ptr<Tpm>(new Tpm(std::move(impl)));
}

Tpm::Tpm(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Tpm::~Tpm() {
  while (!impl_->loaded.empty()) flush(impl_->loaded.back());
}

void Tpm::Impl::flush(Tpm& tpm, uint32_t handle) {
  const uint32_t before = tpm.last_rc_;
  const char* const command = tpm.last_command_;
  (void)run(tpm, "TPM2_FlushContext", [&] { return Tss2_Sys_FlushContext(sys, handle); });
  tpm.last_rc_ = before;
  tpm.last_command_ = command;
}

void Tpm::flush(uint32_t handle) {
  if (std::erase(impl_->loaded, handle) != 0) impl_->flush(*this, handle);
}

Object::Object(Object&& other) noexcept
    : tpm_(std::exchange(other.tpm_, nullptr)),
      handle_(other.handle_),
      public_area_(std::move(other.public_area_)),
      name_(std::move(other.name_)),
      auth_(std::move(other.auth_)) {}

Object& Object::operator=(Object&& other) noexcept {
  if (this == &other) return *this;
  if (tpm_ != nullptr) tpm_->flush(handle_);
  tpm_ = std::exchange(other.tpm_, nullptr);
  handle_ = other.handle_;
  public_area_ = std::move(other.public_area_);
  name_ = std::move(other.name_);
  auth_ = std::move(other.auth_);
  return *this;
}

Object::~Object() {
  if (tpm_ != nullptr) tpm_->flush(handle_);
}

// ---- objects ----

Result<Object> Tpm::create_primary(Hierarchy hierarchy, BytesView area, BytesView auth) {
  TRY_ASSIGN(const TPM2B_PUBLIC wish, public_of(area));
  TRY_ASSIGN(const HashAlg name_hash, tpm_wire::hash_of(wish.publicArea.nameAlg));
  Sensitive sensitive;
  TRY(sensitive.set(auth, {}));
  Auths auths;
  auths.password(hierarchy == Hierarchy::owner         ? impl_->settings.owner_auth.view()
                 : hierarchy == Hierarchy::endorsement ? impl_->settings.endorsement_auth.view()
                                                       : BytesView());
  const TPM2B_DATA outside = {};
  const TPML_PCR_SELECTION no_pcrs = {};
  TPM2_HANDLE handle = 0;
  TPM2B_PUBLIC made = {};
  TPM2B_NAME name = {};
  TRY(impl_->run(*this, "TPM2_CreatePrimary", [&] {
    made = {};
    name = {};
    name.size = sizeof name.name;
    TPM2B_CREATION_DATA data = {};
    TPM2B_DIGEST hash = {};
    hash.size = sizeof hash.buffer;
    TPMT_TK_CREATION ticket = {};
    TSS2L_SYS_AUTH_RESPONSE answers = {};
    return Tss2_Sys_CreatePrimary(impl_->sys, handle_of(hierarchy), &auths.value, &sensitive.value, &wish, &outside,
                                  &no_pcrs, &handle, &made, &data, &hash, &ticket, &name, &answers);
  }));
  impl_->loaded.push_back(handle);
  Object object(this, handle, bytes_of(made.publicArea), name_of(name), auth);
  // Who trusts the name trusts the key: so it is not taken from the wire alone, nor how it is made.
  const TPMI_ALG_HASH alg = wish.publicArea.nameAlg;
  Bytes expected = {static_cast<uint8_t>(alg >> 8), static_cast<uint8_t>(alg)};
  append(expected, hash(name_hash, object.public_area_));
  if (made.publicArea.nameAlg != alg || object.name_ != expected) return fail(forged_answer("TPM2_CreatePrimary"));
  return object;
}

Result<Created> Tpm::create(const Object& parent, BytesView area, BytesView auth, BytesView data) {
  TRY_ASSIGN(const TPM2B_PUBLIC wish, public_of(area));
  Sensitive sensitive;
  TRY(sensitive.set(auth, data));
  Auths auths;
  auths.password(parent.auth_.view());
  const TPM2B_DATA outside = {};
  const TPML_PCR_SELECTION no_pcrs = {};
  TPM2B_PRIVATE private_area = {};
  TPM2B_PUBLIC public_area = {};
  TPM2B_CREATION_DATA creation = {};
  TPM2B_DIGEST hash = {};
  TPMT_TK_CREATION ticket = {};
  std::optional<SecretSession> hidden;
  if (!data.empty()) {
    TRY_ASSIGN(SecretSession started, SecretSession::start(*this, *impl_, parent));
    hidden.emplace(std::move(started));
  }
  auto done = impl_->run(*this, "TPM2_Create", [&] {
    private_area = {};
    private_area.size = sizeof private_area.buffer;
    public_area = {};
    creation = {};
    hash = {};
    hash.size = sizeof hash.buffer;
    ticket = {};
    TSS2L_SYS_AUTH_RESPONSE answers = {};
    if (hidden) {
      TSS2_RC rc = Tss2_Sys_Create_Prepare(impl_->sys, parent.handle_, &sensitive.value, &wish, &outside, &no_pcrs);
      if (rc == TSS2_RC_SUCCESS) rc = hidden->execute(auths, {parent.name_}, SecretSession::Hides::command);
      if (rc != TSS2_RC_SUCCESS) return rc;
      return Tss2_Sys_Create_Complete(impl_->sys, &private_area, &public_area, &creation, &hash, &ticket);
    }
    return Tss2_Sys_Create(impl_->sys, parent.handle_, &auths.value, &sensitive.value, &wish, &outside, &no_pcrs,
                           &private_area, &public_area, &creation, &hash, &ticket, &answers);
  });
  if (hidden && hidden->forged()) return fail(forged_answer("TPM2_Create"));
  if (!done && base_code(last_rc_) == kRcValue) {  // what several TPMs say to a key size they lack
    return fail(Code::unimplemented, done.error().message + ": this TPM does not make that kind of key");
  }
  if (!done) return fail(std::move(done).error());
  Created out;
  out.blob = {bytes_of(public_area.publicArea), bytes_of(private_area)};
  out.creation_hash = bytes_of(hash);
  size_t size = 0;
  out.creation_data.resize(sizeof creation);
  if (Tss2_MU_TPMS_CREATION_DATA_Marshal(&creation.creationData, out.creation_data.data(), out.creation_data.size(),
                                         &size) != TSS2_RC_SUCCESS) {
    size = 0;
  }
  out.creation_data.resize(size);
  size = 0;
  out.creation_ticket.resize(sizeof ticket);
  if (Tss2_MU_TPMT_TK_CREATION_Marshal(&ticket, out.creation_ticket.data(), out.creation_ticket.size(), &size) !=
      TSS2_RC_SUCCESS) {
    size = 0;
  }
  out.creation_ticket.resize(size);
  return out;
}

Result<Object> Tpm::load(const Object& parent, const KeyBlob& blob, BytesView auth) {
  TRY_ASSIGN(const TPM2B_PUBLIC public_area, public_of(blob.public_area));
  TPM2B_PRIVATE private_area = {};
  TRY(fill(private_area, blob.private_area, "the private half of a TPM key"));
  Auths auths;
  auths.password(parent.auth_.view());
  TPM2_HANDLE handle = 0;
  TPM2B_NAME name = {};
  TRY(impl_->run(*this, "TPM2_Load", [&] {
    name = {};
    name.size = sizeof name.name;
    TSS2L_SYS_AUTH_RESPONSE answers = {};
    return Tss2_Sys_Load(impl_->sys, parent.handle_, &auths.value, &private_area, &public_area, &handle, &name,
                         &answers);
  }));
  impl_->loaded.push_back(handle);
  return Object(this, handle, blob.public_area, name_of(name), auth);
}

Result<Object> Tpm::read_persistent(uint32_t handle, BytesView auth) {
  TPM2B_PUBLIC public_area = {};
  TPM2B_NAME name = {};
  TRY(impl_->run(*this, "TPM2_ReadPublic", [&] {
    public_area = {};
    name = {};
    name.size = sizeof name.name;
    TPM2B_NAME qualified = {};
    qualified.size = sizeof qualified.name;
    return Tss2_Sys_ReadPublic(impl_->sys, handle, nullptr, &public_area, &name, &qualified, nullptr);
  }));
  return Object(this, handle, bytes_of(public_area.publicArea), name_of(name), auth);
}

Result<Bytes> Tpm::save(const Object& object) {
  TPMS_CONTEXT context = {};
  TRY(impl_->run(*this, "TPM2_ContextSave", [&] {
    context = {};
    return Tss2_Sys_ContextSave(impl_->sys, object.handle_, &context);
  }));
  Bytes out(sizeof context);
  size_t size = 0;
  if (Tss2_MU_TPMS_CONTEXT_Marshal(&context, out.data(), out.size(), &size) != TSS2_RC_SUCCESS) {
    return fail(Code::internal, "TPM2_ContextSave: the context cannot be encoded");
  }
  out.resize(size);
  return out;
}

Result<Object> Tpm::load_saved(BytesView saved, Bytes public_area, Bytes name, BytesView auth) {
  TPMS_CONTEXT context = {};
  size_t at = 0;
  if (Tss2_MU_TPMS_CONTEXT_Unmarshal(saved.data(), saved.size(), &at, &context) != TSS2_RC_SUCCESS) {
    return fail(Code::invalid_argument, "malformed TPM context");
  }
  TPM2_HANDLE handle = 0;
  auto loaded =
      impl_->run(*this, "TPM2_ContextLoad", [&] { return Tss2_Sys_ContextLoad(impl_->sys, &context, &handle); });
  if (!loaded) return fail(std::move(loaded).error());
  impl_->loaded.push_back(handle);
  return Object(this, handle, std::move(public_area), std::move(name), auth);
}

}  // namespace limpet::tpm

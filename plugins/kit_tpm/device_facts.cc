// SPDX-License-Identifier: Apache-2.0
// What a TPM says of itself: capabilities, PCRs, NV indices, endorsement keys and their certificates.
#include <bit>

#include "crypto/der.h"
#include "kit_tpm/device_impl.h"

namespace limpet::tpm {
namespace {

constexpr size_t kMaxNvBytes = 16u << 10;
constexpr uint32_t kEkCertificateRsa = 0x01c00002;
constexpr uint32_t kEkNonceRsa = 0x01c00003;
constexpr uint32_t kEkCertificateEcc = 0x01c0000a;
constexpr uint32_t kEkNonceEcc = 0x01c0000b;
constexpr uint16_t kSmallestNvBuffer = 512;  // what every PC client TPM reads at once

template <class Impl>
Result<TPMU_CAPABILITIES> capability(Tpm& tpm, Impl& impl, TPM2_CAP what, uint32_t first, uint32_t count) {
  TPMS_CAPABILITY_DATA data = {};
  TRY(impl.run(tpm, "TPM2_GetCapability", [&] {
    data = {};
    TPMI_YES_NO more = 0;
    return Tss2_Sys_GetCapability(impl.sys, nullptr, what, first, count, &more, &data, nullptr);
  }));
  if (data.capability != what) return fail(Code::internal, "TPM2_GetCapability: the answer is to another question");
  return data.data;
}

// Four characters in a number; what is not printable is dropped.
void append_text(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    const char c = static_cast<char>(value >> shift & 0xff);
    if (c > ' ' && c < 0x7f) out += c;
  }
}

// Some TPMs put "10 01 00" and a length in front of the certificate; most pad it behind.
Result<Bytes> cut_certificate(BytesView text) {
  if (text.size() > 5 && text[0] == 0x10 && text[1] == 0x01 && text[2] == 0x00) text = text.subspan(5);
  der::Reader reader(text);
  auto certificate = reader.expect(der::kSequence);
  if (!certificate) return fail(Code::failed_precondition, "what is there is no certificate");
  return to_bytes(certificate->whole);
}

}  // namespace

Result<Info> Tpm::info() {
  TRY_ASSIGN(const TPMU_CAPABILITIES got, capability(*this, *impl_, TPM2_CAP_TPM_PROPERTIES, TPM2_PT_FIXED, 32));
  Info out;
  uint32_t firmware[2] = {};
  const TPML_TAGGED_TPM_PROPERTY& all = got.tpmProperties;
  for (size_t i = 0; i < std::min<size_t>(all.count, std::size(all.tpmProperty)); ++i) {
    const auto [property, value] = all.tpmProperty[i];
    if (property == TPM2_PT_MANUFACTURER) append_text(out.manufacturer, value);
    if (property >= TPM2_PT_VENDOR_STRING_1 && property <= TPM2_PT_VENDOR_STRING_4) append_text(out.model, value);
    if (property == TPM2_PT_FIRMWARE_VERSION_1) firmware[0] = value;
    if (property == TPM2_PT_FIRMWARE_VERSION_2) firmware[1] = value;
  }
  for (const uint32_t half : firmware) {
    out.firmware +=
        (out.firmware.empty() ? "" : ".") + std::to_string(half >> 16) + "." + std::to_string(half & 0xffff);
  }
  return out;
}

Result<bool> Tpm::has_curve(uint16_t curve) {
  TRY_ASSIGN(const TPMU_CAPABILITIES got, capability(*this, *impl_, TPM2_CAP_ECC_CURVES, 0, 32));
  const TPML_ECC_CURVE& all = got.eccCurves;
  const auto count = std::min<size_t>(all.count, std::size(all.eccCurves));
  return std::find(all.eccCurves, all.eccCurves + count, curve) != all.eccCurves + count;
}

Result<std::vector<uint16_t>> Tpm::pcr_banks() {
  TRY_ASSIGN(const TPMU_CAPABILITIES got, capability(*this, *impl_, TPM2_CAP_PCRS, 0, 1));
  std::vector<uint16_t> out;
  const TPML_PCR_SELECTION& all = got.assignedPCR;
  for (size_t i = 0; i < std::min<size_t>(all.count, std::size(all.pcrSelections)); ++i) {
    const TPMS_PCR_SELECTION& bank = all.pcrSelections[i];
    const uint8_t* bits = bank.pcrSelect;
    if (bank.sizeofSelect >= 3 && bits[0] == 0xff && bits[1] == 0xff && bits[2] == 0xff) out.push_back(bank.hash);
  }
  return out;
}

Result<std::vector<Bytes>> Tpm::read_pcrs(PcrSelection pcrs) {
  std::vector<Bytes> out;
  uint32_t left = pcrs.mask & 0xffffff;
  while (left != 0) {  // a TPM hands out eight at a time, or fewer
    const TPML_PCR_SELECTION wish = selection_of({pcrs.bank, left});
    TPML_PCR_SELECTION given = {};
    TPML_DIGEST values = {};
    TRY(impl_->run(*this, "TPM2_PCR_Read", [&] {
      given = {};
      values = {};
      UINT32 counter = 0;
      return Tss2_Sys_PCR_Read(impl_->sys, nullptr, &wish, &counter, &given, &values, nullptr);
    }));
    uint32_t mask = 0;
    const TPMS_PCR_SELECTION& bank = given.pcrSelections[0];
    if (given.count == 1 && bank.hash == pcrs.bank) {
      for (size_t i = 0; i < std::min<size_t>(bank.sizeofSelect, 3); ++i)
        mask |= uint32_t{bank.pcrSelect[i]} << (8 * i);
    }
    // the lowest of those asked for, one value each
    const uint32_t count = static_cast<uint32_t>(std::popcount(mask));
    if (mask == 0 || (left & (std::bit_floor(mask) * 2 - 1)) != mask || values.count != count) {
      return fail(Code::unimplemented, "TPM2_PCR_Read: this TPM does not have these PCRs in bank " +
                                           std::to_string(pcrs.bank) + "; enable the bank in the firmware");
    }
    for (size_t i = 0; i < std::min<size_t>(count, std::size(values.digests)); ++i) {
      out.push_back(bytes_of(values.digests[i]));
    }
    left &= ~mask;
  }
  return out;
}

Result<void> Tpm::extend_pcr(uint32_t pcr, BytesView sha256_digest) {
  TPML_DIGEST_VALUES values = {};
  if (sha256_digest.size() != 32) return fail(Code::invalid_argument, "a SHA-256 digest has 32 bytes");
  values.count = 1;
  values.digests[0].hashAlg = TPM2_ALG_SHA256;
  std::ranges::copy(sha256_digest, values.digests[0].digest.sha256);
  Auths auths;
  auths.password({});
  return impl_->run(*this, "TPM2_PCR_Extend", [&] {
    TSS2L_SYS_AUTH_RESPONSE answers = {};
    return Tss2_Sys_PCR_Extend(impl_->sys, pcr, &auths.value, &values, &answers);
  });
}

Result<Bytes> Tpm::read_nv(uint32_t index) {
  TPM2B_NV_PUBLIC found = {};
  TRY(impl_->run(*this, "TPM2_NV_ReadPublic", [&] {
    found = {};
    TPM2B_NAME name = {};
    name.size = sizeof name.name;
    return Tss2_Sys_NV_ReadPublic(impl_->sys, index, nullptr, &found, &name, nullptr);
  }));
  const size_t size = found.nvPublic.dataSize;
  if (size > kMaxNvBytes) return fail(Code::resource_exhausted, "TPM2_NV_Read: the index holds more than 16 KiB");
  const bool by_owner = (found.nvPublic.attributes & TPMA_NV_AUTHREAD) == 0;
  Auths auths;
  auths.password(by_owner ? impl_->settings.owner_auth.view() : BytesView());
  Bytes out;
  while (out.size() < size) {
    const auto part = static_cast<UINT16>(std::min<size_t>(size - out.size(), kSmallestNvBuffer));
    TPM2B_MAX_NV_BUFFER data = {};
    TRY(impl_->run(*this, "TPM2_NV_Read", [&] {
      data = {};
      data.size = sizeof data.buffer;
      TSS2L_SYS_AUTH_RESPONSE answers = {};
      return Tss2_Sys_NV_Read(impl_->sys, by_owner ? TPM2_RH_OWNER : index, index, &auths.value, part,
                              static_cast<UINT16>(out.size()), &data, &answers);
    }));
    if (data.size != part) return fail(Code::internal, "TPM2_NV_Read: a part of another length than asked for");
    append(out, BytesView(data.buffer, data.size));
  }
  return out;
}

Result<Object> Tpm::create_ek(EkKind kind, bool with_nonce) {
  const bool rsa = kind == EkKind::rsa_2048;
  Bytes nonce;
  if (with_nonce) {
    auto found = read_nv(rsa ? kEkNonceRsa : kEkNonceEcc);
    if (!found && found.error().code != Code::not_found) return fail(std::move(found).error());
    if (found) nonce = std::move(*found);
  }
  return create_primary(Hierarchy::endorsement, rsa ? ek_rsa(nonce) : ek_ecc(nonce));
}

Result<Bytes> Tpm::ek_certificate(EkKind kind) {
  const auto within = [kind](Error error) {
    return fail(std::move(error).within("NV index " + ek_certificate_index(kind)));
  };
  const auto text = read_nv(kind == EkKind::rsa_2048 ? kEkCertificateRsa : kEkCertificateEcc);
  if (!text) return within(text.error());
  auto certificate = cut_certificate(*text);
  if (!certificate) return within(certificate.error());
  return certificate;
}

std::string ek_certificate_index(EkKind kind) {
  return tpm_wire::hex_text(kind == EkKind::rsa_2048 ? kEkCertificateRsa : kEkCertificateEcc);
}

}  // namespace limpet::tpm

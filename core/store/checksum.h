// SPDX-License-Identifier: Apache-2.0
#pragma once
// The checksum that stands before every value in the data file: CRC-32C (RFC 3720) over table number, key and value,
// four bytes, little-endian. It tells damage by the disk or the memory from a sound value; it is no protection against
// a forger. Pure functions, any thread.

#include "base/bytes.h"

namespace limpet {

inline constexpr size_t kChecksumBytes = 4;

// Continues `crc` (0 at the start) over more bytes.
uint32_t crc32c(uint32_t crc, BytesView bytes);
uint32_t value_checksum(uint8_t table, BytesView key, BytesView value);
void store_checksum(uint8_t* out, uint32_t crc);
// Is `stored` (checksum, then value) sound?
bool checksum_holds(uint8_t table, BytesView key, BytesView stored);

}  // namespace limpet

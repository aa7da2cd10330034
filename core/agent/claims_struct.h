// SPDX-License-Identifier: Apache-2.0
#pragma once
// A token's claims as the google.protobuf.Struct of a ValidateJWTSVIDResponse. Pure.

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "proto/google/protobuf/struct.pb.h"

namespace limpet::agent {

// `json` is an object that parse_jwt_svid() took. `aud` becomes a list in any case. With `only`, claims that are not
// among it are left out. Members come in the order of their names. The Message that owns `out` releases it.
void write_claims(google_protobuf_Struct& out, std::string_view json, const std::vector<std::string>* only);

}  // namespace limpet::agent

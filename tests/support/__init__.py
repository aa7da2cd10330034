# SPDX-License-Identifier: Apache-2.0
"""What the conformance and integration tests share: they drive the built binary from outside, with foreign libraries."""

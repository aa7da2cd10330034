# SPDX-License-Identifier: Apache-2.0
"""The trust bundle, and the debug service."""
import grpc
import pytest
from cryptography import x509

from support import pki, process, stubs
from support.node import Node

B = stubs.bundle
T = stubs.types


def get(server, **mask):
    return server.bundles.GetBundle(B.GetBundleRequest(output_mask=T.BundleMask(**mask) if mask else None))


def refused(call, request):
    with pytest.raises(grpc.RpcError) as error:
        call(request)
    return error.value.code(), error.value.details()


def test_the_bundle_has_the_root_a_sequence_number_and_the_bare_name(server):
    bundle = get(server)
    assert bundle.trust_domain == 'example.org' and bundle.sequence_number == 1  # the root, then the first JWT key
    assert len(bundle.x509_authorities) == 1 and not bundle.x509_authorities[0].tainted
    root = x509.load_der_x509_certificate(bundle.x509_authorities[0].asn1)
    assert pki.uris_of(root) == ['spiffe://example.org']


def test_the_bundle_honours_its_mask(server):
    only = get(server, sequence_number=True)
    assert only.trust_domain == 'example.org' and only.sequence_number and not only.x509_authorities
    only = get(server, x509_authorities=True)
    assert only.x509_authorities and not only.sequence_number


def test_an_empty_mask_gives_the_name_alone(server):
    bundle = server.bundles.GetBundle(B.GetBundleRequest(output_mask=T.BundleMask()))
    assert bundle == T.Bundle(trust_domain='example.org')


def test_there_is_one_bundle(server):
    assert server.bundles.CountBundles(B.CountBundlesRequest()).count == 1


def test_appending_adds_each_authority_once_and_raises_the_sequence_number(make):
    mine = make(process.Server)
    before = get(mine)
    extra = pki.Authority('example.org')
    der = pki.der_of(extra.certificate)
    after = mine.bundles.AppendBundle(B.AppendBundleRequest(x509_authorities=[T.X509Certificate(asn1=der)]))
    assert [a.asn1 for a in after.x509_authorities] == [before.x509_authorities[0].asn1, der]
    assert after.sequence_number == before.sequence_number + 1
    again = mine.bundles.AppendBundle(B.AppendBundleRequest(x509_authorities=[T.X509Certificate(asn1=der)]))
    assert len(again.x509_authorities) == 2 and again.sequence_number == after.sequence_number
    key = T.JWTKey(public_key=pki.public_der(pki.new_key()), key_id='kid-1', expires_at=4_000_000_000)
    with_key = mine.bundles.AppendBundle(B.AppendBundleRequest(jwt_authorities=[key]))
    assert [k.key_id for k in with_key.jwt_authorities] == [before.jwt_authorities[0].key_id, 'kid-1']
    assert len(with_key.x509_authorities) == 2


def test_an_appended_authority_outlives_a_restart_and_its_certificates_are_accepted(make):
    mine = make(process.Server, trust_domain='example.org')
    extra = pki.Authority('example.org')
    mine.bundles.AppendBundle(B.AppendBundleRequest(x509_authorities=[T.X509Certificate(asn1=pki.der_of(extra.certificate))]))
    mine.kill()
    mine.start()
    assert len(get(mine).x509_authorities) == 2
    chain, key = extra.leaf(['spiffe://example.org/foreign'])
    with mine.tls(chain, key) as link:
        assert link.unary('spire.api.server.bundle.v1.Bundle/GetBundle', b'', T.Bundle).trust_domain == 'example.org'


def test_appending_nothing_is_invalid(server):
    assert refused(server.bundles.AppendBundle, B.AppendBundleRequest()) == (
        grpc.StatusCode.INVALID_ARGUMENT, 'no authorities to append')


@pytest.mark.parametrize('bad', [
    B.AppendBundleRequest(x509_authorities=[T.X509Certificate(asn1=b'garbage')]),
    B.AppendBundleRequest(x509_authorities=[T.X509Certificate()]),
    B.AppendBundleRequest(jwt_authorities=[T.JWTKey(public_key=b'garbage', key_id='k')]),
    B.AppendBundleRequest(jwt_authorities=[T.JWTKey(public_key=b'x')])])
def test_appending_garbage_is_invalid_and_changes_nothing(server, bad):
    before = get(server)
    assert refused(server.bundles.AppendBundle, bad)[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert get(server) == before


def test_the_bundle_needs_no_certificate(server):
    with server.tls() as link:
        assert link.unary('spire.api.server.bundle.v1.Bundle/GetBundle', b'', T.Bundle) == get(server)


def test_publishing_wit_authorities_is_unimplemented_or_denied(server):
    code, _ = refused(server.bundles.PublishWITAuthority, B.PublishWITAuthorityRequest())
    assert code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNIMPLEMENTED)


def test_debug_info_counts_and_shows_the_chain(make):
    mine = make(process.Server)
    Node.attest(mine)
    mine.add('/a', '/host', ['unix:uid:1'])
    mine.add('/b', '/host', ['unix:uid:1'])
    info = mine.debugs.GetInfo(stubs.debug.GetInfoRequest())
    assert (info.agents_count, info.entries_count, info.federated_bundles_count) == (1, 2, 1)
    assert info.uptime >= 0
    assert [c.id.path for c in info.svid_chain] == ['/spire/server', '']
    assert info.svid_chain[0].subject == 'O=SPIRE,C=US'
    assert info.svid_chain[1].subject.endswith('O=SPIFFE,C=US')
    assert info.svid_chain[1].expires_at >= info.svid_chain[0].expires_at > 0

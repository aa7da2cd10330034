# SPDX-License-Identifier: Apache-2.0
"""Servers below servers: each asks the one above for its CA through an agent of that one."""
import os

from support import pki, process, stubs
from support.chains import mint, split_der, subject, verify
from support.link import Link
from support.process import eventually, toml_plugin

UID = 'unix:uid:%d' % os.getuid()


def upstream(port, agent):
    return toml_plugin('UpstreamAuthority', 'spire', {
        'server_address': '127.0.0.1', 'server_port': port, 'workload_api_socket': agent.socket})


def agent_below(make, server):
    return make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots())


def server_below(make, server, agent, path, port=None, **more):
    """A server whose CA the one behind `agent` signs."""
    server.add(path, '/host', [UID], downstream=True)
    return make(process.Server, plugins=upstream(port or server.port, agent), **more)


def bundle_of(server):
    return server.bundles.GetBundle(stubs.bundle.GetBundleRequest())


def test_three_levels_deep_every_workload_verifies_against_the_one_root(make, folder):
    root = make(process.Server)
    agent = agent_below(make, root)
    middle = server_below(make, root, agent, '/middle')
    middle_agent = agent_below(make, middle)
    third = server_below(make, middle, middle_agent, '/third')
    third_agent = agent_below(make, third)
    third.add('/deep', '/host', [UID])

    def fetched():
        with third_agent.workload() as workload:
            return workload.fetch().svids[0]
    svid = eventually(fetched)
    assert svid.spiffe_id == 'spiffe://example.org/deep'
    chain = split_der(svid.x509_svid)
    assert len(chain) == 3 and verify(folder, chain, root.roots()) == 'ok'
    assert svid.bundle == b''.join(a.asn1 for a in bundle_of(root).x509_authorities)
    # the number is the length of the signer's chain without its root, which is 1 for the first two
    assert 'OU=DOWNSTREAM-1' in subject(chain[2]) and 'OU=DOWNSTREAM-1' in subject(chain[1])
    for server, depth in ((root, 1), (middle, 2), (third, 3)):
        assert [a.asn1 for a in bundle_of(server).x509_authorities] == [a.asn1 for a in bundle_of(root).x509_authorities]
        assert len(mint(server)) == depth and verify(folder, mint(server), root.roots()) == 'ok'


def test_a_root_that_is_new_above_reaches_the_bundle_below(make):
    root = make(process.Server)
    middle = server_below(make, root, agent_below(make, root), '/middle')
    other = pki.Authority()
    root.bundles.AppendBundle(stubs.bundle.AppendBundleRequest(
        x509_authorities=[stubs.types.X509Certificate(asn1=pki.der_of(other.certificate))],
        jwt_authorities=[stubs.types.JWTKey(public_key=pki.public_der(pki.new_key()), key_id='above', expires_at=4102444800)]))
    eventually(lambda: pki.der_of(other.certificate) in [a.asn1 for a in bundle_of(middle).x509_authorities])
    assert 'above' in [k.key_id for k in bundle_of(middle).jwt_authorities]


def test_a_jwt_key_published_two_levels_down_is_known_at_the_root(make):
    root = make(process.Server)
    middle = server_below(make, root, agent_below(make, root), '/middle')
    middle.add('/below', '/host', [UID], downstream=True)
    key = pki.new_key()
    svid = middle.svids.MintX509SVID(stubs.svid.MintX509SVIDRequest(csr=pki.csr(key, ['spiffe://example.org/below']))).svid
    with middle.tls(pki.pem_from_der(*svid.cert_chain), pki.key_pem(key)) as link:
        link.unary('spire.api.server.bundle.v1.Bundle/PublishJWTAuthority', stubs.bundle.PublishJWTAuthorityRequest(
            jwt_authority=stubs.types.JWTKey(public_key=pki.public_der(key), key_id='deep', expires_at=4102444800)),
            stubs.bundle.PublishJWTAuthorityResponse)
    for server in (root, middle):
        assert 'deep' in [k.key_id for k in bundle_of(server).jwt_authorities]


def test_a_server_that_has_no_ca_yet_waits_for_the_one_above(make):
    root = make(process.Server)
    agent = agent_below(make, root)
    middle = make(process.Server, plugins=upstream(root.port, agent), ca_ttl='60s', start=False).spawn()
    eventually(lambda: middle.has_logged('no identity issued'))
    assert middle.running()
    root.add('/middle', '/host', [UID])  # an identity, but not one that may have a CA
    eventually(lambda: middle.has_logged('authorization denied for method /spire.api.server.svid.v1.SVID/NewDownstreamX509CA'))
    assert middle.running()
    for entry in root.entries.ListEntries(stubs.entry.ListEntriesRequest()).entries:
        if entry.spiffe_id.path == '/middle':
            root.remove(entry.id)
    root.add('/middle', '/host', [UID], downstream=True)
    eventually(middle.check_ready, what='the server below')


def test_an_unreachable_server_above_stops_nothing_below(make, folder):
    root = make(process.Server)
    link = Link(root.port)
    try:
        agent = agent_below(make, root)
        middle = server_below(make, root, agent, '/middle', port=link.port, ca_ttl='24s')
        first = mint(middle)
        link.cut()
        eventually(lambda: middle.has_logged('Upstream authority cannot be asked, trying again; what was signed stays valid'))
        eventually(lambda: middle.has_logged('X509 CA rotation failed, trying again'), wait=60)
        assert verify(folder, mint(middle), root.roots()) == 'ok'
        assert middle.healthy()
        link.mend()
        eventually(lambda: middle.has_logged('Upstream authority can be asked again'), wait=60)
        eventually(lambda: mint(middle)[1] != first[1], wait=60)  # the next authority
        assert verify(folder, mint(middle), root.roots()) == 'ok'
    finally:
        link.close()


def test_a_restart_without_the_server_above_serves_on(make, folder):
    root = make(process.Server)
    roots = root.roots()
    agent = agent_below(make, root)
    middle = server_below(make, root, agent, '/middle')
    before = mint(middle)
    middle.stop()
    root.kill()
    middle.start()
    after = mint(middle)
    assert after[1:] == before[1:] and verify(folder, after, roots) == 'ok'
    root.start()  # so that it ends as the others do


def test_another_server_under_the_same_address_is_not_believed(make):
    root = make(process.Server)
    stranger = make(process.Server)
    agent = agent_below(make, root)
    root.add('/middle', '/host', [UID], downstream=True)
    middle = make(process.Server, plugins=upstream(stranger.port, agent), start=False).spawn()
    eventually(lambda: middle.has_logged('authentication handshake failed'))
    assert middle.running()

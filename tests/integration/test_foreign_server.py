# SPDX-License-Identifier: Apache-2.0
"""Our agent with a SPIRE server that is played by hand: its own CA, python's TLS and HTTP/2, both shapes of sync, and a
server's whims."""
import os
import threading

import pytest

from support import h2grpc, pki, process, stubs
from support.fake_server import Failure, FakeServer
from support.process import eventually

W = stubs.workload
ME = 'unix:uid:%d' % os.geteuid()
PARENT = '/spire/agent/join_token/the-token'


@pytest.fixture
def fake():
    fake = FakeServer()
    yield fake
    fake.close()


@pytest.fixture
def pair(fake, make):
    """The fake with one entry for this process, and an agent attested to it and serving."""
    fake.entry = fake.add('/mine', PARENT, [ME], id='m-mine')
    return fake, started(fake, make)


def started(fake, make, **more):
    agent = make(process.Agent, fake.port, join_token='the-token', start=False, **{'roots': fake.authority.pem(), **more})
    agent.spawn()
    eventually(lambda: ids(agent), what='the first SVID; log:\n' + agent.logs())
    return agent


def ids(agent):
    with agent.workload() as workload:
        return [s.spiffe_id.replace('spiffe://example.org', '') for s in workload.fetch(wait=10).svids]


def still_serves(agent):
    assert agent.running(), agent.logs()
    assert ids(agent) == ['/mine']


# ---- attestation ----
def test_attestation_presents_no_certificate_and_everything_else_does(pair):
    fake, agent = pair
    peers = {}
    for method, peer in list(fake.calls):
        peers.setdefault(method, set()).add(peer)
    assert peers['AttestAgent'] == {None}
    for method in ('SyncAuthorizedEntries', 'BatchNewX509SVID'):
        assert peers[method] == {'spiffe://example.org' + PARENT}


def test_the_agents_csr_is_as_spires(fake, make):
    seen = []
    real = fake._svid

    def spy(csr, path, ttl):
        if '/spire/agent/' in path:
            from cryptography import x509
            seen.append(x509.load_der_x509_csr(csr))
        return real(csr, path, ttl)
    fake._svid = spy
    fake.add('/mine', PARENT, [ME])
    started(fake, make)
    assert seen[0].is_signature_valid and seen[0].public_key().curve.name == 'secp256r1'


def test_insecure_bootstrap_takes_the_bundle_of_the_first_server_and_keeps_to_it(fake, make):
    fake.add('/mine', PARENT, [ME])
    agent = started(fake, make, roots=None)
    # another CA under the same name: the agent must not follow
    fake.authority, known = pki.Authority('example.org'), fake.authority
    fake.new_certificate()
    fake.drop()
    before = fake.handshakes
    eventually(lambda: agent.has_logged('Could not') or fake.handshakes > before)
    still_serves(agent)
    fake.authority = known
    fake.new_certificate()
    count = fake.count('SyncAuthorizedEntries')
    eventually(lambda: fake.count('SyncAuthorizedEntries') > count, what='contact with the old CA')


def spawn(fake, make, **more):
    agent = make(process.Agent, fake.port, join_token='the-token', start=False, roots=fake.authority.pem(), **more)
    return agent.spawn()


@pytest.mark.parametrize('what', ['another id', 'another trust domain', 'another authority', 'two ids', 'a workload'])
def test_a_server_that_is_not_the_server_gets_no_token(fake, make, what):
    authority, uris = fake.authority, [fake.server_id]
    if what == 'another id':
        uris = ['spiffe://example.org/spire/agent/x']
    elif what == 'another trust domain':
        authority, uris = pki.Authority('other.org'), ['spiffe://other.org/spire/server']
    elif what == 'another authority':
        authority = pki.Authority('example.org')
    elif what == 'two ids':
        uris = [fake.server_id, 'spiffe://example.org/two']
    elif what == 'a workload':
        uris = ['spiffe://example.org/web']
    fake.new_certificate(uris, authority)
    fake.add('/mine', PARENT, [ME])
    agent = spawn(fake, make)
    eventually(lambda: agent.logs().count('level=warn') + agent.logs().count('level=error') >= 1, what='a warning')
    assert not fake.calls and agent.running()
    fake.new_certificate()
    eventually(lambda: ids(agent), wait=60, what='attestation once the server is right')


def test_a_refused_token_is_retried_for_ever_and_says_why(fake, make):
    fake.tokens.clear()
    fake.add('/mine', PARENT, [ME])
    agent = spawn(fake, make)
    eventually(lambda: agent.has_logged('join token does not exist or has already been used'))
    eventually(lambda: fake.count('AttestAgent') >= 2, wait=60, what='a second attempt')
    assert agent.running()
    fake.tokens.add('the-token')
    eventually(lambda: ids(agent), wait=60)


def test_before_attestation_workloads_are_told_unavailable(fake, make):
    fake.tokens.clear()
    agent = spawn(fake, make)
    eventually(lambda: os.path.exists(agent.socket))

    def told():
        with agent.workload() as workload:
            try:
                workload.fetch(wait=25)
            except h2grpc.RpcError as error:
                return error.code
    assert told() in (h2grpc.UNAVAILABLE, h2grpc.PERMISSION_DENIED)


# ---- both shapes of sync ----
@pytest.mark.parametrize('shape', ['never', 'always', 'many'])
@pytest.mark.parametrize('count', [1, 3, 600])
def test_every_shape_of_sync_at_every_size(fake, make, shape, count):
    fake.revisions = shape
    for i in range(count - 1):
        fake.add('/other/%d' % i, PARENT, ['unix:uid:%d' % (100000 + i)], id='x-%03d' % i)
    fake.add('/mine', PARENT, [ME], id='zz-mine')
    agent = started(fake, make)
    assert ids(agent) == ['/mine']
    added = fake.add('/added', PARENT, [ME], id='a-added')
    eventually(lambda: ids(agent) == ['/added', '/mine'])
    with fake.lock:
        del fake.entries[added.id]
    eventually(lambda: ids(agent) == ['/mine'])
    with fake.lock:
        fake.entries['zz-mine'].spiffe_id.path = '/renamed'
        fake.entries['zz-mine'].revision_number += 1
    eventually(lambda: ids(agent) == ['/renamed'])


def test_the_agent_asks_for_what_it_needs(fake, make):
    fake.add('/mine', PARENT, [ME])
    masks = []
    real = fake._sync

    def spy(messages, peer):
        first = next(messages)
        masks.append(stubs.entry.SyncAuthorizedEntriesRequest.FromString(first).output_mask)

        def again():
            yield first
            yield from messages
        return real(again(), peer)
    fake._sync = spy
    started(fake, make)
    for field in ('spiffe_id', 'selectors', 'federates_with', 'revision_number', 'hint', 'created_at', 'store_svid'):
        assert getattr(masks[0], field), field


def test_no_entries_then_one(fake, make):
    agent = spawn(fake, make)
    eventually(lambda: fake.count('SyncAuthorizedEntries') >= 1)
    fake.add('/mine', PARENT, [ME])
    eventually(lambda: ids(agent) == ['/mine'])


def test_entries_that_go_end_the_stream(pair):
    fake, agent = pair
    with agent.workload() as workload:
        stream = workload.watch()
        assert stream.receive(W.X509SVIDResponse).svids
        with fake.lock:
            fake.entries.clear()
        with pytest.raises(h2grpc.RpcError) as error:
            while stream.receive(W.X509SVIDResponse) is not None:
                pass
    assert (error.value.code, error.value.message) == (h2grpc.PERMISSION_DENIED, 'no identity issued')


# ---- older and stranger servers ----
def unimplemented(peer):
    raise Failure(h2grpc.UNIMPLEMENTED, 'unknown method')


def test_a_server_without_sync_is_asked_for_all_entries(fake, make):
    fake.rules['SyncAuthorizedEntries'] = unimplemented
    fake.add('/mine', PARENT, [ME])
    started(fake, make)
    assert fake.count('GetAuthorizedEntries') >= 1


def test_a_server_without_post_status_is_served_all_the_same(fake, make):
    fake.rules['PostStatus'] = unimplemented
    fake.add('/mine', PARENT, [ME])
    still_serves(started(fake, make))


def test_an_absent_item_status_is_ok(fake, make):
    real = fake._sign

    def without_status(messages, peer):
        for answer in real(messages, peer):
            for result in answer.results:
                if result.status.code == 0:
                    result.ClearField('status')
            yield answer
    fake._sign = without_status
    fake.add('/mine', PARENT, [ME])
    still_serves(started(fake, make))


def test_goaway_is_followed_by_a_new_connection_and_nothing_fails(pair):
    fake, agent = pair
    with agent.workload() as workload:
        stream = workload.watch()
        stream.receive(W.X509SVIDResponse)
        for _ in range(3):
            before, shaken = fake.count('SyncAuthorizedEntries'), fake.handshakes
            fake.goaway()
            eventually(lambda: fake.count('SyncAuthorizedEntries') > before + 1 and fake.handshakes > shaken)
        still_serves(agent)
        assert not stream.closed()


def test_dropped_connections_are_made_again(pair):
    fake, agent = pair
    for _ in range(3):
        before = fake.count('SyncAuthorizedEntries')
        fake.drop()
        still_serves(agent)
        eventually(lambda: fake.count('SyncAuthorizedEntries') > before)


def test_a_stalled_call_does_not_stop_serving_or_signing_later(pair):
    fake, agent = pair
    release = threading.Event()

    def stall(peer):
        release.wait(60)
        raise Failure(h2grpc.UNAVAILABLE, 'stalled')
    fake.rules['SyncAuthorizedEntries'] = stall
    before = fake.count('SyncAuthorizedEntries')
    eventually(lambda: fake.count('SyncAuthorizedEntries') > before)
    still_serves(agent)
    fake.rules.clear()
    release.set()
    fake.add('/new', PARENT, [ME], id='a-new')
    eventually(lambda: ids(agent) == ['/new', '/mine'], wait=60)


@pytest.mark.parametrize('code', [h2grpc.UNAVAILABLE, h2grpc.INTERNAL, h2grpc.RESOURCE_EXHAUSTED, h2grpc.PERMISSION_DENIED,
                                  h2grpc.UNKNOWN])
def test_errors_without_details_change_nothing(pair, code):
    fake, agent = pair

    def fail(peer):
        raise Failure(code, 'something')
    for method in ('SyncAuthorizedEntries', 'GetBundle', 'BatchNewX509SVID'):
        fake.rules[method] = fail
    before = fake.count('SyncAuthorizedEntries')
    eventually(lambda: fake.count('SyncAuthorizedEntries') > before + 1)
    still_serves(agent)
    assert fake.count('AttestAgent') == 1
    fake.rules.clear()
    fake.add('/new', PARENT, [ME], id='a-new')
    eventually(lambda: ids(agent) == ['/new', '/mine'], wait=60)


@pytest.mark.parametrize('reason', [1, 2, 3, 5])
def test_a_denial_that_asks_for_it_makes_the_agent_attest_again(pair, reason):
    fake, agent = pair
    fake.tokens.add('the-token')

    def deny(peer):
        raise Failure(h2grpc.PERMISSION_DENIED, 'authorization denied', reason)
    fake.rules['SyncAuthorizedEntries'] = deny
    eventually(lambda: fake.count('AttestAgent') >= 2, wait=60, what='attesting again')
    fake.rules.clear()
    still_serves(agent)
    fake.add('/new', PARENT, [ME], id='a-new')
    eventually(lambda: ids(agent) == ['/new', '/mine'], wait=60)


def test_a_reattestation_that_fails_ends_nothing(pair):
    fake, agent = pair   # the token is used up: attesting again fails

    def deny(peer):
        raise Failure(h2grpc.PERMISSION_DENIED, 'authorization denied', 2)
    fake.rules['SyncAuthorizedEntries'] = deny
    eventually(lambda: fake.count('AttestAgent') >= 2, wait=60)
    still_serves(agent)
    assert not agent.process.poll()


def test_a_ban_ends_no_process(pair):
    fake, agent = pair

    def deny(peer):
        raise Failure(h2grpc.PERMISSION_DENIED, 'authorization denied', 4)
    for method in ('SyncAuthorizedEntries', 'BatchNewX509SVID', 'RenewAgent'):
        fake.rules[method] = deny
    eventually(lambda: 'ban' in agent.logs().lower(), what='a word about the ban')
    assert agent.running()


# ---- renewal ----
def test_the_agents_svid_is_renewed_and_the_new_one_used(fake, make):
    fake.agent_ttl = 20
    fake.add('/mine', PARENT, [ME])
    agent = started(fake, make)
    eventually(lambda: fake.count('RenewAgent') >= 2, wait=90, what='two renewals')
    still_serves(agent)
    assert fake.count('AttestAgent') == 1


def test_a_reattestable_agent_attests_instead_of_renewing(fake, make):
    fake.agent_ttl, fake.reattestable = 8, True
    fake.add('/mine', PARENT, [ME])
    agent = started(fake, make)
    eventually(lambda: fake.count('AttestAgent') >= 2, wait=60)
    assert fake.count('RenewAgent') == 0
    still_serves(agent)


def test_workload_svids_are_renewed_before_they_expire(fake, make):
    fake.svid_ttl = 16
    fake.add('/mine', PARENT, [ME])
    agent = started(fake, make)
    with agent.workload() as workload:
        stream, serials, ends = workload.watch(), [], None
        import datetime
        while len(serials) < 4:
            from cryptography import x509
            leaf = x509.load_der_x509_certificate(stream.receive(W.X509SVIDResponse, 60).svids[0].x509_svid)
            if leaf.serial_number in serials:
                continue
            assert ends is None or datetime.datetime.utcnow() < ends, 'a gap'
            serials.append(leaf.serial_number)
            ends = leaf.not_valid_after


def test_renewed_svids_have_new_keys_and_the_old_are_served_while_the_server_cannot_sign(fake, make):
    fake.svid_ttl = 20
    fake.add('/mine', PARENT, [ME])
    agent = started(fake, make)

    def fail(peer):
        raise Failure(h2grpc.UNAVAILABLE, 'no')
    fake.rules['BatchNewX509SVID'] = fail
    with agent.workload() as workload:
        first = workload.fetch().svids[0]
    before = fake.count('BatchNewX509SVID')
    eventually(lambda: fake.count('BatchNewX509SVID') > before, wait=60)
    with agent.workload() as workload:
        assert workload.fetch().svids[0] == first
    fake.rules.clear()

    def renewed():
        with agent.workload() as workload:
            return workload.fetch().svids[0].x509_svid != first.x509_svid
    eventually(renewed, wait=60)


def test_new_roots_reach_workloads(pair):
    fake, agent = pair
    fake.extra_roots.append(pki.Authority('example.org'))
    with agent.workload() as workload:
        stream = workload.watch_bundles()

        def roots():
            return stream.receive(W.X509BundlesResponse).bundles['spiffe://example.org']
        wanted = sum(len(pki.der_of(a.certificate)) for a in [fake.authority] + fake.extra_roots)
        while len(roots()) != wanted:
            pass


# ---- answers against the rules ----
def test_garbage_in_answers_is_an_error_and_no_more(pair):
    fake, agent = pair

    class Garbage:
        def SerializeToString(self):
            return b'\xff\xff\xff\xff'
    for method in ('SyncAuthorizedEntries', 'GetBundle', 'BatchNewX509SVID'):
        fake.rules[method] = lambda peer: [Garbage()]
    before = fake.count('SyncAuthorizedEntries')
    eventually(lambda: fake.count('SyncAuthorizedEntries') > before + 1)
    still_serves(agent)


def test_a_bundle_of_another_trust_domain_or_without_roots_is_not_taken(pair):
    fake, agent = pair
    for wrong in (stubs.types.Bundle(trust_domain='other.org', x509_authorities=fake.bundle().x509_authorities),
                  stubs.types.Bundle(trust_domain='example.org')):
        fake.rules['GetBundle'] = lambda peer, wrong=wrong: [wrong]
        before = fake.count('GetBundle')
        eventually(lambda: fake.count('GetBundle') > before + 1)
        with agent.workload() as workload:
            bundle = workload.fetch().svids[0].bundle
        assert bundle == pki.der_of(fake.authority.certificate)


def test_an_svid_for_another_key_or_id_is_not_handed_out(fake, make):
    real = fake._svid
    fake.wrong = True

    def wrong(csr, path, ttl):
        if fake.wrong and '/spire/agent/' not in path:
            certificate, svid = real(pki.csr(pki.new_key()), path, ttl)
            return certificate, svid
        return real(csr, path, ttl)
    fake._svid = wrong
    fake.add('/mine', PARENT, [ME])
    agent = spawn(fake, make)
    eventually(lambda: len(fake.signed) >= 2, wait=60, what='a second try after a wrong SVID')
    with pytest.raises(h2grpc.RpcError):
        with agent.workload() as workload:
            workload.fetch(wait=25)
    fake.wrong = False
    eventually(lambda: ids(agent) == ['/mine'], wait=90)


def test_an_entry_that_breaks_the_rules_does_not_take_the_others_with_it(pair):
    fake, agent = pair
    bad = fake.add('/bad//path', PARENT, [ME], id='a-bad')
    fake.add('/good', PARENT, [ME], id='b-good')
    eventually(lambda: ids(agent) == ['/good', '/mine'])
    assert bad.id in fake.entries


def test_an_svid_response_with_too_few_results_is_an_error_and_no_more(pair):
    fake, agent = pair
    fake.rules['BatchNewX509SVID'] = lambda peer: [stubs.svid.BatchNewX509SVIDResponse()]
    fake.add('/new', PARENT, [ME], id='a-new')
    before = fake.count('BatchNewX509SVID')
    eventually(lambda: fake.count('BatchNewX509SVID') > before)
    assert '/mine' in ids(agent)
    fake.rules.clear()
    eventually(lambda: ids(agent) == ['/new', '/mine'], wait=60)

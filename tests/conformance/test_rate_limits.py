# SPDX-License-Identifier: Apache-2.0
"""Rate limits (wire notes 2.5): callers are delayed, not rejected, except when they ask for more than a bucket ever
holds or could not be served before their deadline.

Times are only ever held to be long enough (see support/rates.py)."""
import time

import pytest

from support import h2grpc, pki, process, stubs
from support.node import Node
from support.rates import ATTEST, BUNDLE, LONG, SOON, answer, begin, end, owe_attestations, taken

S = stubs.svid
SIGN, JWT, RENEW = 'svid.v1.SVID/BatchNewX509SVID', 'svid.v1.SVID/NewJWTSVID', 'agent.v1.Agent/RenewAgent'
DOWNSTREAM, PUBLISH = 'svid.v1.SVID/NewDownstreamX509CA', 'bundle.v1.Bundle/PublishJWTAuthority'
STATUS = 'agent.v1.Agent/PostStatus'
WORDS = {SIGN: 'certificate signing rate limiting', JWT: 'JWT signing request rate limiting', RENEW: 'renew agent rate limiting',
         DOWNSTREAM: 'downstream CA signing rate limit', PUBLISH: 'key publishing rate limiting',
         ATTEST: 'attest agent rate limiting', STATUS: 'post status rate limiting'}
BURST = 500


@pytest.fixture(scope='module')
def server():
    """As configured by default: everything is limited."""
    role = process.Server(ratelimit={'attestation': True, 'signing': True})
    try:
        yield role.start()
    finally:
        role.close()


@pytest.fixture(scope='module')
def free():
    """Attestation and signing are not limited."""
    role = process.Server()
    try:
        yield role.start()
    finally:
        role.close()


@pytest.fixture(scope='module')
def node(server):
    return Node.attest(server)


@pytest.fixture(scope='module')
def downstream(server):
    server.add('/downstream', '/nowhere', ['unix:uid:1'], downstream=True)
    key = pki.new_key()
    answer = server.svids.MintX509SVID(S.MintX509SVIDRequest(csr=pki.csr(key, ['spiffe://example.org/downstream'])))
    return pki.pem_from_der(*answer.svid.cert_chain), pki.key_pem(key)


class Source:
    """Connections from an address of their own: each test has its own buckets."""
    number = 1

    def __init__(self, server):
        Source.number += 1
        self.server, self.address = server, '127.0.0.%d' % Source.number

    def connect(self, who=None):
        if isinstance(who, Node):
            who = pki.pem_from_der(*who.chain), pki.key_pem(who.key)
        link = self.server.tls(*(who or (None, None)), source=self.address)
        taken(link, BUNDLE)  # the server has verified the chain: calls are taken as they are sent
        return link


@pytest.fixture
def source(server):
    return Source(server)


def batch(count):
    return S.BatchNewX509SVIDRequest(params=[S.NewX509SVIDParams()] * count)  # each item is refused, and counted


def owe(link, seconds):
    """The first call takes what is in the signing bucket, each of the others waits a second longer."""
    calls = [begin(link, SIGN, batch(BURST)) for _ in range(seconds + 1)]
    taken(link, STATUS)
    return calls


def waits(link, call):
    taken(link, STATUS)
    return not call.closed() and not call._whole()


def test_a_batch_of_exactly_the_burst_need_not_wait(source, node):
    with source.connect(node) as link:
        assert answer(link, SIGN, batch(BURST), timeout='999m')[0] != h2grpc.RESOURCE_EXHAUSTED, 'an empty bucket takes a second'


def test_a_batch_above_the_burst_is_exhausted_whatever_the_bucket_holds(source, node):
    with source.connect(node) as link:
        assert answer(link, SIGN, batch(BURST + 1)) == (
            h2grpc.RESOURCE_EXHAUSTED,
            'rejecting request due to certificate signing rate limiting: rate (501) exceeds burst size (500)')
        assert answer(link, SIGN, batch(BURST), timeout='999m')[0] != h2grpc.RESOURCE_EXHAUSTED, 'the refused batch has taken nothing'


def test_the_next_batches_are_delayed_and_not_rejected(source, node):
    with source.connect(node) as link:
        begun = time.monotonic()
        for call in owe(link, 3):
            assert len(call.receive(S.BatchNewX509SVIDResponse, wait=60).results) == BURST
        assert time.monotonic() - begun > 2.8


@pytest.mark.parametrize('method', [SIGN, RENEW, DOWNSTREAM])
def test_x509_signing_and_renewal_share_one_bucket(source, node, downstream, method):
    request = batch(1) if method == SIGN else b''
    with source.connect(node) as link, source.connect(downstream if method == DOWNSTREAM else node) as second:
        calls = owe(link, LONG)
        assert answer(second, method, request, timeout=SOON) == (
            h2grpc.RESOURCE_EXHAUSTED,
            'rejecting request due to %s: rate: Wait(n=1) would exceed context deadline' % WORDS[method])
        assert waits(link, calls[-1]), 'said at once, not when the deadline passes'


@pytest.mark.parametrize('method', [SIGN, RENEW, DOWNSTREAM])
def test_who_has_the_time_waits_and_is_answered(source, node, downstream, method):
    with source.connect(node) as link, source.connect(downstream if method == DOWNSTREAM else node) as second:
        begun = time.monotonic()
        owe(link, 1)
        assert answer(second, method, batch(1) if method == SIGN else b'')[0] in (h2grpc.OK, h2grpc.INVALID_ARGUMENT)
        assert time.monotonic() - begun > 0.9


@pytest.mark.parametrize('method', [JWT, STATUS, PUBLISH])
def test_the_other_buckets_are_their_own(source, node, downstream, method):
    with source.connect(node) as link, source.connect(downstream if method == PUBLISH else node) as second:
        calls = owe(link, LONG)
        assert answer(second, method)[0] in (h2grpc.OK, h2grpc.INVALID_ARGUMENT)
        assert waits(link, calls[-1])


def test_each_source_address_has_its_own_bucket(server, node):
    with Source(server).connect(node) as link, Source(server).connect(node) as other:
        calls = owe(link, LONG)
        assert answer(other, SIGN, batch(BURST))[0] == h2grpc.OK
        assert waits(link, calls[-1])


def test_connections_of_one_address_share_its_bucket(source, node):
    with source.connect(node) as link, source.connect(node) as other:
        owe(link, LONG)
        assert answer(other, SIGN, batch(1), timeout=SOON)[0] == h2grpc.RESOURCE_EXHAUSTED


def test_a_refused_wait_takes_nothing(source, node):
    with source.connect(node) as link:
        owe(link, LONG)
        for _ in range(20):
            assert answer(link, SIGN, batch(BURST), timeout=SOON)[0] == h2grpc.RESOURCE_EXHAUSTED
        call = begin(link, SIGN, batch(1), timeout='%dS' % (LONG + 10))  # refused if only eleven of them had taken theirs
        assert waits(link, call), 'not behind the refused ones'


def test_callers_that_leave_while_they_wait_harm_nobody(source, node):
    for _ in range(3):
        with source.connect(node) as link:
            for call in owe(link, 3)[1:]:
                call.cancel()
    with Source(source.server).connect(node) as link:
        assert answer(link, SIGN, batch(1))[0] == h2grpc.OK


def test_post_status_is_held_to_ten_a_second(source, node):
    with source.connect(node) as link:
        begun = time.monotonic()
        calls = [begin(link, STATUS) for _ in range(25)]
        code = answer(link, STATUS, timeout='5m')[0]
        assert code in (h2grpc.RESOURCE_EXHAUSTED, h2grpc.DEADLINE_EXCEEDED) or time.monotonic() - begun > 1.5
        for call in calls:
            assert call.receive(stubs.agent.PostStatusResponse) is not None
        assert time.monotonic() - begun > 1.3


def test_publishing_keys_is_limited_even_where_signing_is_not(free):
    free.add('/downstream', '/nowhere', ['unix:uid:1'], downstream=True)
    key = pki.new_key()
    chain = free.svids.MintX509SVID(S.MintX509SVIDRequest(csr=pki.csr(key, ['spiffe://example.org/downstream']))).svid.cert_chain
    with free.tls(pki.pem_from_der(*chain), pki.key_pem(key)) as link:
        begun = time.monotonic()
        for _ in range(3):
            calls = [begin(link, PUBLISH) for _ in range(250)]  # a connection holds so many at once
            assert {end(call)[0] for call in calls} == {h2grpc.INVALID_ARGUMENT}
        assert time.monotonic() - begun > 0.4


# ---- attestation ----
def test_attestation_is_delayed_to_one_a_second_and_not_rejected(server, source):
    tokens = [server.token() for _ in range(3)]
    begun = time.monotonic()
    for token in tokens:
        Node.attest(server, token, source.connect())
    assert time.monotonic() - begun > 1.9


def test_attestation_without_the_time_to_wait_is_exhausted_and_keeps_its_token(server, source):
    token = server.token()
    with source.connect() as first, source.connect() as link:
        owe_attestations(first)
        assert answer(link, ATTEST, Node(server).attest_request(token), timeout=SOON) == (
            h2grpc.RESOURCE_EXHAUSTED,
            'rejecting request due to attest agent rate limiting: rate: Wait(n=1) would exceed context deadline')
    Node.attest(server, token, Source(server).connect())


def test_switched_off_attestation_is_not_limited(free):
    with Source(free).connect() as link:
        calls = [begin(link, ATTEST, timeout=SOON) for _ in range(LONG)]
        assert h2grpc.RESOURCE_EXHAUSTED not in {end(call)[0] for call in calls}


def test_switched_off_signing_has_no_burst(free):
    with Node.attest(free).connect() as link:
        assert answer(link, SIGN, batch(4 * BURST + 1))[0] == h2grpc.OK


# ---- the local socket ----
def test_the_local_socket_is_not_limited(server):
    with server.connect() as link:
        calls = [begin(link, ATTEST, timeout=SOON) for _ in range(LONG)]
        assert h2grpc.RESOURCE_EXHAUSTED not in {end(call)[0] for call in calls}

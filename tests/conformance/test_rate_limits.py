# SPDX-License-Identifier: Apache-2.0
"""Rate limits (wire notes 2.5): callers are delayed, not rejected, except when they ask for more than a bucket ever
holds or could not be served before their deadline."""
import time

import pytest

from support import h2grpc, pki, process, stubs
from support.h2grpc import RpcError
from support.node import PREFIX, Node

S = stubs.svid
SIGN, JWT, RENEW = 'svid.v1.SVID/BatchNewX509SVID', 'svid.v1.SVID/NewJWTSVID', 'agent.v1.Agent/RenewAgent'
DOWNSTREAM, PUBLISH = 'svid.v1.SVID/NewDownstreamX509CA', 'bundle.v1.Bundle/PublishJWTAuthority'
STATUS, ATTEST = 'agent.v1.Agent/PostStatus', 'agent.v1.Agent/AttestAgent'
WORDS = {SIGN: 'certificate signing rate limiting', JWT: 'JWT signing request rate limiting', RENEW: 'renew agent rate limiting',
         DOWNSTREAM: 'downstream CA signing rate limit', PUBLISH: 'key publishing rate limiting',
         ATTEST: 'attest agent rate limiting', STATUS: 'post status rate limiting'}
BURST, HELD = 500, 3  # seconds that a bucket is emptied for


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
        answer(link, 'bundle.v1.Bundle/GetBundle')  # the server has verified the chain: calls are taken as they are sent
        return link


@pytest.fixture
def source(server):
    return Source(server)


def batch(count):
    return S.BatchNewX509SVIDRequest(params=[S.NewX509SVIDParams()] * count)  # each item is refused, and counted


def answer(link, method, request=b'', timeout=None):
    """(code, text, seconds) of one call."""
    begun = time.monotonic()
    call = link.start(PREFIX + method, timeout=timeout)
    call.send(request, end=True)
    try:
        call.receive(wait=60)
        code, text = h2grpc.OK, ''
    except RpcError as error:
        code, text = error.code, error.message
    return code, text, time.monotonic() - begun


def empty_the_signing_bucket(link):
    """The first call takes what is there, the others wait; all are answered in their turn."""
    calls = []
    for _ in range(HELD + 1):
        call = link.start(PREFIX + SIGN)
        call.send(batch(BURST), end=True)
        calls.append(call)
    link.pump(calls[0]._whole, 60)  # connections are read in no order: what comes on another one comes after this
    return calls


def test_a_batch_of_exactly_the_burst_is_answered_at_once(source, node):
    with source.connect(node) as link:
        code, _, took = answer(link, SIGN, batch(BURST))
    assert code == h2grpc.OK and took < 0.8


def test_a_batch_above_the_burst_is_exhausted_whatever_the_bucket_holds(source, node):
    with source.connect(node) as link:
        code, text, took = answer(link, SIGN, batch(BURST + 1))
        assert (code, text) == (h2grpc.RESOURCE_EXHAUSTED,
                                'rejecting request due to certificate signing rate limiting: rate (501) exceeds burst size (500)')
        assert took < 0.8
        assert answer(link, SIGN, batch(BURST))[2] < 0.8, 'the refused batch has taken nothing'


def test_the_next_batches_are_delayed_and_not_rejected(source, node):
    with source.connect(node) as link:
        begun = time.monotonic()
        for call in empty_the_signing_bucket(link):
            assert len(call.receive(S.BatchNewX509SVIDResponse, wait=60).results) == BURST
        assert HELD - 0.2 < time.monotonic() - begun < HELD + 8


@pytest.mark.parametrize('method', [SIGN, RENEW, DOWNSTREAM])
def test_x509_signing_and_renewal_share_one_bucket(source, node, downstream, method):
    with source.connect(node) as link, source.connect(downstream if method == DOWNSTREAM else node) as second:
        empty_the_signing_bucket(link)
        request = batch(1) if method == SIGN else b''
        code, text, took = answer(second, method, request, timeout='1500m')
        assert (code, text) == (h2grpc.RESOURCE_EXHAUSTED,
                                'rejecting request due to %s: rate: Wait(n=1) would exceed context deadline' % WORDS[method])
        assert took < 1, 'said at once, not when the deadline passes'
        code, _, took = answer(second, method, request)
        assert code in (h2grpc.OK, h2grpc.INVALID_ARGUMENT) and took > 0.8, 'delayed, then answered'


@pytest.mark.parametrize('method', [JWT, STATUS, PUBLISH])
def test_the_other_buckets_are_their_own(source, node, downstream, method):
    with source.connect(node) as link, source.connect(downstream if method == PUBLISH else node) as second:
        empty_the_signing_bucket(link)
        code, _, took = answer(second, method)
        assert code in (h2grpc.OK, h2grpc.INVALID_ARGUMENT) and took < HELD - 1


def test_each_source_address_has_its_own_bucket(server, node):
    first, second = Source(server), Source(server)
    with first.connect(node) as link, second.connect(node) as other:
        empty_the_signing_bucket(link)
        assert answer(other, SIGN, batch(BURST))[2] < HELD - 1


def test_connections_of_one_address_share_its_bucket(source, node):
    with source.connect(node) as link, source.connect(node) as other:
        empty_the_signing_bucket(link)
        assert answer(other, SIGN, batch(1), timeout='300m')[0] == h2grpc.RESOURCE_EXHAUSTED


def test_a_refused_wait_takes_nothing(source, node):
    with source.connect(node) as link:
        empty_the_signing_bucket(link)
        for _ in range(20):
            assert answer(link, SIGN, batch(BURST), timeout='100m')[0] == h2grpc.RESOURCE_EXHAUSTED
        code, _, took = answer(link, SIGN, batch(1))
        assert code == h2grpc.OK and took < HELD + 8, 'not behind the refused ones'


def test_callers_that_leave_while_they_wait_harm_nobody(source, node):
    for _ in range(3):
        with source.connect(node) as link:
            for call in empty_the_signing_bucket(link)[1:]:
                call.cancel()
    with Source(source.server).connect(node) as link:
        assert answer(link, SIGN, batch(1))[0] == h2grpc.OK


def test_post_status_is_held_to_ten_a_second(source, node):
    with source.connect(node) as link:
        begun = time.monotonic()
        calls = []
        for _ in range(25):
            call = link.start(PREFIX + STATUS)
            call.send(b'', end=True)
            calls.append(call)
        assert answer(link, STATUS, timeout='5m')[0] in (h2grpc.RESOURCE_EXHAUSTED, h2grpc.DEADLINE_EXCEEDED)
        for call in calls:
            assert call.receive(stubs.agent.PostStatusResponse) is not None
        assert time.monotonic() - begun > 1.3


def test_publishing_keys_is_limited_even_where_signing_is_not(free):
    free.add('/downstream', '/nowhere', ['unix:uid:1'], downstream=True)
    key = pki.new_key()
    chain = free.svids.MintX509SVID(S.MintX509SVIDRequest(csr=pki.csr(key, ['spiffe://example.org/downstream']))).svid.cert_chain
    with free.tls(pki.pem_from_der(*chain), pki.key_pem(key)) as link:
        calls = []
        begun = time.monotonic()
        for at in range(3):
            for _ in range(250):
                call = link.start(PREFIX + PUBLISH)
                call.send(b'', end=True)
                calls.append(call)
            for call in calls[at * 250:]:
                with pytest.raises(RpcError) as error:
                    call.receive()
                assert error.value.code == h2grpc.INVALID_ARGUMENT
        assert time.monotonic() - begun > 0.4


# ---- attestation ----
def test_attestation_is_delayed_to_one_a_second_and_not_rejected(server, source):
    tokens = [server.token() for _ in range(3)]
    begun = time.monotonic()
    for token in tokens:
        Node.attest(server, token, source.connect())
    assert time.monotonic() - begun > 1.9


def test_attestation_without_the_time_to_wait_is_exhausted_and_keeps_its_token(server, source):
    tokens = [server.token() for _ in range(2)]
    with source.connect() as first, source.connect() as link:
        Node.attest(server, tokens[0], first)
        code, text, _ = answer(link, ATTEST, Node(server).attest_request(tokens[1]), timeout='50m')
    assert (code, text) == (h2grpc.RESOURCE_EXHAUSTED,
                            'rejecting request due to attest agent rate limiting: rate: Wait(n=1) would exceed context deadline')
    Node.attest(server, tokens[1], source.connect())


def test_switched_off_attestation_is_not_limited(free):
    tokens = [free.token() for _ in range(6)]
    begun = time.monotonic()
    for token in tokens:
        Node.attest(free, token)
    assert time.monotonic() - begun < 4.5


def test_switched_off_signing_has_no_burst(free):
    with Node.attest(free).connect() as link:
        assert answer(link, SIGN, batch(4 * BURST + 1))[0] == h2grpc.OK


# ---- the local socket ----
def test_the_local_socket_is_not_limited(server):
    begun = time.monotonic()
    with server.connect() as link:
        for _ in range(5):
            assert answer(link, ATTEST)[0] == h2grpc.INVALID_ARGUMENT
    assert time.monotonic() - begun < 3.5, 'one a second would take four'

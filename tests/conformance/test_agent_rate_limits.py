# SPDX-License-Identifier: Apache-2.0
"""Rate limits of the Workload API and SDS: which calls they count, for whom, and what the refused are told."""
import os

import pytest

from conftest import needs_root
from support import h2grpc, process, stubs, users
from support.h2grpc import RpcError
from support.process import eventually

W, S = stubs.workload, stubs.sds
HEADER = [('workload.spiffe.io', 'true')]
ME = 'unix:uid:%d' % os.geteuid()
SVID = 'SpiffeWorkloadAPI/FetchX509SVID'
JWT = 'SpiffeWorkloadAPI/FetchJWTSVID'
JWT_BUNDLES = 'SpiffeWorkloadAPI/FetchJWTBundles'
BUNDLES = 'SpiffeWorkloadAPI/FetchX509Bundles'
SECRETS = 'envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets'
STREAM = 'envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets'
MANY = 12  # calls at once: more than a rate of one a second can admit while they are made


def start_agent(server, parent, **rates):
    return process.attested_agent(server, parent, experimental={'sync_interval': '1s', 'ratelimit': rates})


@pytest.fixture(scope='module')
def limited(server):
    """One call a second of each method but FetchX509Bundles."""
    server.add('/me', '/host', [ME])
    role = start_agent(server, '/host', fetch_x509_svid=1, fetch_jwt_svid=1, fetch_jwt_bundles=1,
                       stream_secrets=1, fetch_secrets=1)
    try:
        eventually(lambda: answers(role.connect(), BUNDLES, 1) == [''], what='the entry')
        yield role
    finally:
        role.close()


def answers(link, method, count, metadata=HEADER, request=b''):
    """What `count` calls at once are told: '' for an answer, else the status."""
    told = []
    with link:
        calls = []
        for _ in range(count):
            call = link.start(method, metadata)
            call.send(request, end='Stream' not in method)
            calls.append(call)
        for call in calls:
            try:
                call.receive()
                told.append('')
            except RpcError as error:
                told.append('%d %s' % (error.code, error.message))
    return told


def exceeded(method):
    return '%d rate limit exceeded for /%s' % (h2grpc.UNAVAILABLE, method)


@pytest.mark.parametrize('method', [SVID, JWT_BUNDLES, SECRETS, STREAM])
def test_calls_beyond_the_rate_are_refused(limited, method):
    told = answers(limited.connect(), method, MANY)
    assert set(told) <= {'', exceeded(method)} and exceeded(method) in told, told


def test_a_call_is_admitted_again_when_a_token_has_come(limited):
    answers(limited.connect(), SVID, MANY)
    eventually(lambda: answers(limited.connect(), SVID, 1) == [''], what='a token')


def test_a_method_without_a_rate_is_not_limited(limited):
    assert answers(limited.connect(), BUNDLES, MANY) == [''] * MANY


def test_the_header_is_asked_for_first(limited):
    told = answers(limited.connect(), SVID, MANY, metadata=[])
    assert set(told) == {'%d security header missing from request' % h2grpc.INVALID_ARGUMENT}


def test_jwt_svids_are_limited_after_the_parameters(limited):
    assert set(answers(limited.connect(), JWT, MANY)) == {'%d audience must be specified' % h2grpc.INVALID_ARGUMENT}
    told = answers(limited.connect(), JWT, MANY, request=W.JWTSVIDRequest(audience=['a']))
    assert set(told) <= {'', exceeded(JWT)} and exceeded(JWT) in told, told


@needs_root
def test_each_set_of_selectors_has_a_bucket_of_its_own(server, limited):
    server.add('/web', '/host', ['unix:uid:%d' % users.UIDS['web']])
    with users.As(users.UIDS['web']) as user:
        eventually(lambda: answers(user.connect(limited.socket), BUNDLES, 1) == [''], what='its entry')
        eventually(lambda: answers(user.connect(limited.socket), SVID, 1) == [''], what='its SVID')

        def mine_is_empty_and_theirs_is_not():
            refused = exceeded(SVID) in answers(limited.connect(), SVID, MANY)
            return refused and answers(user.connect(limited.socket), SVID, 1) == ['']
        eventually(mine_is_empty_and_theirs_is_not, what='a token of its own')


@needs_root
def test_who_has_no_identity_is_counted_before_the_lookup(limited):
    with users.As(users.UIDS['nobody']) as user:
        told = answers(user.connect(limited.socket), SVID, MANY)
    assert set(told) == {'%d no identity issued' % h2grpc.PERMISSION_DENIED, exceeded(SVID)}


def test_without_rates_nothing_is_limited(server):
    server.add('/free', '/free-host', [ME])
    role = start_agent(server, '/free-host')
    try:
        eventually(lambda: answers(role.connect(), SVID, 1) == [''], what='the SVID')
        assert answers(role.connect(), SVID, MANY) == [''] * MANY
    finally:
        role.close()

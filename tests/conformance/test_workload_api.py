# SPDX-License-Identifier: Apache-2.0
"""The SPIFFE Workload API: the header, every status, what a message holds, order, hints, updates, who is who."""
import os
import shutil
import stat

import grpc
import pytest
from conftest import needs_root
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

from support import h2grpc, pki, process, stubs, users
from support.h2grpc import RpcError
from support.process import eventually

W = stubs.workload
API = 'SpiffeWorkloadAPI/'
HEADER = [('workload.spiffe.io', 'true')]
ME = 'unix:uid:%d' % os.geteuid()


def call_error(agent, method, request, metadata=HEADER):
    with agent.connect() as link:
        call = link.start(API + method, metadata)
        call.send(request, end=True)
        with pytest.raises(RpcError) as error:
            while call.receive() is not None:
                pass
        return error.value.code, error.value.message


def split_der(blob):
    """Concatenated DER, one certificate after the other."""
    certificates = []
    while blob:
        length, header = blob[1], 2
        if length & 0x80:
            header += length & 0x7f
            length = int.from_bytes(blob[2:header], 'big')
        certificates.append(x509.load_der_x509_certificate(blob[:header + length]))
        blob = blob[header + length:]
    return certificates


@pytest.fixture(scope='module')
def mine(server, agent):
    """The entry of this process."""
    entry = server.add('/mine', '/host', [ME], id='m-mine')

    def there():
        with agent.workload() as workload:
            return workload.fetch().svids
    eventually(there, what='the first SVID')
    return entry


# ---- header and method errors ----
METHODS = {'FetchX509SVID': W.X509SVIDRequest(), 'FetchX509Bundles': W.X509BundlesRequest(),
           'FetchJWTSVID': W.JWTSVIDRequest(audience=['a']), 'FetchJWTBundles': W.JWTBundlesRequest(),
           'ValidateJWTSVID': W.ValidateJWTSVIDRequest(audience='a', svid='b')}


@pytest.mark.parametrize('metadata', [[], [('workload.spiffe.io', 'false')], [('workload.spiffe.io', 'TRUE')],
                                      [('workload.spiffe.io', '')], HEADER * 2])
@pytest.mark.parametrize('method', sorted(METHODS))
def test_without_the_security_header_nothing_is_answered(agent, method, metadata):
    assert call_error(agent, method, METHODS[method], metadata) == (
        h2grpc.INVALID_ARGUMENT, 'security header missing from request')


def test_other_metadata_is_ignored(agent, mine):
    with agent.workload() as workload:
        assert workload.fetch(HEADER + [('x-other', '1'), ('grpc-accept-encoding', 'identity,deflate,gzip')]).svids


def test_wit_methods_are_unimplemented(agent):
    assert call_error(agent, 'FetchWITSVID', W.WITSVIDRequest()) == (
        h2grpc.UNIMPLEMENTED, 'fetching WIT-SVIDs is not implemented')
    assert call_error(agent, 'FetchWITBundles', W.WITBundlesRequest()) == (
        h2grpc.UNIMPLEMENTED, 'fetching WIT bundles is not implemented')


def test_an_unknown_method_is_unimplemented(agent):
    assert call_error(agent, 'FetchNothing', b'')[0] == h2grpc.UNIMPLEMENTED


def test_the_socket_has_mode_0777(agent):
    assert stat.S_IMODE(os.stat(agent.socket).st_mode) == 0o777


def test_health_needs_no_header(agent):
    assert agent.healthy()


# ---- FetchX509SVID ----
def test_a_message_holds_svid_key_bundle_and_id(server, agent, mine):
    with agent.workload() as workload:
        answer = workload.fetch()
    svid = [s for s in answer.svids if s.spiffe_id == 'spiffe://example.org/mine'][0]
    chain = split_der(svid.x509_svid)
    assert pki.uris_of(chain[0]) == [svid.spiffe_id] and len(chain) == 1
    key = load_der_private_key(svid.x509_svid_key, None)
    assert key.public_key().public_numbers() == chain[0].public_key().public_numbers()
    assert b'PRIVATE' not in svid.x509_svid_key
    root = split_der(svid.bundle)
    assert [pki.pem_of(r) for r in root] == [server.roots()]
    assert svid.hint == '' and not answer.crl and not answer.federated_bundles


def test_the_key_is_p256_in_pkcs8(agent, mine):
    with agent.workload() as workload:
        key = load_der_private_key(workload.fetch().svids[0].x509_svid_key, None)
    assert key.curve.name == 'secp256r1'


def test_every_call_gives_the_same_svid_until_it_is_rotated(agent, mine):
    with agent.workload() as one, agent.workload() as two:
        assert one.fetch() == two.fetch()


def test_a_grpcio_client_is_answered(agent, mine):
    stub = stubs.workload_grpc.SpiffeWorkloadAPIStub(agent.channel())
    stream = stub.FetchX509SVID(W.X509SVIDRequest(), metadata=HEADER, timeout=30)
    assert 'spiffe://example.org/mine' in [s.spiffe_id for s in next(stream).svids]
    stream.cancel()


def test_identities_are_ordered_by_entry_id(server, agent, mine):
    added = [server.add('/order/' + n, '/host', [ME], id=n) for n in ('z-last', 'A-first', 'm-later')]
    wanted = ['/order/A-first', '/order/m-later', '/mine', '/order/z-last']

    def ordered():
        with agent.workload() as workload:
            return [s.spiffe_id.replace('spiffe://example.org', '') for s in workload.fetch().svids] == wanted
    try:
        eventually(ordered, what='the order')
    finally:
        for entry in added:
            server.remove(entry.id)
    eventually(lambda: len(fetch(agent).svids) == 1)


def fetch(agent):
    with agent.workload() as workload:
        return workload.fetch()


def test_of_equal_hints_the_oldest_entry_stays(server, agent, mine):
    import time
    old = server.add('/hint/old', '/host', [ME], id='x-old', hint='same')
    time.sleep(1.1)  # created_at counts seconds
    new = server.add('/hint/new', '/host', [ME], id='a-new', hint='same')
    other = server.add('/hint/other', '/host', [ME], id='b-other', hint='different')

    def seen():
        return [(s.spiffe_id.rsplit('/', 1)[1], s.hint) for s in fetch(agent).svids]
    try:
        eventually(lambda: seen() == [('other', 'different'), ('mine', ''), ('old', 'same')], what='hints: %r' % (seen(),))
    finally:
        for entry in (old, new, other):
            server.remove(entry.id)
    eventually(lambda: len(fetch(agent).svids) == 1)


def test_of_equal_hints_of_one_second_the_smaller_entry_id_stays(server, agent, mine):
    def tie():
        made = server.entries.BatchCreateEntry(stubs.entry.BatchCreateEntryRequest(entries=[
            server.entry('/tie/' + n, '/host', [ME], id='tie-' + n, hint='tie') for n in ('b', 'a')])).results
        if made[0].entry.created_at == made[1].entry.created_at:
            return made
        for result in made:
            server.remove(result.entry.id)
    results = eventually(tie, what='two entries of one second')
    try:
        eventually(lambda: [s.spiffe_id.rsplit('/', 1)[1] for s in fetch(agent).svids] == ['mine', 'a'], what='the tie')
    finally:
        for result in results:
            server.remove(result.entry.id)
    eventually(lambda: len(fetch(agent).svids) == 1)


def test_a_stream_is_told_each_change_as_a_complete_set(server, agent, mine):
    with agent.workload() as workload:
        stream = workload.watch()
        ids = [s.spiffe_id for s in stream.receive(W.X509SVIDResponse).svids]
        assert ids == ['spiffe://example.org/mine']
        added = server.add('/change', '/host', [ME], id='a-change')
        while True:
            ids = [s.spiffe_id for s in stream.receive(W.X509SVIDResponse).svids]
            if len(ids) == 2:
                break
        assert ids == ['spiffe://example.org/change', 'spiffe://example.org/mine']
        server.remove(added.id)
        while len(stream.receive(W.X509SVIDResponse).svids) != 1:
            pass


@needs_root
def test_without_an_entry_there_is_no_identity(agent, mine):
    with users.As(users.UIDS['nobody']) as user, user.workload(agent) as workload:
        with pytest.raises(RpcError) as error:
            workload.fetch()
    assert (error.value.code, error.value.message) == (h2grpc.PERMISSION_DENIED, 'no identity issued')


@needs_root
def test_the_stream_ends_when_the_last_entry_goes(server, agent):
    uid = users.UIDS['web']
    entry = server.add('/web/gone', '/host', ['unix:uid:%d' % uid])
    with users.As(uid) as user:
        def first():
            with user.workload(agent) as workload:
                return workload.fetch()
        eventually(first)
        with user.workload(agent) as workload:
            stream = workload.watch()
            assert stream.receive(W.X509SVIDResponse).svids
            server.remove(entry.id)
            with pytest.raises(RpcError) as error:
                while stream.receive(W.X509SVIDResponse) is not None:
                    pass
            assert (error.value.code, error.value.message) == (h2grpc.PERMISSION_DENIED, 'no identity issued')


@needs_root
def test_two_users_have_two_identities(server, agent):
    made = [server.add('/user/' + n, '/host', ['unix:uid:%d' % users.UIDS[n]]) for n in ('web', 'db')]
    for name in ('web', 'db'):
        with users.As(users.UIDS[name]) as user:
            def ids():
                with user.workload(agent) as workload:
                    return [s.spiffe_id for s in workload.fetch().svids]
            eventually(lambda: ids() == ['spiffe://example.org/user/' + name])
    for entry in made:
        server.remove(entry.id)


@needs_root
@pytest.mark.parametrize('selectors', [['gid:61777'], ['supplementary_gid:61888'], ['uid:61001', 'gid:61777'],
                                       ['uid:61001', 'supplementary_gid:61888', 'gid:61777']])
def test_every_selector_of_an_entry_must_be_the_processes(server, agent, selectors):
    entry = server.add('/all/of', '/host', ['unix:' + s for s in selectors])
    try:
        with users.As(61001, 61777, [61888]) as user:
            def there():
                with user.workload(agent) as workload:
                    return [s.spiffe_id for s in workload.fetch().svids] == ['spiffe://example.org/all/of']
            eventually(there)
        with users.As(61002, 61778, [61889]) as user, user.workload(agent) as workload:
            with pytest.raises(RpcError):
                workload.fetch()
    finally:
        server.remove(entry.id)


def test_user_and_group_names_are_selectors(server, agent, mine):
    import grp
    import pwd
    entry = server.add('/by/name', '/host', ['unix:user:' + pwd.getpwuid(os.geteuid()).pw_name,
                                            'unix:group:' + grp.getgrgid(os.getegid()).gr_name])
    try:
        eventually(lambda: 'spiffe://example.org/by/name' in [s.spiffe_id for s in fetch(agent).svids])
    finally:
        server.remove(entry.id)
    eventually(lambda: len(fetch(agent).svids) == 1)


def test_path_and_sha256_are_selectors_where_configured(server):
    import hashlib
    import sys
    exe = os.path.realpath(sys.executable)
    with open(exe, 'rb') as content:
        digest = hashlib.sha256(content.read()).hexdigest()
    server.add('/by/path', '/host2', ['unix:path:' + exe, 'unix:sha256:' + digest])
    agent = process.attested_agent(server, '/host2', discover_path=True)
    try:
        eventually(lambda: [s.spiffe_id for s in fetch(agent).svids] == ['spiffe://example.org/by/path'])
    finally:
        agent.close()


def test_path_is_not_a_selector_unless_configured(server, agent, mine):
    import sys
    entry = server.add('/by/path/not', '/host', ['unix:path:' + os.path.realpath(sys.executable)], id='a-path')
    marker = server.add('/marker', '/host', [ME], id='z-marker')
    try:
        eventually(lambda: len(fetch(agent).svids) == 2)
        assert 'spiffe://example.org/by/path/not' not in [s.spiffe_id for s in fetch(agent).svids]
    finally:
        server.remove(entry.id)
        server.remove(marker.id)
    eventually(lambda: len(fetch(agent).svids) == 1)


def test_dns_names_and_ttl_of_the_entry_reach_the_workload(server, agent, mine):
    entry = server.add('/dns', '/host', [ME], id='a-dns', dns_names=['dns.test'], x509_svid_ttl=300)
    try:
        eventually(lambda: fetch(agent).svids[0].spiffe_id == 'spiffe://example.org/dns')
        leaf = split_der(fetch(agent).svids[0].x509_svid)[0]
        assert (leaf.not_valid_after - leaf.not_valid_before).total_seconds() == 310
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ['dns.test']
    finally:
        server.remove(entry.id)
    eventually(lambda: len(fetch(agent).svids) == 1)


def test_an_updated_entry_is_signed_anew(server, agent, mine):
    entry = server.add('/updated', '/host', [ME], id='a-updated', x509_svid_ttl=600)
    try:
        eventually(lambda: fetch(agent).svids[0].spiffe_id.endswith('/updated'))
        entry.x509_svid_ttl = 900
        server.entries.BatchUpdateEntry(stubs.entry.BatchUpdateEntryRequest(entries=[entry]))

        def anew():
            leaf = split_der(fetch(agent).svids[0].x509_svid)[0]
            return (leaf.not_valid_after - leaf.not_valid_before).total_seconds() == 910
        eventually(anew)
    finally:
        server.remove(entry.id)
    eventually(lambda: len(fetch(agent).svids) == 1)


# ---- FetchX509Bundles ----
def test_bundles_are_keyed_by_the_trust_domains_id(server, agent, mine):
    with agent.workload() as workload:
        answer = workload.watch_bundles().receive(W.X509BundlesResponse)
    assert list(answer.bundles) == ['spiffe://example.org'] and not answer.crl
    assert [pki.pem_of(c) for c in split_der(answer.bundles['spiffe://example.org'])] == [server.roots()]


@needs_root
def test_bundles_need_an_identity(agent, mine):
    with users.As(users.UIDS['nobody']) as user, user.workload(agent) as workload:
        with pytest.raises(RpcError) as error:
            workload.watch_bundles().receive()
    assert (error.value.code, error.value.message) == (h2grpc.PERMISSION_DENIED, 'no identity issued')


@needs_root
def test_unauthenticated_verifiers_get_the_own_bundle_where_allowed(server):
    agent = process.attested_agent(server, '/host3', allow_unauthenticated_verifiers=True)
    try:
        with users.As(users.UIDS['nobody']) as user, user.workload(agent) as workload:
            answer = workload.watch_bundles().receive(W.X509BundlesResponse)
            assert list(answer.bundles) == ['spiffe://example.org']
            with pytest.raises(RpcError) as error:
                workload.fetch()
            assert error.value.code == h2grpc.PERMISSION_DENIED
    finally:
        agent.close()


def test_a_bundle_stream_is_told_new_roots_and_nothing_twice(make):
    server = make(process.Server)
    server.add('/mine', '/host', [ME])
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots())
    eventually(lambda: fetch(agent).svids)
    with agent.workload() as workload, agent.workload() as other:
        bundles, svids = workload.watch_bundles(), other.watch()
        assert len(split_der(bundles.receive(W.X509BundlesResponse).bundles['spiffe://example.org'])) == 1
        svids.receive(W.X509SVIDResponse)
        # an entry changes the SVID stream, not the bundles
        server.add('/more', '/host', [ME])
        while len(svids.receive(W.X509SVIDResponse).svids) != 2:
            pass
        extra = pki.Authority('example.org')
        server.bundles.AppendBundle(stubs.bundle.AppendBundleRequest(
            x509_authorities=[stubs.types.X509Certificate(asn1=pki.der_of(extra.certificate))]))
        assert len(split_der(bundles.receive(W.X509BundlesResponse).bundles['spiffe://example.org'])) == 2
        while len(split_der(svids.receive(W.X509SVIDResponse).svids[0].bundle)) != 2:
            pass


# ---- JWT ----
def test_jwt_parameters_are_checked_first(agent):
    for method, request, text in (
            ('FetchJWTSVID', W.JWTSVIDRequest(), 'audience must be specified'),
            ('ValidateJWTSVID', W.ValidateJWTSVIDRequest(svid='x'), 'audience must be specified'),
            ('ValidateJWTSVID', W.ValidateJWTSVIDRequest(audience='x'), 'svid must be specified')):
        code, message = call_error(agent, method, request)
        assert (code, message) == (h2grpc.INVALID_ARGUMENT, text)


# ---- bounds ----
def test_many_streams_of_one_workload_are_served(agent, mine):
    links = [agent.workload() for _ in range(20)]
    try:
        streams = [w.watch() for w in links for _ in range(10)]
        for stream in streams:
            assert stream.receive(W.X509SVIDResponse).svids
    finally:
        for link in links:
            link.close()


@pytest.mark.parametrize('method', ['FetchX509SVID', 'FetchX509Bundles'])
def test_a_request_over_4_mib_is_refused_by_its_announced_size(agent, mine, method):
    with agent.connect() as link:
        call = link.start(API + method, HEADER)
        call.send_raw(b'\0' + ((4 << 20) + 1).to_bytes(4, 'big') + b'x' * 1000)
        with pytest.raises(RpcError) as error:
            call.receive()
        assert error.value.code == h2grpc.RESOURCE_EXHAUSTED
    assert fetch(agent).svids


@pytest.mark.parametrize('method', ['FetchX509SVID', 'FetchX509Bundles'])
def test_a_request_that_is_no_message_is_refused(agent, mine, method):
    code, _ = call_error(agent, method, b'\xff\xff\xff')
    assert code == h2grpc.INVALID_ARGUMENT
    assert fetch(agent).svids


def test_a_stream_waits_for_its_request(agent, mine):
    with agent.connect() as link:
        call = link.start(API + 'FetchX509SVID', HEADER)
        with pytest.raises(TimeoutError):
            call.receive(W.X509SVIDResponse, 0.3)
        call.send(b'', end=True)
        assert call.receive(W.X509SVIDResponse).svids


def test_two_messages_in_one_request_are_no_request(agent, mine):
    with agent.connect() as link:
        call = link.start(API + 'FetchX509SVID', HEADER)
        call.send(b'')
        call.send(b'', end=True)
        try:
            call.receive()
        except RpcError as error:
            assert error.code in (h2grpc.INTERNAL, h2grpc.UNIMPLEMENTED, h2grpc.INVALID_ARGUMENT)
    assert fetch(agent).svids


def test_the_grpcio_health_watch(agent):
    stub = stubs.health_grpc.HealthStub(agent.channel())
    watch = stub.Watch(stubs.health.HealthCheckRequest(), timeout=30)
    assert next(watch).status == 1
    watch.cancel()
    with pytest.raises(grpc.RpcError):
        next(watch)


@needs_root
@pytest.mark.parametrize('how', ['a set-user-ID file of root', 'another file of its own'])
def test_a_process_that_becomes_another_program_is_not_given_what_that_one_would_get(server, agent, mine, folder, how):
    """A process connects, leaves the socket to another and runs a file that makes it root: the agent must not take the one
    that asks for root."""
    program = folder / ('sleep-%d' % len(how))
    shutil.copy('/bin/sleep', program)
    os.chmod(program, 0o4755 if 'root' in how else 0o755)
    with users.As(users.UIDS['nobody']) as stranger:
        link = stranger.connect(agent.socket)
        call = link.start(API + 'FetchX509SVID', HEADER)
        call.send(W.X509SVIDRequest(), end=True)
        with pytest.raises(RpcError) as error:
            call.receive(W.X509SVIDResponse)
        assert error.value.message == 'no identity issued'
        stranger.become(program)
        call = link.start(API + 'FetchX509SVID', HEADER)
        call.send(W.X509SVIDRequest(), end=True)
        with pytest.raises(RpcError) as error:
            call.receive(W.X509SVIDResponse)
        assert (error.value.code, error.value.message) == (h2grpc.UNAVAILABLE, 'workload attestation failed')
        link.close()

# SPDX-License-Identifier: Apache-2.0
"""The PROXY protocol at the server's TCP endpoint: whom a trusted proxy names is who calls; from elsewhere a header is
garbage. Seen by the rate limits, which are counted for each address."""
import re
import socket
import struct

import pytest

from support import h2grpc, process, stubs
from support.h2grpc import RpcError
from support.node import PREFIX, Node
from support.process import eventually
from support.rates import SOON, owe_attestations

STATUS = PREFIX + 'agent.v1.Agent/PostStatus'
PROXY, OTHER = '127.0.0.2', '127.0.0.3'


def v1(source, port=56324):
    return ('PROXY TCP4 %s 192.0.2.200 %d 443\r\n' % (source, port)).encode()


def v2(source, command=1, tlvs=b''):
    v6 = ':' in source
    family = socket.AF_INET6 if v6 else socket.AF_INET
    rest = socket.inet_pton(family, source) * 2 + struct.pack('>HH', 56324, 443) + tlvs
    return b'\r\n\r\n\0\r\nQUIT\n' + bytes([0x20 | command, 0x21 if v6 else 0x11]) + struct.pack('>H', len(rest)) + rest


@pytest.fixture(scope='module')
def server():
    role = process.Server(proxy_protocol_trusted_cidrs=[PROXY + '/32', 'fd00::/8'], ratelimit={'attestation': True, 'signing': True})
    try:
        yield role.start()
    finally:
        role.close()


def attest(link, request, timeout=None):
    """Whether an attestation passed, or the error's code."""
    call = link.start(PREFIX + 'agent.v1.Agent/AttestAgent', timeout=timeout)
    call.send(request)
    try:
        return call.receive(stubs.agent.AttestAgentResponse).WhichOneof('step') == 'result'
    except RpcError as error:
        return error.code


def request(server):
    return Node(server).attest_request(server.token())


def is_one_caller(server, first, second):
    """Whether two connections count as one address: what the first owes, the second waits for."""
    wanted = request(server)
    with server.tls(**first) as link, server.tls(**second) as beside:
        owe_attestations(link)
        return attest(beside, wanted, SOON) == h2grpc.RESOURCE_EXHAUSTED


@pytest.mark.parametrize('header', [v1, v2])
def test_whom_a_trusted_proxy_names_is_who_calls(server, header):
    a, b = ('192.0.2.10', '192.0.2.11') if header is v1 else ('192.0.2.12', '192.0.2.13')
    first, second = ({'source': PROXY, 'preface': header(one)} for one in (a, b))
    assert is_one_caller(server, first, first)
    assert not is_one_caller(server, first, second)


def test_both_versions_name_the_same_caller(server):
    assert is_one_caller(server, {'source': PROXY, 'preface': v1('192.0.2.20')}, {'source': PROXY, 'preface': v2('192.0.2.20')})
    assert is_one_caller(server, {'source': PROXY, 'preface': v2('2001:db8::1', tlvs=b'\x20\0\2ab')},
                         {'source': PROXY, 'preface': b'PROXY TCP6 2001:db8:0::1 ::2 1 2\r\n'})


@pytest.mark.parametrize('header', [b'', b'PROXY UNKNOWN\r\n', v2('192.0.2.30', command=0)])
def test_a_trusted_proxy_may_speak_for_itself(server, header):
    assert is_one_caller(server, {'source': PROXY, 'preface': header}, {'source': PROXY})


@pytest.mark.parametrize('header', [b'PROXY nonsense\r\n', b'PROXY TCP4 a b c d\r\n', b'PROXY ' + b'x' * 200, v2('192.0.2.1')[:12] + b'\x31\x11\0\0'])
def test_a_bad_header_of_a_trusted_proxy_ends_the_connection(server, header):
    with pytest.raises(OSError):
        server.tls(source=PROXY, preface=header).close()
    eventually(lambda: 'PROXY header: ' in server.logs())
    assert server.healthy()


@pytest.mark.parametrize('header', [v1, v2])
def test_a_header_from_elsewhere_ends_the_connection(server, header):
    with pytest.raises(OSError):
        server.tls(source=OTHER, preface=header('192.0.2.40')).close()
    with server.tls(source=OTHER) as link:
        assert attest(link, request(server)) is True


def test_where_nobody_is_trusted_every_header_ends_the_connection(make):
    mine = make(process.Server)
    for header in (v1, v2):
        with pytest.raises(OSError):
            mine.tls(preface=header('192.0.2.50')).close()


def test_a_header_may_come_in_pieces(server):
    with socket.create_connection(('127.0.0.1', server.port), 10, (PROXY, 0)) as sock:
        for byte in v1('192.0.2.60'):
            sock.sendall(bytes([byte]))
        with h2grpc.tls_context(server.roots()).wrap_socket(sock) as tls:
            assert tls.selected_alpn_protocol() == 'h2'


def test_the_log_has_the_callers_address(server):
    with server.tls(source=PROXY, preface=v2('192.0.2.70')) as link:
        with pytest.raises(RpcError):
            link.unary(STATUS, b'', stubs.agent.PostStatusResponse)
    eventually(lambda: re.search(r'Call refused.*caller_addr="?192\.0\.2\.70:56324', server.logs()))


def test_connections_that_send_nothing_harm_nobody(server):
    silent = [socket.create_connection(('127.0.0.1', server.port), 10, (PROXY, 0)) for _ in range(50)]
    with server.tls(source=OTHER) as link:
        assert attest(link, request(server)) is True
    for sock in silent:
        sock.close()


@pytest.mark.parametrize('cidr', ['10.0.0.1', '10.0.0.0/33', 'proxy.example/8', ''])
def test_what_is_no_range_is_refused(folder, cidr):
    mine = process.Server(folder, proxy_protocol_trusted_cidrs=[cidr])
    process.write(mine.config_path, mine.config())
    done = process.run(['validate', '-config', mine.config_path])
    assert done.returncode == 1
    assert '"%s" in "proxy_protocol_trusted_cidrs" is no range of addresses' % cidr in done.stdout + done.stderr

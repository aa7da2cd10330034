# SPDX-License-Identifier: Apache-2.0
"""The log level of a running server and agent, and the agent's admin socket."""
import json
import os
import re
import stat
import time
from concurrent import futures

import grpc
import pytest

from support import h2grpc, process, stubs
from support.h2grpc import Connection, RpcError
from support.process import eventually

T, L = stubs.types, stubs.logger
ADMIN = 'spire.api.agent.logger.v1.Logger/'


@pytest.fixture(scope='module')
def admin(server):
    place = process.Folder()
    os.mkdir(place / 'admin')
    os.mkdir(place / 'public')
    role = process.Agent(server.port, join_token=server.token('/admin'), roots=server.roots(),
                         admin_socket_path=place / 'admin/admin.sock', log_level='info')
    role.admin_socket = place / 'admin/admin.sock'
    role.socket = place / 'public/api.sock'
    try:
        yield role.start()
    finally:
        role.close()
        place.remove()


def link(role):
    return Connection.unix(role.admin_socket)


def spire(folder, name, *args):
    if not os.path.exists(folder / name):
        os.symlink(process.BINARY, folder / name)
    return process.run(list(args), binary=folder / name)


# ---- the level ----
def test_the_server_says_sets_and_resets_its_level(make):
    mine = make(process.Server, log_level='info')
    api = mine.api(stubs.logger_grpc, 'Logger')
    assert api.GetLogger(L.GetLoggerRequest()) == T.Logger(current_level=T.INFO, launch_level=T.INFO)
    assert api.SetLogLevel(L.SetLogLevelRequest(new_level=T.WARN)) == T.Logger(
        current_level=T.WARN, launch_level=T.INFO)
    assert api.GetLogger(L.GetLoggerRequest()).current_level == T.WARN
    assert api.ResetLogLevel(L.ResetLogLevelRequest()) == T.Logger(current_level=T.INFO, launch_level=T.INFO)


@pytest.mark.parametrize('level', [T.UNSPECIFIED, 8, -1])
def test_a_level_that_does_not_exist_is_invalid(server, level):
    api = server.api(stubs.logger_grpc, 'Logger')
    before = api.GetLogger(L.GetLoggerRequest())
    with pytest.raises(grpc.RpcError) as error:
        api.SetLogLevel(L.SetLogLevelRequest(new_level=level))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert api.GetLogger(L.GetLoggerRequest()) == before


def test_the_server_has_no_logger_on_its_tcp_port(server):
    with server.tls() as connection, pytest.raises(RpcError) as error:
        connection.unary('spire.api.server.logger.v1.Logger/GetLogger', b'', T.Logger)
    assert error.value.code in (h2grpc.UNIMPLEMENTED, h2grpc.PERMISSION_DENIED)


def test_the_agent_says_sets_and_resets_its_level(admin):
    with link(admin) as connection:
        levels = connection.unary(ADMIN + 'SetLogLevel', L.SetLogLevelRequest(new_level=T.DEBUG), T.Logger)
        assert levels == T.Logger(current_level=T.DEBUG, launch_level=T.INFO)
        assert connection.unary(ADMIN + 'GetLogger', b'', T.Logger) == levels
        assert connection.unary(ADMIN + 'ResetLogLevel', b'', T.Logger) == T.Logger(
            current_level=T.INFO, launch_level=T.INFO)


@pytest.mark.parametrize('name', ['spire-server', 'spire-agent'])
def test_the_commands_print_as_recorded(server, admin, folder, name):
    socket = server.socket if name == 'spire-server' else admin.admin_socket
    launch = 'debug' if name == 'spire-server' and 'DEBUG' in str(server.keys.get('log_level')).upper() else 'info'

    def told(*args):
        done = spire(folder, name, 'logger', *args, '-socketPath', socket)
        assert (done.returncode, done.stderr) == (0, '')
        return done.stdout
    assert told('get') == 'Logger Level : %s\nLaunch Level : %s\n\n' % (launch, launch)
    assert told('set', '-level', 'warn') == 'Logger Level : warning\nLaunch Level : %s\n\n' % launch
    assert told('reset') == 'Logger Level : %s\nLaunch Level : %s\n\n' % (launch, launch)
    assert told('get', '-output', 'json') == '{"current_level":"%s","launch_level":"%s"}\n' % ((launch.upper(),) * 2)


@pytest.mark.parametrize('args', [[], ['-level', 'loud']])
def test_a_wrong_level_ends_the_command(server, folder, args):
    done = spire(folder, 'spire-server', 'logger', 'set', '-socketPath', server.socket, *args)
    assert done.returncode == 1 and done.stdout == ''


# ---- a peer that answers with levels and states nobody knows ----
@pytest.fixture
def odd_peer(folder):
    """A server of the same services whose enums are out of range."""
    def answers(kind, message):
        return grpc.unary_unary_rpc_method_handler(lambda *_: message, kind.FromString, type(message).SerializeToString)
    levels = T.Logger(current_level=99, launch_level=2 ** 31 - 1)
    peer = grpc.server(futures.ThreadPoolExecutor(2))
    peer.add_generic_rpc_handlers([
        grpc.method_handlers_generic_handler('grpc.health.v1.Health', {'Check': answers(
            stubs.health.HealthCheckRequest, stubs.health.HealthCheckResponse(status=17))}),
        grpc.method_handlers_generic_handler('spire.api.server.logger.v1.Logger',
                                             {'GetLogger': answers(L.GetLoggerRequest, levels)}),
        grpc.method_handlers_generic_handler('spire.api.agent.logger.v1.Logger',
                                             {'GetLogger': answers(L.GetLoggerRequest, levels)})])
    path = folder / 'odd.sock'
    peer.add_insecure_port('unix:' + path)
    peer.start()
    yield path
    peer.stop(None)


@pytest.mark.parametrize('name', ['spire-server', 'spire-agent'])
def test_commands_cope_with_enums_out_of_range(odd_peer, folder, name):
    done = spire(folder, name, 'logger', 'get', '-socketPath', odd_peer)
    assert (done.returncode, done.stdout, done.stderr) == (
        0, 'Logger Level : unknown\nLaunch Level : unknown\n\n', '')
    done = spire(folder, name, 'logger', 'get', '-output', 'json', '-socketPath', odd_peer)
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"current_level":99,"launch_level":2147483647}\n', '')
    done = spire(folder, name, 'healthcheck', '-socketPath', odd_peer)
    assert done.returncode == 1 and 'runtime error' not in done.stderr
    assert 'returned status "UNKNOWN"' in done.stderr


# ---- the admin socket ----
def test_the_admin_socket_has_mode_0770(admin):
    assert stat.S_IMODE(os.stat(admin.admin_socket).st_mode) == 0o770


def test_debug_info_shows_chain_and_counts(server, admin):
    def info():
        with link(admin) as connection:
            answer = connection.unary('spire.agent.debug.v1.Debug/GetInfo', b'', stubs.agent_debug.GetInfoResponse)
        return answer if answer.last_sync_success else None
    answer = eventually(info, what='a sync')
    assert answer.svid_chain[0].id.path.startswith('/spire/agent/join_token/')
    assert answer.svid_chain[0].expires_at > answer.last_sync_success > time.time() - 3600
    assert answer.uptime >= 0 and answer.cached_x509_svids_count == answer.svids_count
    server.add('/counted', '/admin', ['unix:uid:4242'])
    eventually(lambda: info().cached_x509_svids_count == answer.svids_count + 1, what='one more SVID')


def test_the_agents_debug_command_prints_what_the_api_says(admin, folder):
    def told(*args):
        done = spire(folder, 'spire-agent', 'debug', 'getinfo', '-socketPath', admin.admin_socket, *args)
        assert (done.returncode, done.stderr) == (0, '')
        return done.stdout
    lines = eventually(lambda: [t for t in [told()] if '(never)' not in t], what='a sync')[0].splitlines()
    assert lines[0] == 'Agent Debug Info:'
    assert [line[:35] for line in lines[1:6]] == [
        '  Uptime:                          ', '  Last Sync Success:               ',
        '  Cached X.509 SVIDs:              ', '  Cached JWT SVIDs:                ',
        '  Cached SVID Store X.509 SVIDs:   ']
    assert re.fullmatch(r'[0-9ms]+', lines[1].split()[-1]) and lines[2].endswith('Z') and lines[4].endswith(' 0')
    assert lines[6] == '  SVID Chain:'
    assert re.fullmatch(r'    \[0\] SPIFFE ID:  spiffe://example.org/spire/agent/join_token/\S+', lines[7])
    assert lines[8].startswith('        Subject:    ') and re.fullmatch(r'        Expires At: \S+Z', lines[9])
    info = json.loads(told('-output', 'json'))
    assert info['svid_chain'][0]['id']['trust_domain'] == 'example.org' and 'cached_x509_svids_count' in info


@pytest.mark.parametrize('method', [ADMIN + 'GetLogger', 'spire.agent.debug.v1.Debug/GetInfo'])
def test_the_public_socket_has_no_admin_api(admin, method):
    with admin.connect() as connection, pytest.raises(RpcError) as error:
        connection.unary(method, b'', T.Logger)
    assert error.value.code == h2grpc.UNIMPLEMENTED


def test_the_admin_socket_has_no_workload_api(admin):
    with link(admin) as connection, pytest.raises(RpcError) as error:
        call = connection.start('SpiffeWorkloadAPI/FetchX509SVID', [('workload.spiffe.io', 'true')])
        call.send(b'', end=True)
        call.receive()
    assert error.value.code == h2grpc.UNIMPLEMENTED

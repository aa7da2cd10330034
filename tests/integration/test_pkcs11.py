# SPDX-License-Identifier: Apache-2.0
"""Server and agent with their keys in an HSM, played by SoftHSM: the CA's, the agent's own, and its cache's."""
import os
import re

import grpc
import pytest
from cryptography import x509

from support import device_key, pki, process, softhsm, stubs
from support.attestation import certify
from support.device_key import key_csr, key_of
from support.process import eventually, health_checks, part, plugin_processes, status_of, toml_plugin
from support.softhsm import PIN, TROUBLE

pytestmark = softhsm.needs_softhsm

ME = 'unix:uid:%d' % os.geteuid()


@pytest.fixture
def token(folder):
    return softhsm.Token(folder)


def server_with(make, token, start=True, module=softhsm.MODULE, **keys):
    server = process.Server(key_manager=token.table('KeyManager', 'server', 'server-1', module), **keys)
    server.env = token.env
    return make(lambda: server, start=start)


def agent_with(make, token, server, module=softhsm.MODULE, start=True):
    agent = process.Agent(server.port, join_token=server.token('/host'), roots=server.roots(),
                          plugins=token.table('Sealer', 'agent', 'agent-1', module))
    agent.key_manager = token.table('KeyManager', 'agent', 'agent-1', module)
    agent.env = token.env
    return make(lambda: agent, start=start)


def svid(agent, wait=20):
    with agent.workload() as workload:
        return workload.fetch(wait=wait).svids[0].x509_svid


def on_disk(agent):
    with open(os.path.join(agent.data_dir, 'agent.mdb'), 'rb') as file:
        return svid(agent)[:200] in file.read()


def without_pin(*roles):
    for role in roles:
        assert PIN not in role.logs()
    return True


@pytest.mark.parametrize('key_type', ['ec-p256', 'ec-p384', 'rsa-2048'])
def test_a_server_signs_with_a_ca_key_in_the_token_and_keeps_it(make, token, key_type):
    server = server_with(make, token, ca_key_type=key_type)
    server.add('/mine', '/host', [ME])
    roots = server.roots()
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=roots)
    first = eventually(lambda: svid(agent))
    server.kill()
    server.start()
    assert server.roots() == roots
    server.add('/late', '/host', [ME], id='a-late')
    with agent.workload() as workload:
        eventually(lambda: len(workload.fetch().svids) == 2, wait=60)
    assert first and not os.path.exists(server.folder / 'server-keys.json') and without_pin(server, agent)


def test_an_agents_own_key_and_its_cache_are_the_tokens(make, token):
    server = server_with(make, token)
    server.add('/mine', '/host', [ME])
    agent = agent_with(make, token, server)
    before = eventually(lambda: svid(agent))
    eventually(lambda: on_disk(agent))
    assert sorted(os.listdir(agent.data_dir)) == ['agent.mdb', 'agent.mdb-lock', 'agent.mdb.owner']
    agent.at_rest()
    server.kill()
    agent.kill()
    agent.spawn()
    eventually(lambda: svid(agent) == before)
    server.start()
    server.add('/late', '/host', [ME], id='a-late')
    with agent.workload() as workload:
        eventually(lambda: len(workload.fetch().svids) == 2, wait=60)
    assert not agent.has_logged('level=error') and without_pin(server, agent), agent.logs()
    assert len(server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents) == 1, 'it did not attest again'


def test_a_token_that_is_away_when_the_agent_starts_is_waited_for(make, token):
    server = make(process.Server)
    server.add('/mine', '/host', [ME])
    agent = agent_with(make, token, server, TROUBLE)
    before = eventually(lambda: svid(agent))
    eventually(lambda: on_disk(agent))
    server.kill()
    agent.stop()
    token.trouble('gone\n')
    agent.spawn()
    eventually(lambda: agent.has_logged('The key of the agent\'s cache cannot be had, trying again'))
    with agent.workload() as workload:
        assert workload.watch_bundles().receive(stubs.workload.X509BundlesResponse).bundles
    token.trouble('')
    eventually(lambda: svid(agent) == before, wait=60)
    server.start()
    server.add('/late', '/host', [ME], id='a-late')
    with agent.workload() as workload:
        eventually(lambda: len(workload.fetch().svids) == 2, wait=90)


def test_a_server_outlives_its_token(make, token):
    server = server_with(make, token, module=TROUBLE)
    server.add('/mine', '/host', [ME], x509_svid_ttl=60)
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots())
    eventually(lambda: svid(agent))
    token.trouble('gone\n')
    server.add('/late', '/host', [ME], id='a-late')
    eventually(lambda: agent.has_logged('keymanager(pkcs11): token') or server.has_logged('keymanager(pkcs11): token'))
    assert server.running() and svid(agent)
    token.trouble('')
    with agent.workload() as workload:
        eventually(lambda: len(workload.fetch().svids) == 2, wait=90)


def test_a_wrong_pin_is_tried_once_by_an_agent_and_mended_without_a_restart(make, token):
    server = make(process.Server)
    server.add('/mine', '/host', [ME])
    token.write_pin('wrong-771')
    agent = agent_with(make, token, server, TROUBLE, start=False)
    agent.spawn()
    eventually(lambda: agent.has_logged('was refused and is not tried again, lest the token is locked'))
    assert token.calls('C_Login') == 1
    token.write_pin(PIN)
    eventually(lambda: svid(agent), wait=90)
    assert 'wrong-771' not in agent.logs() and without_pin(agent)


def waiting_server(make, token, **more):
    port = process.free_port()
    server = server_with(make, token, start=False, health_checks=health_checks(port), **more)
    server.health_port = port
    return server


def said(server):
    """How often it said what it waits for."""
    return server.logs().count('The server cannot sign yet, trying again')


def refused(server):
    """The code of a call that needs the CA."""
    request = stubs.svid.MintX509SVIDRequest(csr=pki.csr(pki.new_key(), ['spiffe://example.org/x']))
    with pytest.raises(grpc.RpcError) as why:
        server.svids.MintX509SVID(request, timeout=10)
    return why.value.code()


def test_a_server_whose_token_is_away_at_its_start_waits_for_it(make, token, folder):
    away = folder / 'away'
    os.rename(folder / 'tokens', away)
    server = waiting_server(make, token)
    server.spawn()
    eventually(lambda: said(server) == 1)
    state, reason = part(server, 'ca')
    assert state == 'starting' and 'the server has no X.509 CA yet' in reason and 'keymanager(pkcs11)' in reason
    eventually(lambda: server.healthy() is False, what='the Unix socket')
    assert refused(server) == grpc.StatusCode.UNAVAILABLE
    assert not server.entries.ListEntries(stubs.entry.ListEntriesRequest()).entries, 'the rest is served'
    os.rename(away, folder / 'tokens')
    eventually(server.healthy, wait=90)
    assert part(server, 'ca') == part(server, 'server') == ('ok', '')
    roots = server.roots()
    server.stop()
    os.rename(folder / 'tokens', away)
    server.spawn()
    eventually(lambda: part(server, 'ca')[0] == 'starting' and server.healthy() is False)
    assert server.roots() == roots, 'who asks for the bundle gets that of before'
    os.rename(away, folder / 'tokens')
    eventually(server.healthy, wait=90)
    server.add('/mine', '/host', [ME])
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=roots)
    assert eventually(lambda: svid(agent)) and server.roots() == roots


def test_a_server_with_a_wrong_pin_says_so_and_serves_once_it_is_mended(make, token):
    token.write_pin('wrong-771')
    server = waiting_server(make, token, module=TROUBLE)
    server.spawn()
    eventually(lambda: 'was refused and is not tried again, lest the token is locked' in part(server, 'ca')[1])
    assert part(server, 'ca')[0] == 'starting' and server.has_logged('the PIN in %s was refused' % token.pin_file)
    eventually(lambda: server.healthy() is False, what='the Unix socket')
    assert token.calls('C_Login') == 1 and said(server) == 2, server.logs()
    token.write_pin(PIN)
    eventually(server.healthy, wait=90)
    assert 'wrong-771' not in server.logs() and without_pin(server)


def test_a_server_that_finds_two_tokens_ends(make, token):
    token.util('--init-token', '--free', '--label', token.label, '--pin', PIN, '--so-pin', 'so-pin-1')
    server = server_with(make, token, start=False)
    server.spawn()
    eventually(lambda: not server.running())
    assert server.has_logged('2 tokens of'), server.logs()
    assert server.process.wait() == 1
    server.process = None


def test_a_servers_token_is_used_from_the_sandbox_and_comes_back_there(make, token, folder):
    port = process.free_port()
    server = process.Server(key_manager=token.shim_table('KeyManager', 'server', 'server-1'), health_checks=health_checks(port))
    server.health_port, server.env = port, token.env
    make(lambda: server)
    child, = plugin_processes(server)
    status = status_of(child)
    assert status['NoNewPrivs'] == '1' and status['Seccomp'] == '2' and int(status['CapEff'], 16) == 0
    if os.geteuid() == 0:
        assert status['Uid'].split() == [str(softhsm.NOBODY)] * 4
    roots = server.roots()
    server.kill()
    inside, = os.listdir(folder / 'tokens')  # what the sandbox opens must be there when the process starts
    os.rename(os.path.join(folder / 'tokens', inside), folder / 'away')
    server.spawn()
    eventually(lambda: part(server, 'ca')[0] == 'starting' and 'keymanager(pkcs11)' in part(server, 'ca')[1])
    os.rename(folder / 'away', os.path.join(folder / 'tokens', inside))
    eventually(server.healthy, wait=90)
    assert server.roots() == roots and without_pin(server)


def server_of_the_sample(make, token, folder, in_shim=False):
    """One with the [[plugin]] of the sample and the token's paths; `in_shim`, with the lines that are comments there."""
    with open(os.path.join(process.ROOT, 'etc', 'hsm-server.toml')) as file:
        text = file.read()
    if in_shim:
        user = token.give_away().get('user')
        text, lines = re.subn('(?m)^# (?=(user|read_paths|write_paths) = )', '', text)
        assert lines == 3
        text = re.sub('(?m)^isolation = .*', '', text)
        text = re.sub('(?m)^user = .*', 'user = "%s"' % user if user else '', text)
    plugin = softhsm.with_digest(softhsm.PLUGIN)
    for old, new in (('/usr/lib/limpet/plugins/key_manager_pkcs11.so', plugin['path']), ('0' * 64, plugin['sha256']),
                     ('/etc/limpet/hsm', token.pin_folder), ('/etc/softhsm/softhsm2.conf', folder / 'softhsm2.conf'),
                     ('/var/lib/softhsm/tokens', folder / 'tokens'), ('/var/lib/limpet/server', folder / 'sample-data')):
        assert old in text
        text = text.replace(old, str(new))
    process.write(folder / 'sample.toml', text)
    done = process.run(['validate', '-config', folder / 'sample.toml'], env=token.env)
    assert done.returncode == 0, done.stdout + done.stderr
    server = process.Server(health_checks=health_checks(process.free_port()))
    server.health_port = server.keys['health_checks']['bind_port']
    server.key_manager, server.env = text[text.index('[[plugin]]'):], token.env  # on a free port, with a socket of the test's
    return make(lambda: server, start=False)


@pytest.mark.parametrize('in_shim', [False, True])
def test_the_sample_of_a_server_with_an_hsm_works(make, token, folder, in_shim):
    server = server_of_the_sample(make, token, folder, in_shim)
    server.start()
    assert len(plugin_processes(server)) == int(in_shim)
    roots = server.roots()
    server.kill()
    server.start()
    assert server.roots() == roots and without_pin(server)


def test_a_pin_that_is_moved_into_place_reaches_the_sandbox_of_the_sample(make, token, folder):
    token.write_pin('wrong-771')
    server = server_of_the_sample(make, token, folder, in_shim=True)
    server.spawn()
    eventually(lambda: 'was refused and is not tried again' in part(server, 'ca')[1])
    token.move_pin(PIN)
    eventually(server.healthy, wait=90)
    assert 'wrong-771' not in server.logs() and without_pin(server)


@pytest.mark.parametrize('key_type', ['ec-p256', 'ec-p384', 'rsa-2048'])
def test_an_agent_attests_with_a_device_key_in_the_token(make, token, key_type, folder):
    assert without_pin(*device_key.attests(make, folder, token.table('KeyManager', 'agent', 'agent-1'), key_type, token.env))


def test_key_csr_works_with_any_key_manager_and_says_why_not(make, folder):
    agent = make(process.Agent, 1, start=False)
    done = key_csr(agent, '-commonName', 'gateway 7')
    assert done.returncode == 0, done.stderr
    csr = x509.load_pem_x509_csr(done.stdout.encode())
    assert csr.subject.rfc4514_string() == 'CN=gateway 7' and csr.is_signature_valid
    same = key_csr(agent).stdout
    assert key_of(same) == key_of(done.stdout)
    assert x509.load_pem_x509_csr(same.encode()).subject.rfc4514_string() == 'CN=device'
    assert key_of(key_csr(agent, '-replace').stdout) != key_of(same)

    def refused(*more):
        done = key_csr(agent, *more)
        assert done.returncode == 1 and not done.stdout
        return done.stderr
    assert 'key attest-device is there already, as ec-p256; ask for that type, or have it replaced' in refused('-keyType', 'rsa-2048')
    assert '-keyType' in refused('-keyType', 'dsa')
    assert 'has no [server] table' in refused('-role', 'server')
    assert '-role takes server or agent' in refused('-role', 'both')
    agent.key_manager = toml_plugin('KeyManager', 'no_such', {}, role='agent')
    assert 'no such plugin is built in' in refused()


@pytest.mark.parametrize('change, said', [
    ({'module': '/nowhere/pkcs11.so'}, 'PKCS#11 module /nowhere/pkcs11.so cannot be opened'),
    ({'pin_file': '/nowhere/pin'}, 'the PIN in /nowhere/pin'),
    ({'namespace': ''}, 'namespace must have'),
    ({'token': 'pkcs11:object=x'}, 'attribute "object" is not known'),
])
def test_validate_names_what_is_wrong(make, token, change, said):
    server = process.Server(key_manager=token.table('KeyManager', 'server', **{'namespace': 'server-1', **change}))
    make(lambda: server, start=False)
    process.write(server.config_path, server.config())
    done = process.run(['validate', '-config', server.config_path], env=token.env)
    assert done.returncode != 0 and said in done.stdout + done.stderr, done.stdout + done.stderr

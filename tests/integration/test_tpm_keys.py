# SPDX-License-Identifier: Apache-2.0
"""Server and agent with their keys in a TPM, played by swtpm: the CA's, the agent's own, and its cache's."""
import hashlib
import os

import pytest

from support import device_key, pki, process, stubs, swtpm
from support.attestation import certify
from support.process import eventually, health_checks, part, toml_plugin, write

pytestmark = pytest.mark.skipif(not swtpm.shutil.which('swtpm') or not os.path.exists(swtpm.PLUGINS + '/key_manager_tpm2.so'),
                                reason='needs swtpm and the plugin key_manager_tpm2')

ME = 'unix:uid:%d' % os.geteuid()


@pytest.fixture
def tpm(folder):
    device = swtpm.SwTpm(folder).start()
    yield device
    device.vanish()


def key_manager(tpm, role, directory, device=None):
    return swtpm.table('tpm2', role, {'device': device or tpm.path, 'directory': directory}, 'KeyManager', 'key_manager_tpm2')


def agent_with(make, tpm, server, device=None, start=True, attestor=None, **keys):
    port = process.free_port()
    if attestor is None:
        keys['join_token'] = server.token('/host')
    agent = process.Agent(server.port, roots=server.roots(), attestor=attestor,
                          health_checks=health_checks(port), **keys)
    agent.health_port = port
    agent.key_directory = agent.folder / 'tpm-keys'
    agent.key_manager = key_manager(tpm, 'agent', agent.key_directory, device)
    return make(lambda: agent, start=start)


def svid(agent, wait=20):
    with agent.workload() as workload:
        return workload.fetch(wait=wait).svids[0].x509_svid


def knows(agent, count):
    with agent.workload() as workload:
        return len(workload.fetch().svids) == count


def on_disk(agent):
    with open(os.path.join(agent.data_dir, 'agent.mdb'), 'rb') as file:
        return svid(agent)[:200] in file.read()


def key_files(agent):
    return sorted(name for name in os.listdir(agent.key_directory) if name.endswith('.tpm2key'))


def test_an_agents_own_key_is_the_tpms_and_is_kept_over_a_restart_and_a_reset(make, tpm):
    server = make(process.Server)
    server.add('/mine', '/host', [ME])
    agent = agent_with(make, tpm, server)
    eventually(lambda: svid(agent))
    assert len(key_files(agent)) == 1
    for interrupt in (agent.stop, lambda: (agent.kill(), tpm.reset())):
        interrupt()
        agent.start()
        # the token is spent: only the kept key brings it back
        new = server.add('/late-%d' % len(agent.logs()), '/host', [ME])
        eventually(lambda: any(new.spiffe_id.path in s.spiffe_id for s in fetch_all(agent)))
    assert agent.logs().count('The agent has a new SVID') == 1, agent.logs()


def fetch_all(agent):
    with agent.workload() as workload:
        return workload.fetch().svids


def test_an_agent_renews_with_keys_of_the_tpm_in_turn(make, tpm):
    server = make(process.Server, agent_ttl='20s')
    server.add('/mine', '/host', [ME])
    agent = agent_with(make, tpm, server)
    eventually(lambda: svid(agent))
    eventually(lambda: agent.logs().count('The agent has a new SVID') >= 3, wait=90)
    assert len(key_files(agent)) == 2


def test_a_tpm_that_vanishes_costs_no_workload_its_svid_and_is_named(make, tpm):
    server = make(process.Server)
    server.add('/mine', '/host', [ME])
    agent = agent_with(make, tpm, server)
    before = eventually(lambda: svid(agent))
    eventually(lambda: on_disk(agent))
    tpm.vanish()
    server.kill()
    server.start()  # the agent has to shake hands again
    eventually(lambda: part(agent, 'key')[0] == 'degraded')
    assert 'keymanager(tpm2): TPM ' + tpm.path in part(agent, 'key')[1]
    assert svid(agent) == before
    # also over a restart without it
    agent.stop()
    agent.spawn()
    eventually(lambda: svid(agent) == before)
    eventually(lambda: part(agent, 'key')[0] == 'degraded')
    tpm.start()
    server.add('/late', '/host', [ME])
    eventually(lambda: knows(agent, 2), wait=60)
    assert part(agent, 'key') == ('ok', '')
    assert agent.running() and agent.logs().count('The agent has a new SVID') == 1


def test_another_tpm_means_another_key_and_the_old_file_is_kept(make, tpm, folder):
    server = make(process.Server)
    server.add('/mine', '/host', [ME])
    agent = agent_with(make, tpm, server)
    before = eventually(lambda: svid(agent))
    eventually(lambda: on_disk(agent))
    files = key_files(agent)
    with open(os.path.join(agent.key_directory, files[0])) as file:
        text = file.read()
    agent.stop()
    tpm.replace()
    agent.spawn()
    eventually(lambda: agent.has_logged('was made by another TPM, or this one was cleared since'))
    assert eventually(lambda: svid(agent) == before), 'workloads are served meanwhile'
    eventually(lambda: agent.has_logged('Node attestation failed, trying again') or
               agent.has_logged("could not be renewed, trying again"))  # its join token is spent
    with open(os.path.join(agent.key_directory, files[0])) as file:
        assert file.read() == text
    agent.stop()
    tpm.bring_back()
    agent.spawn()
    server.add('/late', '/host', [ME])
    eventually(lambda: knows(agent, 2), wait=60)


@pytest.mark.parametrize('key_type', ['ec-p256', 'ec-p384', 'rsa-2048'])
def test_a_server_signs_with_a_ca_key_in_the_tpm_and_keeps_it(make, tpm, folder, key_type):
    directory = folder / 'server-tpm-keys'
    server = make(process.Server, key_manager=key_manager(tpm, 'server', directory), ca_key_type=key_type)
    server.add('/mine', '/host', [ME])
    roots = server.roots()
    agent = make(process.Agent, server.port, join_token=server.token('/host'), roots=roots)
    eventually(lambda: svid(agent))
    server.kill()
    tpm.reset()
    server.start()
    assert server.roots() == roots
    # away: what is signed already is served, the rest is told and comes later
    tpm.vanish()
    server.add('/late', '/host', [ME])
    eventually(lambda: server.has_logged('TPM ' + tpm.path))
    assert knows(agent, 1) and server.running()
    tpm.start()
    eventually(lambda: knows(agent, 2), wait=60)
    assert server.roots() == roots


def waiting_server(make, tpm, folder):
    port = process.free_port()
    server = process.Server(key_manager=key_manager(tpm, 'server', folder / 'server-tpm-keys'), health_checks=health_checks(port))
    server.health_port = port
    return make(lambda: server, start=False)


def waits(server, part_name, waits_for):
    state, reason = part(server, part_name)
    return state == 'starting' and 'keymanager(tpm2)' in reason and server.has_logged('waits_for=' + waits_for)


def test_a_server_that_starts_without_its_tpm_waits_for_it(make, tpm, folder):
    server = waiting_server(make, tpm, folder)
    server.start()
    roots = server.roots()
    server.stop()
    tpm.vanish()
    server.spawn()
    eventually(lambda: waits(server, 'svid', 'X509-SVID'))
    assert server.stop() == 0, 'and it ends when told'
    server.spawn()
    eventually(lambda: waits(server, 'svid', 'X509-SVID'))
    tpm.start()
    eventually(server.healthy, wait=60)
    assert server.roots() == roots


def test_the_first_start_of_a_server_without_its_tpm_waits_for_it(make, tpm, folder):
    tpm.vanish()
    server = waiting_server(make, tpm, folder)
    server.spawn()
    eventually(lambda: waits(server, 'ca', '"X.509 CA"'))
    eventually(lambda: server.healthy() is False, what='the Unix socket')
    assert server.running() and server.logs().count('The server cannot sign yet, trying again') == 1, server.logs()
    tpm.start()
    eventually(server.healthy, wait=60)
    assert part(server, 'ca') == part(server, 'server') == ('ok', '') and server.roots()


def test_a_server_and_an_agent_share_one_tpm(make, tpm, folder):
    server = make(process.Server, key_manager=key_manager(tpm, 'server', folder / 'server-tpm-keys'))
    server.add('/mine', '/host', [ME])
    agent = agent_with(make, tpm, server, plugins=swtpm.table('tpm', 'agent', {'device': tpm.path, 'pcrs': [7]}, 'Sealer', 'sealer_tpm'))
    first = eventually(lambda: svid(agent))
    eventually(lambda: on_disk(agent))
    agent.at_rest()
    server.kill()
    agent.kill()
    agent.spawn()
    eventually(lambda: svid(agent) == first)
    assert not os.path.exists(os.path.join(agent.data_dir, 'seal.key'))
    server.start()
    server.add('/late', '/host', [ME])
    eventually(lambda: knows(agent, 2), wait=60)


def test_a_tpm_of_200_ms_a_command_delays_nobody_but_itself(make, tpm, folder):
    slow = swtpm.SlowWay(tpm, folder / 'slow', 0.2)
    try:
        server = make(process.Server)
        server.add('/mine', '/host', [ME])
        agents = [agent_with(make, tpm, server, device=slow.path, start=False) for _ in range(3)]
        for agent in agents:
            agent.spawn()
        before = [eventually(lambda: svid(agent), wait=60) for agent in agents]
        slow.hold()
        server.kill()
        server.start()  # all of them have to shake hands anew, at one slow TPM
        server.add('/late', '/host', [ME])
        eventually(lambda: slow.held, wait=60)
        done = slow.commands
        assert [svid(agent) for agent in agents] == before
        assert not any(knows(agent, 2) for agent in agents)
        assert slow.held == 1 and slow.commands == done, 'all that was served while the TPM had not answered'
        slow.go_on()
        for agent in agents:
            eventually(lambda: knows(agent, 2), wait=90)
    finally:
        slow.close()


def device_certificate(folder):
    """A factory's root and the certificate of one device, as files for x509pop."""
    root_key, key = pki.new_key(), pki.new_key()
    root = certify('factory root', root_key, ca=True)
    write(folder / 'factory.pem', pki.pem_of(root))
    write(folder / 'device.key', pki.key_pem(key))
    write(folder / 'device.pem', pki.pem_of(certify('device-7', key, (root, root_key))))
    return (toml_plugin('NodeAttestor', 'x509pop', {'ca_bundle_path': folder / 'factory.pem'}, role='server'),
            toml_plugin('NodeAttestor', 'x509pop', {'private_key_path': folder / 'device.key',
                                                    'certificate_path': folder / 'device.pem'}, role='agent'))


@pytest.mark.parametrize('key_type', ['ec-p256', 'ec-p384', 'rsa-2048'])
def test_an_agent_attests_with_a_device_key_in_the_tpm(make, tpm, key_type, folder):
    device_key.attests(make, folder, key_manager(tpm, 'agent', folder / 'tpm-keys'), key_type)


def test_a_tpm_that_is_cleared_under_a_running_agent_costs_one_attestation(make, tpm, folder):
    on_server, on_agent = device_certificate(folder)
    server = make(process.Server, plugins=on_server)
    agent = agent_with(make, tpm, server, attestor=on_agent)
    path = eventually(lambda: server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents)[0].id.path
    server.add('/mine', path, [ME])
    before = eventually(lambda: svid(agent))
    files = key_files(agent)
    tpm.clear()
    server.kill()
    server.start()  # the agent has to shake hands again, with a key that is gone
    eventually(lambda: agent.has_logged("The agent's key is lost, attesting anew with another"))
    assert svid(agent) == before
    server.add('/late', path, [ME])
    eventually(lambda: knows(agent, 2), wait=60)
    assert part(agent, 'key') == ('ok', '') and agent.logs().count('The agent has a new SVID') == 2
    assert set(files) < set(key_files(agent)), 'nothing was deleted'
    assert [a.id.path for a in server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents] == [path]


def test_the_owners_password_comes_from_a_file(make, tpm, folder):
    tpm.command(0x129, swtpm.sized(b'owned'), (swtpm.OWNER,), True)  # TPM2_HierarchyChangeAuth
    server = make(process.Server)
    server.add('/mine', '/host', [ME])
    agent = agent_with(make, tpm, server, start=False)
    agent.spawn()
    eventually(lambda: agent.has_logged('TPM_RC_BAD_AUTH'))
    assert agent.has_logged("the password is not this object's; check the configured password files")
    agent.stop()
    write(folder / 'owner', 'owned\n', 0o600)
    agent.key_manager = swtpm.table('tpm2', 'agent', {'device': tpm.path, 'directory': agent.key_directory,
                                                      'owner_auth_file': folder / 'owner'}, 'KeyManager', 'key_manager_tpm2')
    agent.start()
    eventually(lambda: svid(agent))
    assert 'owned' not in agent.logs()


def test_an_agent_ends_when_told_also_while_its_tpm_is_silent(make, tpm):
    server = make(process.Server)
    server.add('/mine', '/host', [ME])
    agent = agent_with(make, tpm, server)
    eventually(lambda: svid(agent))
    tpm.pause()
    server.kill()
    server.start()
    eventually(lambda: agent.has_logged('Cannot reach the server'))
    assert agent.stop() == 0
    tpm.go_on()


def test_the_plugins_work_as_well_in_processes_of_their_own(make, tpm, folder):
    """As a path without `isolation` has it: another user, no network, no files but those named."""
    def shimmed(name, kind, module, data, **more):
        path = os.path.join(swtpm.PLUGINS, module + '.so')
        with open(path, 'rb') as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        return toml_plugin(kind, name, data, role='agent', path=path, sha256=digest, devices=[tpm.path], **more)
    directory = folder / 'tpm-keys'
    os.makedirs(directory, 0o700)
    if os.geteuid() == 0:
        os.chown(directory, 65534, 65534)
    os.chmod(tpm.path, 0o666)
    server = make(process.Server)
    server.add('/mine', '/host', [ME])
    agent = process.Agent(server.port, join_token=server.token('/host'), roots=server.roots(),
                          plugins=shimmed('tpm', 'Sealer', 'sealer_tpm', {'device': tpm.path}))
    agent.key_manager = shimmed('tpm2', 'KeyManager', 'key_manager_tpm2', {'device': tpm.path, 'directory': directory},
                                write_paths=[directory])
    make(lambda: agent)
    before = eventually(lambda: svid(agent))
    eventually(lambda: on_disk(agent))
    agent.stop()
    server.kill()
    agent.spawn()
    eventually(lambda: svid(agent) == before)
    server.start()
    server.add('/late', '/host', [ME])
    eventually(lambda: knows(agent, 2), wait=60)
    assert not os.path.exists(os.path.join(agent.data_dir, 'seal.key'))
    assert [name for name in os.listdir(directory) if name.endswith('.tpm2key')]

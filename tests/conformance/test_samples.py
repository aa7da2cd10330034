# SPDX-License-Identifier: Apache-2.0
"""The samples in etc/ that need files, with these where the test can write: the commands check them, and they work."""
import hashlib
import json
import os

import pytest

from support import pki, process, stubs, swtpm
from support.attestation import certify
from support.process import eventually, run, write

ETC = os.path.join(process.ROOT, 'etc')


@pytest.fixture
def samples(folder):
    """Copies with files of a factory's PKI behind the paths of the samples; (path of the copy) by role."""
    root_key, line_key, key = pki.new_key(), pki.new_key(), pki.new_key()
    root = certify('factory root', root_key, ca=True)
    line = certify('factory line', line_key, (root, root_key), ca=True)
    for name, text in (('factory-roots.pem', pki.pem_of(root)), ('line.pem', pki.pem_of(line)), ('device.key', pki.key_pem(key)),
                       ('device.pem', pki.pem_of(certify('device-7', key, (line, line_key)))), ('bootstrap.pem', pki.pem_of(root))):
        write(folder / name, text)
    out = {}
    for role in ('server', 'agent'):
        with open(os.path.join(ETC, 'x509pop-%s.toml' % role)) as file:
            text = file.read()
        out[role] = folder / (role + '.toml')
        write(out[role], text.replace('/etc/limpet', folder.path).replace('/var/lib/limpet', folder.path))
    return out


@pytest.mark.parametrize('role', ['server', 'agent'])
def test_the_x509pop_samples_are_valid(samples, role):
    done = run(['validate', '-config', samples[role]])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize('role, missing', [('server', 'factory-roots.pem'), ('agent', 'device.key'), ('agent', 'line.pem')])
def test_a_missing_file_of_a_sample_is_named(samples, folder, role, missing):
    os.remove(folder / missing)
    done = run(['validate', '-config', samples[role]])
    assert done.returncode != 0 and missing in done.stdout + done.stderr, done.stdout + done.stderr


def test_an_agent_of_the_sample_attests_to_a_server_of_the_sample(samples, make, folder):
    """The samples' own plugin tables, in roles that use free ports and sockets of the test."""
    def plugins(role):
        with open(samples[role]) as file:
            text = file.read()
        return text[text.index('[[plugin]]'):]
    server = process.Server(folder)
    server.key_manager, server.plugins = '', plugins('server')
    server = make(lambda: server)
    agent = process.Agent(server.port, folder, roots=server.roots())
    agent.config_text = agent.config()
    agent.config = lambda: agent.config_text[:agent.config_text.index('[[plugin]]')] + plugins('agent')
    make(lambda: agent)
    eventually(lambda: [a.id.path for a in server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents] ==
               ['/spire/agent/x509pop/device-7'])


def test_the_systemd_sample_is_valid_and_its_digest_matters(folder):
    module = os.path.join(os.environ['LIMPET_PLUGINS'], 'workload_attestor_systemd.so')
    if not os.path.exists(module):
        pytest.skip('this build has no workload_attestor_systemd.so: it was made without libsystemd')
    key = pki.new_key()
    write(folder / 'bootstrap.pem', pki.pem_of(certify('root', key, ca=True)))
    write(folder / 'join-token', 'token')
    with open(os.path.join(ETC, 'systemd-agent.toml')) as file:
        text = file.read().replace('/etc/limpet', folder.path).replace('/var/lib/limpet', folder.path)
    text = text.replace('/usr/lib/limpet/plugins/workload_attestor_systemd.so', module)
    with open(module, 'rb') as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    write(folder / 'agent.toml', text)
    done = run(['validate', '-config', folder / 'agent.toml'])
    assert done.returncode != 0 and digest in done.stdout + done.stderr, done.stdout + done.stderr
    write(folder / 'agent.toml', text.replace('0' * 64, digest))
    done = run(['validate', '-config', folder / 'agent.toml'])
    assert done.returncode == 0, done.stdout + done.stderr


def tpm_sample(folder, name, change=lambda text: text):
    """A sample with this folder's paths and with the plugins of this build."""
    with open(os.path.join(ETC, name + '.toml')) as file:
        text = change(file.read()).replace('/etc/limpet', folder.path).replace('/var/lib/limpet', folder.path)
    for module in ('key_manager_tpm2', 'sealer_tpm', 'node_attestor_tpm'):
        path = os.path.join(swtpm.PLUGINS, module + '.so')
        if '/usr/lib/limpet/plugins/%s.so' % module in text:
            text = text.replace('/usr/lib/limpet/plugins/%s.so' % module, path)
            with open(path, 'rb') as file:
                text = text.replace('0' * 64, hashlib.sha256(file.read()).hexdigest(), 1)
    path = folder / (name + '.toml')
    write(path, text)
    done = run(['validate', '-config', path])
    assert done.returncode == 0, done.stdout + done.stderr
    return text[text.index('[[plugin]]'):]


RELEASE_PCRS = [0, 2, 4, 7]


def test_the_sample_policies_accept_no_machine_before_they_are_filled_in():
    """Above all none that measured nothing."""
    with open(os.path.join(ETC, 'tpm-policies.json')) as file:
        release, kernel = json.load(file)['policies']
    assert (release['name'], release['pcrs'], kernel['mode']) == ('release', RELEASE_PCRS, 'observe')
    digests = [one if isinstance(one, str) else one['digest'] for one in release['accepted']]
    assert digests == ['0' * 64, '1' * 64], 'what nobody takes for a digest of PCRs'


def with_tables(role, tables):
    head = role.config()
    role.config = lambda: head[:head.index('[[plugin]]')] + tables
    return role


@pytest.mark.skipif(not swtpm.shutil.which('swtpm') or not os.path.exists(swtpm.PLUGINS + '/key_manager_tpm2.so'),
                    reason='needs swtpm and the plugin key_manager_tpm2')
def test_the_tpm_samples_are_valid_and_server_and_agent_of_them_know_each_other(make, folder):
    """The samples' own plugin tables, with a software TPM in place of /dev/tpmrm0."""
    write(folder / 'bootstrap.pem', pki.pem_of(certify('root', pki.new_key(), ca=True)))
    os.makedirs(folder / 'agent')
    os.makedirs(folder / 'server')
    os.makedirs(folder / 'tpm/makers')
    write(folder / 'tpm/makers/maker.pem', swtpm.Maker().pem())
    tpm = swtpm.SwTpm(folder, 'swtpm').start()
    for pcr in RELEASE_PCRS:
        tpm.extend(pcr, hashlib.sha256(b'firmware').digest())
    done = run(['tpm', 'info', '-device', tpm.path, '-pcrs', ','.join(map(str, RELEASE_PCRS)), '-output', 'json'])
    assert done.returncode == 0, done.stderr
    with open(os.path.join(ETC, 'tpm-policies.json')) as file:
        write(folder / 'tpm/policies.json', file.read().replace('0' * 64, json.loads(done.stdout)['digest'], 1))
    os.chmod(tpm.path, 0o666)  # /dev/tpmrm0 has a group, which the plugins' own processes get
    try:
        tables = tpm_sample(folder, 'tpm-server')
        server = make(lambda: with_tables(process.Server(folder), tables))
        done = server.cli('tpm', 'enroll', '-hash', tpm.ek_hash())
        assert done.returncode == 0, done.stderr
        tables = tpm_sample(folder, 'tpm-agent', lambda text: text.replace('device:/dev/tpmrm0', tpm.path)
                            .replace('/dev/tpmrm0', tpm.path))
        make(lambda: with_tables(process.Agent(server.port, folder, roots=server.roots()), tables))
        agent, = eventually(lambda: server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents)
        assert agent.id.path == '/spire/agent/tpm/' + tpm.ek_hash()
        assert 'pcr_policy:release' in [s.value for s in agent.selectors]
        assert [name for name in os.listdir(folder / 'agent/tpm-keys') if name.endswith('.tpm2key')]
        # neither asks for what the other cannot give
        assert not server.has_logged('no secureboot selector') and not server.has_logged('is not met')
    finally:
        tpm.vanish()

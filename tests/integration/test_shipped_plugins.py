# SPDX-License-Identifier: Apache-2.0
"""Every plugin that ships passes plugin-check, in process and through the shim, with what it stands on where that can be had: files, SoftHSM, a software TPM."""
import json
import os
import subprocess

import pytest

from support import pki, process, softhsm, swtpm
from support.attestation import certify
from support.process import write

PLUGINS = os.environ['LIMPET_PLUGINS']
CHECK = os.environ['LIMPET_PLUGIN_CHECK']
AGENT, SERVER = 'limpet.node-attestor.agent/1', 'limpet.node-attestor.server/1'
KEYS, SEALER = 'limpet.key-manager/1', 'limpet.sealer/1'
UPSTREAM, WORKLOAD = 'limpet.upstream-authority/1', 'limpet.workload-attestor/1'


def component(interface, data=None, **more):
    return {'interface': interface, 'data': data or {}, **more}


def check(folder, plugin, components, *arguments, jobs=2, env=None):
    """The results of all tests, none of which may have gone wrong."""
    module = os.path.join(PLUGINS, plugin + '.so')
    if not os.path.exists(module):
        pytest.skip('this build has no %s.so' % plugin)
    write(folder / 'check.json', json.dumps({'components': components}))
    # through the shim: not what only costs time there, and of slow devices what they are for
    less = ['instance.cycles', 'instance.memory', 'instance.threads', 'instance.descriptors', 'fuzz.*'] if jobs > 1 else [
        'instance.*', 'op.*', 'fuzz.*']
    arguments = [*arguments, *(word for test in less for word in ('--exclude', 'parity.' + test))]
    done = subprocess.run([CHECK, module, '--config', folder / 'check.json', '--format', 'json', '--fuzz-seconds', '1',
                           '--jobs', str(jobs), '--cycles', '12' if jobs > 1 else '4', *arguments],  # devices are slow
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600,
                          universal_newlines=True, env=env)
    assert done.stdout, done.stderr
    results = json.loads(done.stdout)['results']
    wrong = ['%s [%s] %s: %s\n%s' % (r['test'], r['component'], r['status'], r['message'], r.get('output', ''))
             for r in results if r['status'] in ('failed', 'crashed')]
    assert not wrong, '\n'.join(wrong)
    assert done.returncode == 0
    return {(r['component'].split(' ')[0], r['test']): r for r in results}


def succeeded(results, interface, *tests):
    for test in tests:
        assert results[(interface, test)]['status'] == 'success', results[(interface, test)]


def test_workload_attestor_unix(folder):
    found = check(folder, 'workload_attestor_unix', [component(WORKLOAD, {}, other={'discover_workload_path': True, 'workload_size_limit': -1},
                  bad=[{'discover_workload_path': 'yes'}, {'workload_size_limit': 1.5}])])
    succeeded(found, WORKLOAD, 'workload.self', 'workload.reused_pid', 'instance.bad_config', 'fuzz.calls')


def test_workload_attestor_systemd_without_systemd(folder):
    found = check(folder, 'workload_attestor_systemd', [component(WORKLOAD, {'bus_address': 'unix:path={tmp}/bus'},
                  bad=[{'bus_address': 'unixexec:path=/bin/sh'}, {'timeout_ms': 1}])])
    succeeded(found, WORKLOAD, 'workload.self', 'op.blocking_returns', 'op.new_threads')


def test_key_manager_memory(folder):
    found = check(folder, 'key_manager_memory', [component(KEYS)])
    succeeded(found, KEYS, 'key_manager.types', 'key_manager.signatures', 'key_manager.fingerprint', 'parity.key_manager.signatures')


def test_key_manager_disk(folder):
    found = check(folder, 'key_manager_disk', [component(KEYS, {'directory': '{tmp}/one'}, second={'directory': '{tmp}/two'}, bad=[{}, {'directory': 7}])])
    succeeded(found, KEYS, 'key_manager.signatures', 'key_manager.restart', 'instance.dry_run')
    assert found[(KEYS, 'key_manager.restart')]['message'] == 'keys are kept over a restart'


@softhsm.needs_softhsm
def test_key_manager_and_sealer_pkcs11(folder):
    token = softhsm.Token(folder)
    data = {'module': softhsm.MODULE, 'token': token.label, 'pin_file': token.pin_file, 'namespace': 'check'}
    found = check(folder, 'key_manager_pkcs11', [component(KEYS, data, bad=[{**data, 'namespace': ''}]), component(SEALER, data)],
                  jobs=1, env=token.env)
    succeeded(found, KEYS, 'key_manager.signatures', 'key_manager.restart')
    succeeded(found, SEALER, 'sealer.round_trip', 'sealer.altered', 'sealer.restart')


@pytest.fixture
def tpm(folder):
    machine = swtpm.SwTpm(folder).start()
    yield machine
    machine.vanish()


@swtpm.needs_swtpm
def test_key_manager_tpm2(folder, tpm):
    found = check(folder, 'key_manager_tpm2', [component(KEYS, {'device': tpm.path, 'directory': '{tmp}/one'}, second={'device': tpm.path, 'directory': '{tmp}/two'},
                  bad=[{'device': tpm.path}])],
                  jobs=1)
    succeeded(found, KEYS, 'key_manager.signatures', 'key_manager.restart')


@swtpm.needs_swtpm
def test_sealer_tpm(folder, tpm):
    found = check(folder, 'sealer_tpm', [component(SEALER, {'device': tpm.path, 'pcrs': [7]}, bad=[{'device': tpm.path, 'pcrs': [24]}])],
                  jobs=1)
    succeeded(found, SEALER, 'sealer.round_trip', 'sealer.context', 'sealer.restart')


@swtpm.needs_swtpm
def test_node_attestor_tpm(folder, tpm):
    found = check(folder, 'node_attestor_tpm', [component(AGENT, {'device': tpm.path, 'key_type': 'ecc'}), component(SERVER)], jobs=1)
    succeeded(found, SERVER, 'node_attestor.talks', 'node_attestor.replayed', 'node_attestor.truncated')


@swtpm.needs_swtpm
def test_node_attestor_tpm_devid(folder, tpm):
    factory, maker = swtpm.Maker('Factory'), swtpm.Maker()
    tpm.certify_ek(maker)
    public, private, key = tpm.create_devid('ecc', b'')
    for name, blob in (('devid.pub', public), ('devid.priv', private)):
        with open(folder / name, 'wb') as out:
            out.write(blob)
    write(folder / 'devid.pem', factory.devid(key))
    write(folder / 'devid-ca.pem', factory.pem())
    write(folder / 'ek-ca.pem', maker.pem())
    found = check(folder, 'node_attestor_tpm_devid', [
        component(AGENT, {'tpm_device_path': tpm.path, 'devid_cert_path': folder / 'devid.pem', 'devid_pub_path': folder / 'devid.pub',
                          'devid_priv_path': folder / 'devid.priv'}, bad=[{}]),
        component(SERVER, {'devid_ca_path': folder / 'devid-ca.pem', 'endorsement_ca_path': folder / 'ek-ca.pem'}, bad=[{}])], jobs=1)
    succeeded(found, SERVER, 'node_attestor.talks', 'node_attestor.replayed', 'node_attestor.truncated', 'node_attestor.forged')


def test_node_attestor_join_token(folder):
    check(folder, 'node_attestor_join_token', [component(AGENT)])


def test_node_attestor_x509pop(folder):
    root_key, key = pki.new_key(), pki.new_key()
    root = certify('factory root', root_key, ca=True)
    write(folder / 'roots.pem', pki.pem_of(root))
    write(folder / 'device.key', pki.key_pem(key))
    write(folder / 'device.pem', pki.pem_of(certify('device-7', key, (root, root_key))))
    found = check(folder, 'node_attestor_x509pop', [
        component(AGENT, {'private_key_path': folder / 'device.key', 'certificate_path': folder / 'device.pem'}, bad=[{}]),
        component(SERVER, {'ca_bundle_path': folder / 'roots.pem'}, bad=[{}, {'ca_bundle_path': '/nowhere.pem'}])])
    succeeded(found, SERVER, 'node_attestor.talks', 'node_attestor.replayed', 'node_attestor.truncated', 'node_attestor.forged')


def test_node_attestor_sshpop(folder):
    def keygen(*arguments):
        subprocess.run(['ssh-keygen', '-q', *arguments], check=True, stdin=subprocess.DEVNULL)
    for name in ('ca', 'host'):
        keygen('-t', 'ecdsa', '-b', '256', '-N', '', '-f', folder / name)
    keygen('-s', folder / 'ca', '-I', 'host', '-h', '-n', 'web.example.org', '-V', '-5m:+1h', folder / 'host.pub')
    found = check(folder, 'node_attestor_sshpop', [
        component(AGENT, {'host_key_path': folder / 'host', 'host_cert_path': folder / 'host-cert.pub'}),
        component(SERVER, {'cert_authorities_path': folder / 'ca.pub'}, bad=[{}])])
    succeeded(found, SERVER, 'node_attestor.talks', 'node_attestor.replayed', 'node_attestor.truncated', 'node_attestor.forged')


def test_node_attestor_http_challenge(folder):
    found = check(folder, 'node_attestor_http_challenge', [
        component(AGENT, {'hostname': '127.0.0.1'}), component(SERVER, {}, bad=[{'allowed_dns_patterns': ['(']}], skip={test: 'the proof goes over HTTP; the answer has no content'
                                 for test in ('node_attestor.truncated', 'node_attestor.forged')})])
    succeeded(found, SERVER, 'node_attestor.talks', 'node_attestor.replayed')


def test_upstream_authority_disk(folder):
    key = pki.new_key()
    write(folder / 'ca.pem', pki.pem_of(certify('upstream', key, ca=True)))
    write(folder / 'ca.key', pki.key_pem(key))
    found = check(folder, 'upstream_authority_disk', [
        component(UPSTREAM, {'cert_file_path': folder / 'ca.pem', 'key_file_path': folder / 'ca.key'},
                  bad=[{}, {'cert_file_path': 7}])])
    succeeded(found, UPSTREAM, 'upstream.mints', 'upstream.bad_requests', 'upstream.watches')


def test_upstream_authority_spire_without_a_server(folder):
    found = check(folder, 'upstream_authority_spire', [
        component(UPSTREAM, {'server_address': '127.0.0.1', 'workload_api_socket': '{tmp}/api.sock'}, bad=[{}],
                  absent='there is no server above')])
    assert found[(UPSTREAM, 'upstream.mints')]['message'] == 'there is no server above'


def test_every_module_of_the_build_is_tried_here():
    tried = {'workload_attestor_unix', 'workload_attestor_systemd', 'key_manager_memory', 'key_manager_disk', 'key_manager_pkcs11',
             'key_manager_tpm2', 'sealer_tpm', 'node_attestor_tpm', 'node_attestor_tpm_devid', 'node_attestor_join_token', 'node_attestor_x509pop',
             'node_attestor_sshpop', 'node_attestor_http_challenge', 'upstream_authority_disk', 'upstream_authority_spire'}
    built = {name[:-3] for name in os.listdir(PLUGINS) if name.endswith('.so')}
    assert built <= tried, 'plugins without a test here: %s' % sorted(built - tried)


def test_the_wrapper_takes_the_tool_it_is_given(folder):
    tool = os.path.join(process.ROOT, 'tools/plugin-check')
    done = subprocess.run([tool, os.path.join(PLUGINS, 'workload_attestor_unix.so'), '--only', 'library.*'],
                          env=dict(os.environ, PLUGIN_CHECK=CHECK), stdout=subprocess.PIPE, universal_newlines=True, timeout=300)
    assert done.returncode == 0 and '8 success' in done.stdout, done.stdout

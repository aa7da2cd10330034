# SPDX-License-Identifier: Apache-2.0
"""`limpet plugin list` and `limpet plugin describe`: what they print, and that no plugin can harm who looks at it."""
import hashlib
import json
import os
import shutil
import stat
import subprocess

import pytest

from support import process
from support.process import toml_plugin, write

MOCKS = os.path.join(os.path.dirname(process.BINARY), 'tests/abi')


def mock(name):
    return os.path.join(MOCKS, 'mock_%s.so' % name)


def sha256(path):
    with open(path, 'rb') as data:
        return hashlib.sha256(data.read()).hexdigest()


def describe(path, *more):
    return process.run(['plugin', 'describe', *more, path])


def refusal(path):
    done = describe(path)
    assert done.returncode == 1 and done.stdout == '', done.stdout
    assert done.stderr.startswith('Error: plugin %s ' % path) and done.stderr.count('\n') == 1, done.stderr
    return done.stderr


# ---- describe ----
def test_a_description_as_text_is_what_there_is_to_know():
    done = describe(mock('counter'))
    assert done.returncode == 0, done.stderr
    assert done.stdout == '''Plugin     : org.example.counter
Version    : 1.0.0
License    : Apache-2.0
Plugin ABI : 1.0
Path       : %s
SHA-256    : %s
Component  : WorkloadAttestor "counter" (limpet.workload-attestor/1)
Component  : BundlePublisher "counter" (limpet.bundle-publisher/1)
''' % (mock('counter'), sha256(mock('counter')))


def test_a_description_as_json_has_the_same():
    done = describe(mock('good'), '-output', 'json')
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        'id': 'org.example.mock', 'version': '1.2.3', 'license': 'Apache-2.0', 'abi': '1.0', 'path': mock('good'),
        'sha256': sha256(mock('good')),
        'components': [{'interface': 'limpet.workload-attestor/1', 'type': 'WorkloadAttestor', 'name': 'mock',
                        'blocking': False, 'serial': False}]}


@pytest.mark.parametrize('name, reason', [
    ('crashes', 'its code ended the process that looked at it with signal 6 (Aborted)'),
    ('exits', 'its code ended the process that looked at it with exit code'),
    ('hangs', 'its code did not return within 10 s of being loaded'),
    ('closes', 'its code did not return within 10 s of being loaded'),
    ('null', 'it says it cannot live with plugin ABI 1.0'),
    ('future_minor', 'it needs plugin ABI 1.1, this limpet has 1.0'),
    ('two_symbols', 'it exports more than limpet_plugin_main: mock_second_symbol'),
    ('no_entry', 'it does not export limpet_plugin_main'),
    ('duplicate', 'it has two components limpet.workload-attestor/1 named "mock"')])
def test_a_plugin_that_cannot_be_described_is_an_error(name, reason):
    assert reason in refusal(mock(name))


def test_a_file_that_is_no_plugin_is_an_error(folder):
    cases = {'text.so': b'not an object', 'empty.so': b'', 'magic.so': b'\x7fELF', 'zeros.so': bytes(4096),
             'noise.so': os.urandom(4096), 'headed.so': b'\x7fELF\x02\x01\x01' + b'\xff' * 4000}
    for name, content in cases.items():
        path = folder / name
        with open(path, 'wb') as file:
            file.write(content)
        assert ' refused: ' in refusal(path)
    with open(mock('good'), 'rb') as sound:
        whole = sound.read()
    for keep in (100, len(whole) // 2, len(whole) - 1):
        path = folder / 'cut.so'
        with open(path, 'wb') as file:
            file.write(whole[:keep])
        assert ' refused: ' in refusal(path)
    assert 'it is not a regular file' in refusal(folder.path)
    os.mkfifo(folder / 'fifo.so')
    assert 'it is not a regular file' in refusal(folder / 'fifo.so')
    assert 'cannot be opened' in refusal(folder / 'absent.so')


def test_a_plugin_that_others_may_write_is_an_error(folder):
    path = folder / 'plugin.so'
    shutil.copyfile(mock('good'), path)
    os.chmod(path, 0o666)
    assert 'every user may write it; run chmod o-w' in refusal(path)
    os.chmod(path, 0o644)
    os.chmod(folder.path, 0o777)
    assert 'every user may replace it' in refusal(path)
    os.chmod(folder.path, 0o1777)
    assert describe(path).returncode == 0
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644


def test_what_a_file_says_of_itself_does_not_speak_to_the_terminal(folder):
    path = folder / 'loud.so'
    subprocess.run(['cc', '-shared', '-fPIC', '-x', 'c', '-o', path, '-'], check=True, text=True,
                   input='int loud __asm__("\\"\\033[2Jgone\\"") = 1; int limpet_plugin_main(void) { return loud; }')
    told = refusal(path)
    assert 'it exports more than limpet_plugin_main: ' in told and '?[2Jgone' in told and '\x1b' not in told, told


def test_describe_says_how_it_is_used():
    for arguments in ([], ['a.so', 'b.so']):
        done = process.run(['plugin', 'describe', *arguments])
        assert done.returncode == 1 and 'limpet plugin describe FILE.so' in done.stderr, done.stderr
    done = process.run(['plugin', 'describe', '-output', 'xml', mock('good')])
    assert done.returncode == 1 and 'xml' in done.stderr
    done = process.run(['plugin', 'describe', '-help'])
    assert '-output' in done.stdout + done.stderr


def test_the_manual_has_both_commands():
    page = process.run(['manual']).stdout
    assert '.SS plugin list' in page and '.SS plugin describe' in page


# ---- list ----
@pytest.fixture()
def listed(folder):
    def run(plugins, *more):
        path = folder / 'limpet.toml'
        agent = process.Agent(1, folder=folder, join_token='x', plugins=plugins)
        write(path, agent.config())
        return process.run(['plugin', 'list', '-config', path, *more])
    return run


def rows(done):
    return {(r['type'], r['name'], r['configured']): r for r in json.loads(done.stdout)['plugins']}


def by_path(name, path, digest=None, **more):
    return toml_plugin('WorkloadAttestor', name, None, path=path, sha256=digest or sha256(path), **more)


def test_list_names_what_is_configured_and_what_is_built_in(listed):
    done = listed(by_path('mock', mock('good')), '-output', 'json')
    assert done.returncode == 0, done.stdout + done.stderr
    found = rows(done)
    ours = found['WorkloadAttestor', 'mock', True]
    assert ours['version'] == '1.2.3' and ours['path'] == mock('good') and ours['enabled'] and ours['error'] == ''
    assert ours['isolation'] == 'shim'
    disk = found['KeyManager', 'disk', True] if ('KeyManager', 'disk', True) in found else found['KeyManager', 'memory', True]
    assert disk['path'] == '' and disk['isolation'] == 'in-process' and disk['version']
    assert ('NodeAttestor', 'x509pop', False) in found and ('UpstreamAuthority', 'disk', False) in found
    assert not [r for r in found.values() if not r['configured'] and (r['enabled'] or r['path'])]
    text = listed(by_path('mock', mock('good')))
    assert text.returncode == 0 and text.stdout.startswith('Found %d plugins\n' % len(found))
    assert 'Plugin    : WorkloadAttestor "mock"\nState     : enabled\nVersion   : 1.2.3\nPath      : %s\n' % mock('good') \
        in text.stdout


@pytest.mark.parametrize('plugin, error', [
    (lambda: by_path('mock', mock('crashes')), 'with signal 6'),
    (lambda: by_path('other', mock('good')), 'no such plugin is in the file'),
    (lambda: by_path('mock', mock('good'), '0' * 64), 'but the configuration expects ' + '0' * 64),
    # whose code would end the process that runs it, were it run before the digest is known
    (lambda: by_path('mock', mock('crashes'), '0' * 64), 'but the configuration expects ' + '0' * 64),
    (lambda: by_path('mock', '/nowhere/x.so', '0' * 64), 'cannot be opened'),
    (lambda: toml_plugin('WorkloadAttestor', 'nothing'), 'no such plugin is built in')])
def test_list_tells_what_is_wrong_with_a_plugin_and_goes_on(listed, plugin, error):
    done = listed(plugin(), '-output', 'json')
    assert done.returncode == 1, done.stdout + done.stderr
    wrong = [r for r in rows(done).values() if r['error']]
    assert len(wrong) == 1 and error in wrong[0]['error'] and wrong[0]['version'] == ''
    assert 'Error     : ' in listed(plugin()).stdout


def test_a_plugin_that_is_disabled_may_be_wrong(listed):
    done = listed(by_path('mock', mock('crashes'), enabled=False), '-output', 'json')
    assert done.returncode == 0
    assert not rows(done)['WorkloadAttestor', 'mock', True]['enabled']


def test_a_configuration_that_cannot_be_read_is_an_error(folder):
    done = process.run(['plugin', 'list', '-config', folder / 'absent.toml'])
    assert done.returncode == 1 and 'absent.toml' in done.stderr

# SPDX-License-Identifier: Apache-2.0
"""Plugins that are not built in: the examples for authors, built by the very commands of abi/README.md, inside a running
agent, and a bundle publisher inside a running server."""
import hashlib
import os
import re
import shutil
import subprocess

import pytest

from support import process
from support.process import ROOT, eventually, toml_plugin, write


def shell_blocks():
    with open(os.path.join(ROOT, 'abi/README.md')) as text:
        return re.findall(r'```sh\n(.*?)```', text.read(), re.DOTALL)


def block_with(text):
    block, = [b for b in shell_blocks() if text in b]
    return block


def commands():
    """The shell blocks of the README that build something in a clone, in its order."""
    return [b for b in shell_blocks() if '-o ' in b and 'pkg-config' not in b]


def sha256(path):
    with open(path, 'rb') as data:
        return hashlib.sha256(data.read()).hexdigest()


@pytest.fixture(scope='module')
def built():
    """What the README builds, in a folder that looks like the root of the project."""
    place = process.Folder()
    for name in ('abi', 'shim', 'tools', 'etc'):
        os.symlink(os.path.join(ROOT, name), place / name)
    made = {}
    for block in commands():
        if block.startswith('rustc') and not shutil.which('rustc'):
            continue
        done = subprocess.run(['sh', '-ec', block], cwd=place.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              universal_newlines=True, timeout=300)
        assert done.returncode == 0 and not done.stderr, done.stderr
        name = re.search(r'-o (\S+)\.so', block).group(1)
        made[name] = place / (name + '.so')
        os.chmod(made[name], 0o755)
        if 'sha256sum' in block:
            assert done.stdout.split()[0] == sha256(made[name])
    yield made
    place.remove()


def by_path(kind, name, path, data=None, **more):
    return toml_plugin(kind, name, data, path=path, sha256=sha256(path), **more)


EXAMPLES = {'comm': 'comm_attestor', 'cgroup': 'cgroup_attestor', 'parent': 'parent_attestor'}


def test_the_readme_builds_an_example_in_each_language(built):
    assert len(commands()) == 3
    assert {'comm_attestor', 'cgroup_attestor'} <= set(built)
    if not shutil.which('rustc'):
        pytest.skip('no Rust compiler here: the third example was not built')
    assert 'parent_attestor' in built


# tools/setup, tools/build, tools/abi-layout and those below: each shell block is run by a test (the one with pkg-config by
# test_install.py), or is one of these.
def test_no_shell_block_of_the_readme_goes_untried(built):
    tried = commands() + [block_with('sudo install'), block_with('mkdir try'), block_with('tools/plugin-check'),
                          block_with('pkg-config')]
    assert [b for b in shell_blocks() if b not in tried] == ['tools/setup && tools/build\n', 'tools/abi-layout\n']
    assert os.access(os.path.join(ROOT, 'tools/setup'), os.X_OK) and os.access(os.path.join(ROOT, 'tools/build'), os.X_OK)


def test_the_readme_leads_to_a_working_attestor(built):
    place = os.path.dirname(built['comm_attestor'])
    os.makedirs(os.path.join(place, 'build/release'))
    os.symlink(process.BINARY, os.path.join(place, 'build/release/limpet'))
    lib = process.Folder()
    try:
        script = block_with('sudo install').replace('sudo ', '') + block_with('mkdir try')
        script = script.replace('/usr/lib/limpet', lib.path).replace('-serverPort 8081', '-serverPort %d' % process.free_port())
        done = subprocess.run(['bash', '-emc', script], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True, timeout=120)
    finally:
        lib.remove()
    assert done.returncode == 0 and 'spiffe://example.org/demo' in done.stdout, done.stdout


def test_the_readme_checks_each_example(built):
    for line in block_with('tools/plugin-check').splitlines():
        name = line.split()[1][:-len('.so')]
        if name not in built:
            continue  # no Rust compiler here
        done = subprocess.run(['sh', '-ec', line + ' --exclude "fuzz.*" --exclude "parity.*" --jobs 2 --cycles 60'],
                              cwd=os.path.dirname(built[name]), env={**os.environ, 'PLUGIN_CHECK': os.environ['LIMPET_PLUGIN_CHECK']},
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=300)
        assert done.returncode == 0 and ' 0 warning, ' in done.stdout, done.stdout


def test_each_example_exports_its_one_symbol(built):
    for path in built.values():
        out = subprocess.run(['nm', '-D', '--defined-only', path], stdout=subprocess.PIPE, universal_newlines=True).stdout
        assert [line.split()[2] for line in out.splitlines()] == ['limpet_plugin_main'], out


def expected_selectors(pid):
    with open('/proc/%d/comm' % pid) as text:
        comm = text.read().strip()
    with open('/proc/%d/stat' % pid) as text:
        parent = int(text.read().rsplit(')', 1)[1].split()[1])
    out = {'comm': ['comm:name:' + comm], 'cgroup': []}
    if parent:
        with open('/proc/%d/comm' % parent) as text:
            out['parent'] = ['parent:name:' + text.read().strip()]
    with open('/proc/%d/cgroup' % pid) as text:
        for line in text:
            if line.startswith('0::/') and line.strip() != '0::/':
                out['cgroup'] = ['cgroup:path:' + line.strip()[3:]]
    return out


@pytest.mark.parametrize('name', sorted(EXAMPLES))
def test_an_example_attests_a_workload_of_a_running_agent(server, make, built, name):
    if EXAMPLES[name] not in built:
        pytest.skip('no Rust compiler here')
    wanted = expected_selectors(os.getpid()).get(name)
    if not wanted:
        pytest.skip('this process has no such thing')
    agent = make(process.Agent, server.port, join_token=server.token('/by-path-' + name), roots=server.roots(),
                 plugins=by_path('WorkloadAttestor', name, built[EXAMPLES[name]]))
    server.add('/mine-' + name, '/by-path-' + name, wanted[:1])

    def fetched():
        with agent.workload() as workload:
            return [svid.spiffe_id for svid in workload.fetch().svids]
    assert eventually(fetched, what='an SVID by ' + wanted[0]) == ['spiffe://example.org/mine-' + name]


@pytest.mark.parametrize('name', ['cgroup', 'parent'])
def test_an_example_refuses_keys_that_it_does_not_know(folder, built, name):
    if EXAMPLES[name] not in built:
        pytest.skip('no Rust compiler here')
    config = folder / 'agent.toml'
    agent = process.Agent(1, folder=folder, join_token='x',
                          plugins=by_path('WorkloadAttestor', name, built[EXAMPLES[name]], {'colour': 'blue'}))
    write(config, agent.config())
    done = process.run(['validate', '-config', config])
    assert done.returncode == 1
    assert 'the plugin %s has no configuration: remove the table "data"' % name in done.stdout + done.stderr


# ---- a bundle publisher ----
@pytest.fixture(scope='module')
def publisher():
    place = process.Folder()
    path = place / 'publisher.so'
    subprocess.run(['c++', '-std=c++17', '-O1', '-fPIC', '-shared', '-fvisibility=hidden', '-I', os.path.join(ROOT, 'abi'),
                    '-I', os.path.join(ROOT, 'shim'), '-Wl,-z,defs',
                    '-Wl,--version-script=' + os.path.join(ROOT, 'abi/limpet_plugin.map'), '-o', path,
                    os.path.join(ROOT, 'tests/abi/mocks/publisher.cc')], check=True, timeout=120)
    os.chmod(path, 0o755)
    yield path
    place.remove()


def lines(path):
    with open(path) as text:
        return text.read().split('\n')[:-1]


def test_a_bundle_is_published_at_the_start_and_after_each_change(make, folder, publisher):
    out = folder / 'published'
    server = make(process.Server, plugins=by_path('BundlePublisher', 'lines', publisher, {'path': out}, role='server',
                                          user='root', write_paths=[folder.path]))
    assert eventually(lambda: lines(out)[-1] == '1 1', what='the first bundle')
    done = server.cli('localauthority', 'x509', 'prepare')
    assert done.returncode == 0, done.stderr
    assert eventually(lambda: lines(out)[-1] == '2 1', what='the bundle with the prepared authority')
    # a failure is a state of health, nothing else stops, and the bundle goes out when it can again
    write(out + '.fail', '')
    done = server.cli('localauthority', 'jwt', 'prepare')
    assert done.returncode == 0, done.stderr
    assert eventually(lambda: server.has_logged('the bucket is gone'), what='the failure in the log')
    assert server.healthy() and lines(out)[-1] == '2 1'
    os.unlink(out + '.fail')
    assert eventually(lambda: lines(out)[-1] == '2 2', what='the bundle after the failure')
    assert eventually(lambda: server.has_logged('Bundle can be published again'), what='the end of the failure in the log')


def test_a_publisher_that_refuses_its_configuration_is_named(folder, publisher):
    server = process.Server(folder=folder, plugins=by_path('BundlePublisher', 'lines', publisher, {}, role='server'))
    write(server.config_path, server.config())
    done = process.run(['validate', '-config', server.config_path])
    assert done.returncode == 1
    assert 'BundlePublisher "lines"' in done.stdout + done.stderr and 'path is missing' in done.stdout + done.stderr


# ---- the host's services ----
@pytest.fixture(scope='module')
def counter():
    place = process.Folder()
    path = place / 'counter.so'
    subprocess.run(['cc', '-std=c11', '-D_GNU_SOURCE', '-O1', '-fPIC', '-shared', '-fvisibility=hidden', '-I',
                    os.path.join(ROOT, 'abi'), '-Wl,-z,defs',
                    '-Wl,--version-script=' + os.path.join(ROOT, 'abi/limpet_plugin.map'), '-o', path,
                    os.path.join(ROOT, 'tests/abi/mocks/counter.c')], check=True, timeout=120)
    os.chmod(path, 0o755)
    yield path
    place.remove()


@pytest.mark.parametrize('isolation', ['in-process', 'shim'])
def test_a_plugins_private_state_outlives_the_server(make, counter, isolation):
    server = make(process.Server, plugins=by_path('BundlePublisher', 'counter', counter, role='server', isolation=isolation))
    assert server.has_logged('started 1 times')
    assert server.stop() == 0
    server.start()
    assert eventually(lambda: server.has_logged('started 2 times'), what='the second start')
    # validation has no services, and counts nothing
    done = process.run(['validate', '-config', server.config_path])
    assert done.returncode == 0, done.stderr
    server.kill()
    server.start()
    assert eventually(lambda: server.has_logged('started 3 times'), what='the third start')


@pytest.mark.parametrize('isolation', ['in-process', 'shim'])
def test_a_plugins_private_state_outlives_the_agent(server, make, counter, isolation):
    agent = make(process.Agent, server.port, join_token=server.token('/counted-' + isolation), roots=server.roots(),
                 plugins=by_path('WorkloadAttestor', 'counter', counter, isolation=isolation))
    assert eventually(lambda: agent.has_logged('started 1 times'), what='the first start')
    assert agent.stop() == 0
    agent.start()
    assert eventually(lambda: agent.has_logged('started 2 times'), what='the second start')

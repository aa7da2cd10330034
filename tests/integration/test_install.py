# SPDX-License-Identifier: Apache-2.0
"""`meson install` of this very build, into a folder: what is there is what the documentation names, and a plugin can be
made from it without the source tree."""
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile

import pytest

from support import process
from support.process import ROOT

BUILD = os.path.dirname(process.BINARY)
PARTS = os.environ['LIMPET_PARTS'].split()  # what this build was made with

BUILT_IN = ['key_manager_disk', 'key_manager_memory', 'node_attestor_http_challenge', 'node_attestor_join_token',
            'node_attestor_sshpop', 'node_attestor_x509pop', 'workload_attestor_unix']
OF_A_SERVER = ['upstream_authority_disk', 'upstream_authority_spire']
LOADABLE = {'key_manager_tpm2': 'tpm', 'node_attestor_tpm': 'tpm', 'node_attestor_tpm_devid': 'tpm', 'sealer_tpm': 'tpm',
            'key_manager_pkcs11': 'pkcs11', 'workload_attestor_systemd': 'systemd'}
EXAMPLES = ['cgroup_attestor.cc', 'comm_attestor.c', 'parent_attestor.rs']


def loadable():
    return [name for name, part in LOADABLE.items() if part in PARTS]


def read(path):
    with open(path) as text:
        return text.read()


class Tree:
    """What was installed; its folders by the names of meson's options."""

    def __init__(self):
        done = subprocess.run(['meson', 'introspect', '--buildoptions', BUILD], stdout=subprocess.PIPE, check=True, timeout=60)
        self.options = {option['name']: option['value'] for option in json.loads(done.stdout.decode())}
        self.prefix = self.options['prefix']
        self.place = tempfile.mkdtemp(prefix='installed-', dir=BUILD)  # half a gigabyte, with sanitizers

    def install(self):
        done = subprocess.run(['meson', 'install', '-C', BUILD, '--no-rebuild', '--quiet', '--destdir', self.place],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, timeout=300)
        assert done.returncode == 0, done.stdout

    def name(self, option, *more):
        """A path as the installed system will have it."""
        return os.path.join(self.prefix, self.options[option], *more)

    def path(self, name):
        """Where that is now."""
        return self.place + name

    def files(self):
        return {os.path.join(folder, name)[len(self.place):]
                for folder, _, names in os.walk(self.place) for name in names}

    def plugin(self, name):
        return os.path.join(self.prefix, 'lib/limpet/plugins', name + '.so')  # on every system

    def doc(self, *more):
        return self.name('datadir', 'doc/limpet', *more)


@pytest.fixture(scope='module')
def tree():
    made = Tree()
    try:
        made.install()
        yield made
    finally:
        shutil.rmtree(made.place)


def test_just_what_the_readme_lists_is_installed(tree):
    plugins = BUILT_IN + (OF_A_SERVER if 'server' in PARTS else []) + loadable()
    expected = {tree.name('bindir', 'limpet'), tree.name('libexecdir', 'limpet/limpet-shim'),
                tree.name('includedir', 'limpet_plugin.h'), tree.name('includedir', 'limpet.hpp'),
                tree.name('datadir', 'limpet/limpet_plugin.map'), tree.name('datadir', 'pkgconfig/limpet-plugin.pc'),
                tree.name('mandir', 'man1/limpet.1'), tree.name('mandir', 'man8/limpet-shim.8'),
                tree.doc('abi/README.md'), tree.doc('shim/README.md')}
    expected |= {tree.name('libexecdir', 'limpet/limpet-tpm')} if 'tpm' in PARTS else set()
    expected |= {tree.plugin(name) for name in loadable()}
    expected |= {tree.doc('plugins', name, 'README.md') for name in plugins}
    expected |= {tree.doc('abi/example', name) for name in EXAMPLES}
    expected |= {tree.doc('examples', name) for name in os.listdir(os.path.join(ROOT, 'etc'))}
    assert tree.files() == expected


# ---- what operators read ----
def test_the_manual_page_names_every_command(tree):
    page = read(tree.path(tree.name('mandir', 'man1/limpet.1')))
    assert page.startswith('.TH LIMPET 1 ')
    commands = re.findall(r'^    (\S+(?: \S+)*)  ', process.run(['--help']).stdout, re.MULTILINE)
    assert 'run' in commands and 'plugin describe' in commands, commands
    assert [c for c in commands if '.SS %s\n' % c.replace('-', r'\-') not in page] == []


def texts(tree):
    """Every text that is installed for people to read, by name."""
    names = [n for n in tree.files() if n.startswith(tree.doc('')) or n.startswith(tree.name('mandir', ''))]
    assert tree.doc('examples/tpm-agent.toml') in names
    return {name: read(tree.path(name)) for name in names}


def test_the_plugins_that_samples_and_readmes_load_are_where_they_say(tree):
    """They say /usr where this build may have another prefix."""
    found = set()
    for name, text in texts(tree).items():
        for path in re.findall(r'^path = "(/usr/lib/.*?)"', text, re.MULTILINE):
            module = os.path.basename(path)[:-len('.so')]
            assert path == '/usr/lib/limpet/plugins/%s.so' % module, name
            if name == tree.doc('abi/README.md'):
                continue  # what its reader builds
            found.add(module)
            assert module in LOADABLE, '%s loads %s' % (name, path)
            if LOADABLE[module] in PARTS:
                assert os.path.isfile(tree.path(tree.prefix + path[len('/usr'):])), '%s loads %s' % (name, path)
    assert found >= set(loadable())


def test_the_texts_that_other_texts_refer_to_are_installed(tree):
    found = set()
    for name, text in texts(tree).items():
        found |= {(name, other) for other in re.findall(r'\b(?:abi|shim)/README\.md', text)}
    assert {'server.toml', 'limpet-shim.8'} <= {os.path.basename(name) for name, _ in found}
    assert [(name, other) for name, other in found if not os.path.isfile(tree.path(tree.doc(other)))] == []


# ---- what authors of plugins build with ----
@pytest.fixture(scope='module')
def pkg_config(tree):
    """Asks about limpet-plugin as if the tree were mounted at the prefix; (command line, environment)."""
    if not shutil.which('pkg-config'):
        pytest.skip('no pkg-config here')
    return 'pkg-config --define-prefix', {**os.environ, 'PKG_CONFIG_PATH': tree.path(tree.name('datadir', 'pkgconfig'))}


def ask(pkg_config, *arguments):
    command, env = pkg_config
    return subprocess.run(command.split() + list(arguments) + ['limpet-plugin'], env=env, stdout=subprocess.PIPE,
                          universal_newlines=True, check=True, timeout=60).stdout.strip()


def test_pkg_config_tells_what_a_makefile_needs(tree, pkg_config):
    version = re.search(r"^  version: '(.*)',", read(os.path.join(ROOT, 'meson.build')), re.MULTILINE).group(1)
    assert ask(pkg_config, '--modversion') == version
    assert shlex.split(ask(pkg_config, '--cflags')) == ['-I' + tree.path(tree.name('includedir'))]
    assert ask(pkg_config, '--variable=version_script') == tree.path(tree.name('datadir', 'limpet/limpet_plugin.map'))
    assert ask(pkg_config, '--variable=plugindir') == tree.path(os.path.dirname(tree.plugin('x')))


@pytest.mark.parametrize('example, change', [
    ('comm_attestor.c', {}), ('cgroup_attestor.cc', {'cc -std=c11': 'c++ -std=c++17', 'comm_attestor.c': 'cgroup_attestor.cc'})])
def test_the_readmes_command_builds_an_example_from_what_is_installed(tree, folder, pkg_config, example, change):
    readme = read(tree.path(tree.doc('abi/README.md')))
    block, = [b for b in re.findall(r'```sh\n(.*?)```', readme, re.DOTALL) if 'pkg-config' in b]
    for old, new in {**change, 'pkg-config': pkg_config[0]}.items():
        assert old in block
        block = block.replace(old, new)
    shutil.copy(tree.path(tree.doc('abi/example', example)), folder.path)
    done = subprocess.run(['sh', '-ec', block], cwd=folder.path, env=pkg_config[1], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, timeout=120)
    assert done.returncode == 0 and not done.stdout, done.stdout
    os.chmod(folder / 'comm_attestor.so', 0o755)
    done = process.run(['plugin', 'describe', folder / 'comm_attestor.so'])
    assert done.returncode == 0 and 'WorkloadAttestor "%s"' % example.split('_')[0] in done.stdout, done.stdout + done.stderr

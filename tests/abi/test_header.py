# SPDX-License-Identifier: Apache-2.0
"""The header as compilers see it: it stands alone in C and C++ on every architecture without hidden padding, its layout
only grows at the ends, plugins built against earlier headers still pass every check, and nothing is exported that should
not be."""
import json
import os
import re
import shutil
import subprocess

import pytest

ROOT = os.environ['LIMPET_ROOT']
HEADER = os.path.join(ROOT, 'abi/limpet_plugin.h')
TOOL = os.path.join(ROOT, 'tools/abi-layout')
VERSIONS = sorted(os.listdir(os.path.join(ROOT, 'abi/history')))
TARGETS = ['x86_64-linux-gnu', 'i386-linux-gnu', 'armv7-linux-gnueabihf', 'aarch64-linux-gnu', 'riscv64-linux-gnu']
WARNINGS = ['-Wall', '-Wextra', '-Wpedantic', '-Wpadded', '-Werror']
need_clang = pytest.mark.skipif(not shutil.which('clang-19'), reason='clang-19 is missing: run tools/setup test')


def run(*command):
    return subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                          text=True)


def struct_names(text):
    return re.findall(r'^(?:typedef )?struct (limpet_\w+) \{', text, re.MULTILINE)


def probe(folder, text):
    """A source that makes the compiler lay out every struct, with one exported function for each."""
    names = struct_names(text)
    assert len(names) > 35
    source = folder / 'probe.c'
    lines = ['#include <limpet_plugin.h>', '#ifdef __cplusplus', '#define static_check static_assert', 'extern "C" {',
             '#else', '#define static_check _Static_assert', '#endif']
    for name in names:
        lines += ['static_check(sizeof(struct %s) > 0, "");' % name,
                  'LIMPET_EXPORT size_t probe_%s(const struct %s *p);' % (name, name),
                  'size_t probe_%s(const struct %s *p) { return p == 0 ? 0 : sizeof *p; }' % (name, name)]
    source.write_text('\n'.join(lines + ['#ifdef __cplusplus', '}', '#endif', '']))
    return source


@pytest.fixture()
def header():
    with open(HEADER) as text:
        return text.read()


# ---- the compile matrix ----
COMPILERS = [('gcc', ['gcc']), ('g++', ['g++'])] + [
    ('%s %s' % (target, language), ['clang-19', '-target', target, '-ffreestanding', '-nostdlibinc'])
    for target in TARGETS for language in ('C', 'C++')]


@pytest.mark.parametrize('name, compiler', COMPILERS, ids=[c[0] for c in COMPILERS])
def test_compiles_alone_without_padding(tmp_path, header, name, compiler):
    if not shutil.which(compiler[0]):
        pytest.skip(compiler[0] + ' is missing: run tools/setup test')
    language = ['-x', 'c++', '-std=c++20'] if name.endswith('++') else ['-x', 'c', '-std=c11']
    done = run(*compiler, *language, *WARNINGS, '-I', os.path.dirname(HEADER), '-fsyntax-only', probe(tmp_path, header))
    assert done.returncode == 0, done.stdout


def test_hidden_padding_is_found(tmp_path, header):
    (tmp_path / 'limpet_plugin.h').write_text(header.replace('  uint32_t attested;', '  uint8_t attested;'))
    done = run('gcc', '-std=c11', *WARNINGS, '-I', tmp_path, '-c', '-o', '/dev/null', probe(tmp_path, header))
    assert done.returncode != 0 and 'padded' in done.stdout or 'padding' in done.stdout, done.stdout


# ---- the layout ----
@pytest.fixture()
def changed(tmp_path, header):
    """Runs the check on a header in which one text was replaced by another."""
    def check(old, new, folder=None):
        assert old in header
        path = tmp_path / 'limpet_plugin.h'
        path.write_text(header.replace(old, new, 1))
        done = run(TOOL, '--check', '--header', path, '--layouts', folder or os.path.join(ROOT, 'abi/layout'))
        return done.returncode, done.stdout
    return check


@need_clang
def test_the_committed_layout_is_that_of_the_header():
    done = run(TOOL, '--check')
    assert done.returncode == 0, done.stdout


MEMBER = '  limpet_code code;\n'
STALE = 'the layout that is kept is not that of the header'


@need_clang
@pytest.mark.parametrize('old, new, complaint', [
    (MEMBER, '  uint32_t extra;\n' + MEMBER, 'struct limpet_status: "4 4 int code" has become "4 4 unsigned int extra"'),
    (MEMBER, '  uint32_t code;\n', 'struct limpet_status: "4 4 int code" has become "4 4 unsigned int code"'),
    (MEMBER, '  int64_t code;\n', 'struct limpet_status: "4 4 int code" has become'),
    (MEMBER, '', 'struct limpet_status: "4 4 int code" has become'),
    (MEMBER, '  limpet_code number;\n', 'has become "4 4 int number"'),
    ('typedef int32_t limpet_code;', 'typedef int64_t limpet_code;', 'struct limpet_status: "4 4 int code" has become'),
    ('(*limpet_done)(limpet_op *op,', '(*limpet_done)(void *op,', 'struct limpet_component: '),
    ('typedef struct limpet_str { const char *ptr; size_t len; }',
     'typedef struct limpet_str { const char *ptr; size_t len; size_t more; }', 'struct limpet_str is frozen and has changed'),
    ('#define LIMPET_UNAVAILABLE 14', '#define LIMPET_UNAVAILABLE 15', '"#define LIMPET_UNAVAILABLE 14" is gone or has another'),
    ('"limpet.sealer/1"', '"limpet.sealer/2"', '"#define LIMPET_SEALER "limpet.sealer/1"" is gone or has another value'),
], ids=['inserted', 'other sign', 'other size', 'removed', 'renamed', 'through a typedef', 'in a callback', 'frozen',
        'constant', 'interface id'])
def test_a_change_that_would_break_plugins_is_found(changed, old, new, complaint):
    status, said = changed(old, new)
    assert status == 1 and complaint in said, said


@need_clang
def test_a_struct_that_vanished_is_found(changed, header):
    table = re.search(r'typedef struct limpet_bundle_publisher \{.*?\} limpet_bundle_publisher;', header, re.DOTALL).group(0)
    status, said = changed(table, '')
    assert status == 1 and 'struct limpet_bundle_publisher is gone' in said, said


@need_clang
def test_an_append_breaks_nothing_and_needs_a_refreshed_text(changed, header, tmp_path):
    last = '  uint32_t reserved;       /* zero */\n} limpet_status;'
    grown = last.replace('}', '  limpet_str object;\n}')
    status, said = changed(last, grown)
    assert status == 1 and all(STALE in line for line in said.splitlines()), said
    # refreshed as a new minor version beside the old one, it passes
    layouts = tmp_path / 'abi/layout'
    shutil.copytree(os.path.join(ROOT, 'abi/layout'), layouts)
    (layouts / 'released').write_text('1.0\n')
    path = tmp_path / 'limpet_plugin.h'
    path.write_text(header.replace(last, grown))
    done = run(TOOL, '--header', path, '--layouts', layouts)
    assert done.returncode == 1 and '1.0 is released and does not change any more; raise LIMPET_ABI_MINOR' in done.stdout
    path.write_text(path.read_text().replace('#define LIMPET_ABI_MINOR 0u', '#define LIMPET_ABI_MINOR 1u'))
    assert run(TOOL, '--header', path, '--layouts', layouts).returncode == 0
    done = run(TOOL, '--check', '--header', path, '--layouts', layouts)
    assert done.returncode == 0, done.stdout
    assert (tmp_path / 'abi/history/1.1/limpet_plugin.h').read_text() == path.read_text()
    # and what 1.1 appended may not change in turn
    path.write_text(path.read_text().replace('limpet_str object;', 'limpet_bytes object;'))
    done = run(TOOL, '--check', '--header', path, '--layouts', layouts)
    assert done.returncode == 1 and '1.1 on armv7: struct limpet_status: ' in done.stdout and '1.0 on' not in done.stdout


# ---- a second opinion ----
def probe_object(folder, text, name):
    (folder / 'limpet_plugin.h').write_text(text)
    out = folder / name
    done = run('gcc', '-std=c11', '-g', '-O0', '-fPIC', '-shared', '-I', folder, '-o', out, probe(folder, text))
    assert done.returncode == 0, done.stdout
    return out


need_abidiff = pytest.mark.skipif(not shutil.which('abidiff'), reason='abigail-tools is missing: run tools/setup test')


@need_abidiff
@pytest.mark.parametrize('version', VERSIONS)
def test_abidiff_agrees(tmp_path, header, version):
    with open(os.path.join(ROOT, 'abi/history', version, 'limpet_plugin.h')) as text:
        old = probe_object(tmp_path, text.read(), 'old.so')
    done = run('abidiff', old, probe_object(tmp_path, header, 'new.so'))
    ours = '%s.%s' % tuple(re.search(r'#define LIMPET_ABI_%s (\d+)u' % n, header).group(1) for n in ('MAJOR', 'MINOR'))
    # 1, 2: abidiff itself failed. 4: something changed, which needs a new minor version. 8: something was removed.
    assert done.returncode & (1 | 2 | 8) == 0, done.stdout
    assert ours != version or done.returncode == 0, done.stdout


@need_abidiff
def test_abidiff_sees_an_inserted_member_and_a_changed_type(tmp_path, header):
    old = probe_object(tmp_path, header, 'old.so')
    for text in ('  uint32_t extra;\n' + MEMBER, '  int64_t code;\n'):
        done = run('abidiff', old, probe_object(tmp_path, header.replace(MEMBER, text), 'new.so'))
        assert done.returncode != 0 and 'limpet_status' in done.stdout, done.stdout


# ---- plugins that were built against earlier headers ----
DEMOS = {'workload': 'limpet.workload-attestor/1', 'keys': 'limpet.key-manager/1', 'node': 'limpet.node-attestor.agent/1',
         'sealer': 'limpet.sealer/1'}


def test_the_newest_header_is_in_the_history(header):
    version = '%s.%s' % tuple(re.search(r'#define LIMPET_ABI_%s (\d+)u' % n, header).group(1) for n in ('MAJOR', 'MINOR'))
    with open(os.path.join(ROOT, 'abi/history', version, 'limpet_plugin.h')) as text:
        assert text.read() == header, 'run tools/abi-layout'


def checked(plugin, *arguments):
    done = subprocess.run([os.environ['LIMPET_PLUGIN_CHECK'], plugin, '--format', 'json', '--exclude', 'fuzz.*', '--cycles', '60',
                           *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, text=True)
    results = json.loads(done.stdout)['results']
    return results, [r for r in results if r['status'] in ('failed', 'crashed')]


@pytest.mark.parametrize('version', VERSIONS)
@pytest.mark.parametrize('kind', sorted(DEMOS))
def test_a_plugin_built_against_a_kept_header_works(tmp_path, version, kind):
    plugin = os.path.join(os.environ['LIMPET_OLD_PLUGINS'], 'built_%s_%s.so' % (version, kind))
    config = tmp_path / 'config.json'
    config.write_text(json.dumps({'components': [{'interface': DEMOS[kind], 'data': {'tag': 'one'}, 'other': {'tag': 'two'},
                                                  'bad': [{'tag': 7}]}]}))
    results, wrong = checked(plugin, '--config', str(config))
    assert not wrong, wrong
    assert len([r for r in results if r['status'] == 'success']) > 25


@pytest.mark.parametrize('version', VERSIONS)
@pytest.mark.parametrize('kind', ['upstream', 'counter'])
def test_the_other_kinds_built_against_a_kept_header_load(version, kind):
    plugin = os.path.join(os.environ['LIMPET_OLD_PLUGINS'], 'built_%s_%s.so' % (version, kind))
    results, wrong = checked(plugin, '--only', 'library.load')
    assert not wrong, wrong
    assert [r['status'] for r in results] == ['success']


# ---- what is exported ----
def exported(path):
    done = subprocess.run(['nm', '-D', '--defined-only', path], stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    return sorted(line.split()[-1] for line in done.stdout.splitlines())


PLUGINS = os.environ['LIMPET_BUILT_PLUGINS'].split(':')


@pytest.mark.parametrize('path', PLUGINS, ids=[os.path.basename(p) for p in PLUGINS])
def test_a_plugin_exports_its_entry_and_nothing_else(path):
    assert exported(path) == ['limpet_plugin_main']


def test_the_daemon_exports_nothing_of_its_own():
    # Its own copies of what the C library and the C++ runtime also have are theirs to bind; nothing of ours is there.
    ours = [name for name in exported(os.environ['LIMPET'])
            if 'limpet' in name or re.match(r'(mbedtls|psa|nghttp2|llhttp|pb|mdb|yyjson|uv)_', name)]
    assert not ours

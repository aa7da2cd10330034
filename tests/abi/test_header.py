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
    assert done.returncode != 0 and ('padded' in done.stdout or 'padding' in done.stdout), done.stdout


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
ENTRY = '"export limpet_plugin_main const struct limpet_plugin *(*)(unsigned int, unsigned int)" is gone or has another'
OTHER = 'differs from it in more than comments'
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
    ('(uint32_t host_major,', '(uint64_t host_major,', ENTRY), ('(uint32_t host_major,', '(int32_t host_major,', ENTRY),
    (' host_major, uint32_t host_minor);', ' host_major);', ENTRY),
    ('LIMPET_EXPORT const limpet_plugin *limpet', 'LIMPET_EXPORT void limpet', ENTRY), (' *limpet_plugin_main(', ' *limpet_main(', ENTRY),
    ('offsetof(type, m) +', '', 'it is released, and {} ' + OTHER),
], ids=['inserted', 'other sign', 'other size', 'removed', 'renamed', 'through a typedef', 'in a callback', 'frozen',
        'constant', 'interface id', 'wider argument', 'argument\'s sign', 'fewer arguments', 'result', 'function\'s name', 'macro'])
def test_a_change_that_would_break_plugins_is_found(changed, tmp_path, old, new, complaint):
    status, said = changed(old, new)
    assert status == 1 and complaint.format(tmp_path / 'limpet_plugin.h') in said, said


@need_clang
def test_a_better_comment_breaks_nothing_and_leaves_what_was_released(header, tmp_path):
    for folder in ('layout', 'history'):
        shutil.copytree(os.path.join(ROOT, 'abi', folder), tmp_path / 'abi' / folder)
    path = tmp_path / 'limpet_plugin.h'
    path.write_text(header.replace('/* UTF-8, no NUL promised */', '/* UTF-8;\n * no NUL */'))
    assert path.read_text() != header
    for arguments in ([], ['--release'], ['--check']):
        done = run(TOOL, *arguments, '--header', path, '--layouts', tmp_path / 'abi/layout')
        assert done.returncode == 0, done.stdout
    for name in ('layout/released', 'history/1.0/limpet_plugin.h'):
        with open(os.path.join(ROOT, 'abi', name)) as text:
            assert (tmp_path / 'abi' / name).read_text() == text.read()
    # but a macro is no comment
    path.write_text(header.replace('offsetof(type, m) +', ''))
    done = run(TOOL, '--header', path, '--layouts', tmp_path / 'abi/layout')
    assert done.returncode == 1 and '1.0 is released and does not change any more' in done.stdout, done.stdout


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
    assert status == 1 and all(STALE in line or OTHER in line for line in said.splitlines()), said
    # refreshed as a new minor version beside the old one, it passes
    layouts = tmp_path / 'abi/layout'
    shutil.copytree(os.path.join(ROOT, 'abi/layout'), layouts)
    shutil.copytree(os.path.join(ROOT, 'abi/history'), tmp_path / 'abi/history')
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


# ---- what is released stays as it is ----
def test_version_1_0_is_released_on_every_architecture():
    with open(os.path.join(ROOT, 'abi/layout/released')) as text:
        frozen = sorted(tuple(line.split()[:2]) for line in text)
    assert [what for version, what in frozen if version == '1.0'] == ['aarch64', 'armv7', 'i386', 'limpet_plugin.h', 'riscv64',
                                                                      'x86_64']


@need_clang
@pytest.mark.parametrize('name, old, new', [
    ('layout/1.0.i386.txt', '4 4 int code', '4 4 unsigned int code'), ('history/1.0/limpet_plugin.h', MEMBER, '  uint32_t code;\n'),
    ('history/1.0/limpet_plugin.h', '/* UTF-8, no NUL promised */', '')], ids=['text', 'header', 'comment'])
def test_a_released_version_cannot_be_rewritten_by_hand(header, tmp_path, name, old, new):
    for folder in ('layout', 'history'):
        shutil.copytree(os.path.join(ROOT, 'abi', folder), tmp_path / 'abi' / folder)
    path = tmp_path / 'abi' / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    # the header goes along with it, so that only the release is left to object
    changed_header = tmp_path / 'limpet_plugin.h'
    changed_header.write_text(header if name.endswith('.h') else header.replace(MEMBER, '  uint32_t code;\n'))
    done = run(TOOL, '--check', '--header', changed_header, '--layouts', tmp_path / 'abi/layout')
    complaint = 'it is released, and %s is not what was released' % path
    assert done.returncode == 1 and complaint in done.stdout, done.stdout
    done = run(TOOL, '--header', changed_header, '--layouts', tmp_path / 'abi/layout')
    assert (done.returncode == 1 and '1.0 is released' in done.stdout) == name.endswith('.txt'), done.stdout


@need_clang
def test_a_release_freezes_what_was_appended(header, tmp_path):
    for folder in ('layout', 'history'):
        shutil.copytree(os.path.join(ROOT, 'abi', folder), tmp_path / 'abi' / folder)
    path = tmp_path / 'limpet_plugin.h'
    last = '  uint32_t reserved;       /* zero */\n} limpet_status;'
    path.write_text(header.replace(last, last.replace('}', '  limpet_str object;\n}'))
                    .replace('#define LIMPET_ABI_MINOR 0u', '#define LIMPET_ABI_MINOR 1u'))
    assert run(TOOL, '--release', '--header', path, '--layouts', tmp_path / 'abi/layout').returncode == 0
    assert len((tmp_path / 'abi/layout/released').read_text().splitlines()) == 12
    assert run(TOOL, '--check', '--header', path, '--layouts', tmp_path / 'abi/layout').returncode == 0
    path.write_text(path.read_text().replace('limpet_str object;', 'limpet_str object;\n  limpet_str more;'))
    done = run(TOOL, '--header', path, '--layouts', tmp_path / 'abi/layout')
    assert done.returncode == 1 and '1.1 is released' in done.stdout, done.stdout


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
# What the tests of a kind stand on, and what the rest of plugin-check would take a minute for.
BASICS = ['library.load', 'op.answers', 'op.borrowed', 'op.cancel_during']


def test_the_newest_header_is_in_the_history(header):
    def code(text):
        return re.sub(r'/\*.*?\*/', ' ', text, flags=re.DOTALL).split()
    version = '%s.%s' % tuple(re.search(r'#define LIMPET_ABI_%s (\d+)u' % n, header).group(1) for n in ('MAJOR', 'MINOR'))
    with open(os.path.join(ROOT, 'abi/history', version, 'limpet_plugin.h')) as text:
        assert code(text.read()) == code(header), 'run tools/abi-layout'


def checked(plugin, *arguments):
    done = subprocess.run([os.environ['LIMPET_PLUGIN_CHECK'], plugin, '--format', 'json', '--exclude', 'fuzz.*', '--cycles', '60',
                           *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, text=True)
    results = json.loads(done.stdout)['results']
    return results, [r for r in results if r['status'] in ('failed', 'crashed')]


def of_groups(plugin, folder, interfaces, groups):
    """The tests of these groups; what succeeded."""
    config = folder / 'config.json'
    config.write_text(json.dumps({'components': [{'interface': name, 'data': {'tag': 'one'}, 'other': {'tag': 'two'},
                                                  'bad': [{'tag': 7}]} for name in interfaces]}))
    patterns = BASICS + [group + '.*' for group in groups]
    results, wrong = checked(plugin, '--config', str(config), '--jobs', '2', *[a for p in patterns for a in ('--only', p)])
    assert not wrong, wrong
    assert not [r for r in results if r['status'] == 'warning'], results
    return {r['test'] for r in results if r['status'] == 'success'}


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
@pytest.mark.parametrize('kind, interface, wanted', [
    ('upstream', 'limpet.upstream-authority/1', {'upstream.mints', 'upstream.watches', 'parity.upstream.mints'}),
    ('publisher', 'limpet.bundle-publisher/1', {'publisher.publishes', 'parity.publisher.publishes'})])
def test_authorities_and_publishers_built_against_a_kept_header_work(tmp_path, version, kind, interface, wanted):
    plugin = os.path.join(os.environ['LIMPET_OLD_PLUGINS'], 'built_%s_%s.so' % (version, kind))
    assert wanted <= of_groups(plugin, tmp_path, [interface], [kind, 'parity.' + kind])


# Its configure ends once a poll and the state have answered it.
@pytest.mark.parametrize('version', VERSIONS)
def test_services_answer_a_plugin_built_against_a_kept_header(version):
    plugin = os.path.join(os.environ['LIMPET_OLD_PLUGINS'], 'built_%s_counter.so' % version)
    results, wrong = checked(plugin, '--only', 'library.load', '--only', 'op.answers')
    assert not wrong, wrong
    assert [r['test'] for r in results if r['status'] == 'success'] == ['library.load', 'op.answers', 'op.answers']


# ---- the C++ header ----
KINDS = {'workload': ['workload-attestor'], 'node_attestor': ['node-attestor.agent', 'node-attestor.server'],
         'key_manager': ['key-manager'], 'sealer': ['sealer'], 'upstream': ['upstream-authority'],
         'publisher': ['bundle-publisher']}


def test_every_kind_over_the_cpp_header_works(tmp_path):
    names = ['limpet.%s/1' % name for kind in KINDS.values() for name in kind]
    results = of_groups(os.environ['LIMPET_EVERY_KIND'], tmp_path, names, KINDS)
    assert {kind for kind in KINDS if any(test.startswith(kind + '.') for test in results)} == set(KINDS)
    assert 'op.cancel_during' in results


WATCHING = """#include <limpet.hpp>
class Upstream {
 public:
  explicit Upstream(limpet::Host) {}
  limpet::Status configure(const limpet::Config&) { return {}; }
  void mint_ca(limpet_bytes, uint32_t, limpet::MintedReply) {}
  void publish_jwt_key(const limpet_jwt_key&, limpet::DoneReply) {}
  void watch_bundle(limpet::WatchReply) {}
  void publish(const limpet_bundle&, limpet::DoneReply) {}
  %s
};
constexpr limpet_component kOne = limpet::%s<Upstream>("one");
LIMPET_PLUGIN("org.example.one", "1.0.0", "Apache-2.0", &kOne)
"""
NEEDED = 'a class with a stream (WatchReply) needs a public member function: void cancel(limpet_op*)'
ODD = 'cancel is not what the host calls: void cancel(limpet_op*)'


@pytest.mark.parametrize('compiler', ['g++', 'clang++-19'])
@pytest.mark.parametrize('kind, member, complaint', [
    ('upstream_authority', 'void cancel(limpet_op*) {}', None), ('upstream_authority', '', NEEDED),
    ('upstream_authority', 'private: void cancel(limpet_op*) {}', NEEDED),
    ('upstream_authority', 'void cancel(int) {}', NEEDED), ('bundle_publisher', '', None),
    ('bundle_publisher', 'void cancel(limpet_op*) {}', None), ('bundle_publisher', 'void cancel() {}', ODD)])
def test_a_cancel_that_would_never_be_called_does_not_compile(tmp_path, compiler, kind, member, complaint):
    if not shutil.which(compiler):
        pytest.skip(compiler + ' is missing: run tools/setup test')
    source = tmp_path / 'one.cc'
    source.write_text(WATCHING % (member, kind))
    done = run(compiler, '-std=c++17', '-Wall', '-Wextra', '-Wpedantic', '-Werror', '-fsyntax-only', '-I',
               os.path.dirname(HEADER), '-I', os.path.join(ROOT, 'shim'), source)
    assert (done.returncode == 0) == (complaint is None), done.stdout
    assert complaint is None or complaint in done.stdout, done.stdout


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

# SPDX-License-Identifier: Apache-2.0
"""plugin-check against plugins with one flaw each: the test of the broken rule fails, and no other. And against sound ones."""
import json
import os
import subprocess

import pytest

CHECK = os.environ['LIMPET_PLUGIN_CHECK']
MOCKS = os.environ['LIMPET_MOCKS']

# flaw: the test that must find it
WORKLOAD = {
    'two_symbols': 'library.symbols', 'run_path': 'library.linking', 'short_table': 'library.load',
    'thread_in_constructor': 'library.constructors', 'allocates_in_main': 'library.pure_entry',
    'new_descriptor_each_time': 'library.entry_twice', 'knows_every_major': 'library.unknown_major',
    'refuses_later_minor': 'library.later_minor', 'destroy_needs_configure': 'instance.unconfigured',
    'accepts_anything': 'instance.bad_config', 'forgets_when_refusing': 'instance.bad_config_keeps',
    'dry_run_applies': 'instance.dry_run', 'one_instance': 'instance.two', 'leaks_descriptor': 'instance.descriptors',
    'leaks_thread': 'instance.threads', 'leaks_memory': 'instance.memory', 'writes_output': 'instance.quiet',
    'changes_umask': 'instance.quiet', 'done_never': 'op.answers', 'done_twice': 'op.once',
    'done_after_destroy': 'op.after_destroy', 'blocking_answers_later': 'op.blocking_returns',
    'cancel_before_hits_the_next': 'op.cancel_before', 'cancel_after_hits_the_next': 'op.cancel_after',
    'ignores_cancel': 'op.cancel_during', 'no_answer_without_time': 'op.no_time', 'thread_local': 'op.new_threads',
    'keeps_argument': 'op.borrowed', 'status_is_no_text': 'op.status', 'selector_is_no_text': 'op.status',
    'needs_a_service': 'op.no_services', 'dies_of_much': 'op.large', 'reads_nothing': 'op.empty',
    'holds_the_loop': 'op.loop_budget', 'attests_the_dead': 'workload.gone', 'ignores_the_pidfd': 'workload.reused_pid',
    'closes_the_pidfd': 'workload.borrowed_pidfd', 'any_pid': 'workload.odd_pids',
    'knows_every_reference': 'workload.reference',
}
KEYS = {
    'makes_any_type': 'key_manager.types', 'wrong_signature': 'key_manager.signatures',
    'same_fingerprint': 'key_manager.fingerprint', 'unknown_key_is_internal': 'key_manager.unknown_key',
    'lists_nothing': 'key_manager.list', 'signs_any_digest': 'key_manager.bad_digest',
}
NODE = {
    'foreign_path': 'node_attestor.talks', 'same_challenge': 'node_attestor.replayed',
    'half_is_enough': 'node_attestor.truncated', 'believes_null': 'node_attestor.forged',
    'dies_of_odd_challenge': 'node_attestor.odd_challenges',
}
SEALER = {
    'shows_the_secret': 'sealer.round_trip', 'forgets_the_context': 'sealer.context', 'opens_the_altered': 'sealer.altered',
    'no_bounds': 'sealer.bounds',
}
KINDS = {'workload': WORKLOAD, 'keys': KEYS, 'node': NODE, 'sealer': SEALER}
CRASHES = {'destroy_needs_configure', 'keeps_argument', 'needs_a_service', 'dies_of_much', 'reads_nothing',
           'dies_of_odd_challenge'}
INTERFACES = ['limpet.workload-attestor/1', 'limpet.key-manager/1', 'limpet.node-attestor.agent/1',
              'limpet.node-attestor.server/1', 'limpet.sealer/1']


def mock(kind, flaw=None):
    return os.path.join(MOCKS, 'checked_%s%s.so' % (kind, '_' + flaw if flaw else ''))


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp('plugin-check') / 'config.json'
    path.write_text(json.dumps({'components': [
        {'interface': name, 'data': {'tag': 'one'}, 'other': {'tag': 'two'}, 'bad': [{'tag': 7}, {'tag': 'Upper'}]}
        for name in INTERFACES]}))
    return str(path)


def run(*arguments):
    return subprocess.run([CHECK, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=300, text=True)


def results(plugin, config, *arguments):
    done = run(plugin, '--config', config, '--format', 'json', '--jobs', '2', *arguments)
    assert done.returncode in (0, 1), done.stderr
    out = json.loads(done.stdout)['results']
    assert (done.returncode == 1) == any(r['status'] in ('failed', 'crashed') for r in out)
    return out


def wrong(found):
    return {(r['test'], r['status'], r['message']) for r in found if r['status'] in ('failed', 'crashed')}


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_a_sound_plugin_passes(kind, config):
    found = results(mock(kind), config, '--fuzz-seconds', '1')
    assert not wrong(found)
    assert not [r for r in found if r['status'] == 'warning']
    assert len([r for r in found if r['status'] == 'success']) > 30


@pytest.mark.parametrize('kind, flaw', [(kind, flaw) for kind in KINDS for flaw in KINDS[kind]])
def test_a_flaw_fails_its_test_and_no_other(kind, flaw, config):
    found = results(mock(kind, flaw), config, '--exclude', 'fuzz.*', '--exclude', 'parity.*', '--cycles', '60', '--patience', '2')
    expected = KINDS[kind][flaw]
    assert {name for name, _, _ in wrong(found)} == {expected}, wrong(found)
    assert {status for _, status, _ in wrong(found)} == {'crashed' if flaw in CRASHES else 'failed'}
    skipped_for_it = [r for r in found if r['message'].endswith('went wrong')]
    assert all(r['status'] == 'skipped' for r in skipped_for_it)


def test_a_fuzz_run_says_its_seed_and_finds_what_dies_of_much_noise(config):
    done = run(mock('workload', 'reads_nothing'), '--config', config, '--only', 'fuzz.*', '--seed', '7')
    assert done.returncode == 1 and 'crashed  fuzz.calls' in done.stdout and 'seed 7' in done.stdout, done.stdout


def test_text_output_names_the_rule_and_what_the_process_wrote(config):
    done = run(mock('workload', 'keeps_argument'), '--config', config, '--only', 'op.borrowed')
    assert done.returncode == 1
    assert 'crashed  op.borrowed [limpet.workload-attestor/1 mock]' in done.stdout
    assert 'rule: arguments are not touched after the function returned' in done.stdout
    assert done.stdout.rstrip().endswith('0 success, 0 warning, 0 skipped, 0 failed, 1 crashed')


def test_in_process_runs_without_children(config):
    done = run(mock('workload'), '--config', config, '--in-process', '--only', 'op.once', '--only', 'workload.*')
    assert done.returncode == 0, done.stdout + done.stderr
    assert '7 success' in done.stdout


def test_a_file_that_is_no_plugin_fails_and_nothing_crashes(tmp_path, config):
    for content in (b'', b'\x7fELF', b'\x7fELF' + bytes([2, 1, 1]) + b'\xff' * 200, os.urandom(5000)):
        path = tmp_path / 'odd.so'
        path.write_bytes(content)
        found = results(str(path), config)
        assert wrong(found) and all(status == 'failed' for _, status, _ in wrong(found)), wrong(found)


def test_a_damaged_plugin_fails_and_nothing_crashes_in_the_reader(tmp_path, config):
    with open(mock('workload'), 'rb') as file:
        sound = file.read()
    for size in (63, 64, 100, len(sound) // 2, len(sound) - 1):
        path = tmp_path / 'cut.so'
        path.write_bytes(sound[:size])
        found = results(str(path), config, '--only', 'library.symbols', '--only', 'library.linking')
        assert all(r['status'] == 'failed' for r in found), found


@pytest.mark.parametrize('arguments, words', [
    ([], 'which plugin?'), (['/nowhere.so'], 'there is no file'), (['--format', 'xml', 'x'], '--format is text or json'),
    (['--seed', 'x', 'y'], 'not understood: --seed x'), (['--only'], '--only needs a value'),
    (['--config', '/nowhere.json', 'x'], 'there is no file /nowhere.json')])
def test_wrong_use_is_told(arguments, words):
    done = run(*arguments)
    assert done.returncode == 2 and words in done.stderr


def test_a_wrong_configuration_is_told(tmp_path):
    path = tmp_path / 'config.json'
    for text, words in (('[]', 'not a JSON object'), ('{"x":1}', 'unknown key "x"'),
                        ('{"components":[{"interface":"a","y":1}]}', 'unknown key "y"'),
                        ('{"components":[{}]}', 'interface is missing')):
        path.write_text(text)
        done = run(mock('workload'), '--config', str(path))
        assert done.returncode == 2 and words in done.stderr, done.stderr


def test_the_list_names_every_test_and_its_rule():
    done = run('--list')
    assert done.returncode == 0
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    assert set(WORKLOAD.values()) | set(KEYS.values()) | set(NODE.values()) | set(SEALER.values()) <= listed

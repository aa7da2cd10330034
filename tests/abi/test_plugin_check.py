# SPDX-License-Identifier: Apache-2.0
"""plugin-check against plugins with one flaw each: the test of the broken rule fails, and no other. And against sound ones."""
import functools
import json
import os
import shutil
import subprocess

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason='needs root: only root can give a process another user')
CHECK = os.environ['LIMPET_PLUGIN_CHECK']
MOCKS = os.environ['LIMPET_MOCKS']
SHIM = os.environ['LIMPET_PLAIN_SHIM']  # without a sanitizer, so that the sandbox is the real one

# flaw: the test that must find it
WORKLOAD = {
    'hangs_in_main': 'library.load', 'babbles_in_main': 'library.load',
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
    'knows_every_reference': 'workload.reference', 'refuses_everything': 'instance.configures',
    'forgets_calls_when_configured': 'instance.reconfigure', 'tires': 'instance.cycles',
    'loses_calls_in_a_crowd': 'op.crowd', 'knows_more_with_a_pidfd': 'workload.self',
    'needs_another_kinds_service': 'workload.self',
}
KEYS = {
    'makes_any_type': 'key_manager.types', 'wrong_signature': 'key_manager.signatures',
    'same_fingerprint': 'key_manager.fingerprint', 'unknown_key_is_internal': 'key_manager.unknown_key',
    'lists_nothing': 'key_manager.list', 'signs_any_digest': 'key_manager.bad_digest',
    'removes_nothing': 'key_manager.remove', 'another_key_after_restart': 'key_manager.restart',
}
NODE = {
    'foreign_path': 'node_attestor.talks', 'same_challenge': 'node_attestor.replayed',
    'half_is_enough': 'node_attestor.truncated', 'believes_null': 'node_attestor.forged',
    'dies_of_odd_challenge': 'node_attestor.odd_challenges', 'never_forgets_the_given_up': 'node_attestor.given_up',
}
SEALER = {
    'shows_the_secret': 'sealer.round_trip', 'forgets_the_context': 'sealer.context', 'opens_the_altered': 'sealer.altered',
    'no_bounds': 'sealer.bounds', 'forgets_at_restart': 'sealer.restart',
}
UPSTREAM = {
    'signs_with_another_key': 'upstream.mints', 'believes_any_request': 'upstream.bad_requests',
    'watch_tells_nothing': 'upstream.watches', 'jwt_keys_are_internal': 'upstream.jwt_keys',
}
PUBLISHER = {'publishes_twice_only': 'publisher.publishes'}
KINDS = {'workload': WORKLOAD, 'keys': KEYS, 'node': NODE, 'sealer': SEALER, 'upstream': UPSTREAM, 'publisher': PUBLISHER}
# sound in process, wrong in the sandbox: the test that must find it there
IN_THE_SANDBOX = {('workload', 'needs_a_network'): 'parity.workload.self',
                  ('sealer', 'keeps_a_file'): 'parity.sealer.round_trip'}
CRASHES = {'babbles_in_main', 'destroy_needs_configure', 'keeps_argument', 'needs_a_service', 'dies_of_much', 'reads_nothing',
           'dies_of_odd_challenge'}
# Flaws that a process of its own makes good, or hides: what fails in process succeeds through the shim.
HARMLESS_IN_THE_SHIM = {
    'the file, not the instance, is at fault: it is looked at once, here':
        {flaw for flaw, test in WORKLOAD.items() if test.startswith('library.')},
    'its process dies, and the host answers for it': CRASHES,
    'what it leaves behind ends with its process':
        {'leaks_descriptor', 'leaks_thread', 'leaks_memory', 'one_instance', 'tires'},
    'its output and its umask are its process\'s own': {'writes_output', 'changes_umask'},
    'the host passes no second answer on': {'done_twice', 'done_after_destroy'},
    'the host itself ends a call that was cancelled':
        {'cancel_before_hits_the_next', 'cancel_after_hits_the_next', 'ignores_cancel', 'never_forgets_the_given_up'},
    'its threads and its loop are not the host\'s': {'blocking_answers_later', 'thread_local', 'holds_the_loop'},
    'it gets a copy of the descriptor': {'closes_the_pidfd'},
    'whether calls meet there depends on how much its process reads at once':
        {'forgets_calls_when_configured', 'loses_calls_in_a_crowd'},
}
INTERFACES = ['limpet.workload-attestor/1', 'limpet.key-manager/1', 'limpet.node-attestor.agent/1',
              'limpet.node-attestor.server/1', 'limpet.sealer/1', 'limpet.upstream-authority/1',
              'limpet.bundle-publisher/1']


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


@functools.lru_cache(maxsize=None)
def sound(kind, config):
    """Of a plugin without a flaw: in process, and in its sandbox."""
    return results(mock(kind), config, '--fuzz-seconds', '1', '--shim', SHIM)


def wrong(found):
    return {(r['test'], r['status'], r['message']) for r in found if r['status'] in ('failed', 'crashed')}


@pytest.mark.parametrize('kind', sorted(KINDS))
def test_a_sound_plugin_passes(kind, config):
    found = sound(kind, config)
    assert not wrong(found)
    # what it says of time is of this machine
    assert not [r for r in found if r['status'] == 'warning' and not r['test'].endswith('op.loop_budget')]
    assert len([r for r in found if r['status'] == 'success']) > 30
    again = {r['test'] for r in found if r['test'].startswith('parity.') and r['status'] == 'success'}
    here = {r['test'] for r in found if not r['test'].startswith(('parity.', 'library.')) and r['status'] == 'success'}
    of_a_thread = {'parity.op.blocking_returns', 'parity.op.new_threads'}  # those of BLOCKING components only
    of_a_loop = {'parity.op.cancel_before', 'parity.op.cancel_after', 'parity.op.loop_budget'}
    assert {'parity.' + test for test in here} - of_a_thread - {'parity.op.loop_budget'} <= again
    assert again <= {'parity.' + test for test in here} | of_a_loop


@pytest.mark.parametrize('kind, flaw', [(kind, flaw) for kind in KINDS for flaw in KINDS[kind]])
def test_a_flaw_fails_its_test_and_no_other(kind, flaw, config):
    found = results(mock(kind, flaw), config, '--exclude', 'fuzz.*', '--exclude', 'parity.*', '--cycles', '60', '--patience', '4')
    expected = KINDS[kind][flaw]
    assert {name for name, _, _ in wrong(found)} == {expected}, wrong(found)
    assert {status for _, status, _ in wrong(found)} == {'crashed' if flaw in CRASHES else 'failed'}
    skipped_for_it = [r for r in found if r['message'].endswith('went wrong')]
    assert all(r['status'] == 'skipped' for r in skipped_for_it)


@pytest.mark.parametrize('kind, flaw', [(kind, flaw) for kind in KINDS for flaw in KINDS[kind]
                                        if not any(flaw in flaws for flaws in HARMLESS_IN_THE_SHIM.values())])
def test_a_flaw_fails_its_test_in_the_sandbox(kind, flaw, config):
    test = 'parity.' + KINDS[kind][flaw]
    found = results(mock(kind, flaw), config, '--shim', SHIM, '--shim-only', '--only', test, '--patience', '1')
    assert {(name, status) for name, status, _ in wrong(found)} == {(test, 'failed')}, found


@needs_root
@pytest.mark.parametrize('kind, flaw', sorted(IN_THE_SANDBOX))
def test_what_only_the_sandbox_forbids_fails_only_there(kind, flaw, config):
    found = results(mock(kind, flaw), config, '--exclude', '*fuzz.*', '--exclude', 'parity.instance.*',
                    '--shim', SHIM, '--cycles', '12')
    assert {(name, status) for name, status, _ in wrong(found)} == {(IN_THE_SANDBOX[kind, flaw], 'failed')}, wrong(found)


def test_what_is_kept_for_processes_that_end_slowly_is_not_lost(config):
    found = results(mock('workload', 'ends_slowly'), config, '--shim', SHIM, '--shim-only', '--only', 'parity.instance.memory',
                    '--cycles', '60')
    assert [r['status'] for r in found] == ['success'], found


def test_noise_finds_what_no_other_test_does(config):
    found = results(mock('workload', 'dies_of_noise'), config, '--exclude', 'parity.*', '--cycles', '12', '--fuzz-seconds', '1')
    assert {(name, status) for name, status, _ in wrong(found)} == {('fuzz.calls', 'crashed')}, wrong(found)


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


def test_what_cannot_be_loaded_fails_for_it_when_its_components_were_to_be_tested(config):
    for only in ('op.answers', 'parity.op.answers'):
        found = results(mock('workload', 'short_table'), config, '--only', 'library.symbols', '--only', only)
        assert {(name, status) for name, status, _ in wrong(found)} == {('library.load', 'failed')}, found
        assert 'its workload attestor table is too short' in found[-1]['message']
    assert not wrong(results(mock('workload', 'short_table'), config, '--only', 'library.symbols'))


def test_a_process_that_the_plugin_leaves_behind_is_not_waited_for(config):
    found = results(mock('workload', 'forks_in_constructor'), config, '--only', 'library.load', '--only', 'op.answers',
                    '--exclude', 'parity.*')
    assert [r['status'] for r in found] == ['success'] * 2, found


def test_an_interface_of_another_host_may_have_any_name(config):
    found = results(mock('workload', 'odd_interface'), config, '--only', 'instance.unconfigured')
    assert [(r['component'], r['status']) for r in found] == [
        ('limpet.of\nanother/1 odd', 'success'), ('limpet.workload-attestor/1 mock', 'success')]


def test_what_is_no_text_is_told_as_text(tmp_path, config):
    found = results(mock('workload', 'version_is_no_text'), config, '--only', 'library.load')
    assert found[0]['status'] == 'failed' and 'its id, version or license is not UTF-8' in found[0]['message'], found
    found = results(mock('workload', 'refuses_at_length'), config, '--only', 'instance.configures', '--exclude', 'parity.*')
    assert found[0]['status'] == 'failed' and found[0]['message'].endswith('\U0001f41a...'), found
    path = os.fsencode(tmp_path) + b'/odd\xff.so'
    shutil.copyfile(mock('workload'), path)
    done = run(path, '--config', config, '--format', 'json', '--only', 'library.load')
    assert done.returncode == 0 and json.loads(done.stdout)['plugin'].endswith('/odd?.so'), done


def test_a_plugins_words_cannot_pass_for_another_result(config):
    done = run(mock('workload', 'odd_interface'), '--config', config, '--only', 'instance.unconfigured')
    assert 'success  instance.unconfigured [limpet.of?another/1 odd]\n' in done.stdout, done.stdout


# The plugin fails where a rule of limpet.poll/1 is not kept: in this host, and in the one of a plugin's own process.
def test_descriptors_are_watched_by_the_headers_rules(config):
    tests = ['instance.configures', 'instance.two', 'op.answers']
    found = results(mock('watcher'), config, '--shim', SHIM, *[a for test in tests for a in ('--only', '*' + test)])
    assert {(r['test'], r['status']) for r in found} == {(of + test, 'success') for test in tests for of in ('', 'parity.')}, found


def test_a_damaged_plugin_fails_and_nothing_crashes_in_the_reader(tmp_path, config):
    with open(mock('workload'), 'rb') as file:
        sound = file.read()
    for size in (63, 64, 100, len(sound) // 2, len(sound) - 1):
        path = tmp_path / 'cut.so'
        path.write_bytes(sound[:size])
        found = results(str(path), config, '--only', 'library.symbols', '--only', 'library.linking')
        assert all(r['status'] == 'failed' for r in found), found


@pytest.mark.parametrize('arguments, words', [
    (['--shim', '/nowhere', 'x'], 'there is no file /nowhere'), ([], 'which plugin?'), (['/nowhere.so'], 'there is no file'), (['--format', 'xml', 'x'], '--format is text or json'),
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


def test_shim_only_runs_nothing_in_process(config):
    found = results(mock('workload'), config, '--shim', SHIM, '--shim-only', '--only', '*op.once', '--only', '*library.*')
    assert [(r['test'], r['status']) for r in found] == [('parity.op.once', 'success')]
    refused = run(mock('workload', 'short_table'), '--shim-only')
    assert refused.returncode == 2 and 'its workload attestor table is too short' in refused.stderr


def listed():
    done = run('--list')
    assert done.returncode == 0
    return [line.split(maxsplit=1) for line in done.stdout.splitlines()]


def test_the_list_names_every_test_and_its_rule(config):
    told = {(r['test'], r['rule']) for kind in KINDS for r in sound(kind, config) if not r['test'].startswith('parity.')}
    assert sorted(tuple(line) for line in listed()) == sorted(told)


def test_of_each_test_some_mock_shows_that_it_can_fail():
    shown = {test for flaws in KINDS.values() for test in flaws.values()} | {'fuzz.calls'}  # by what dies of noise
    assert {name for name, _ in listed()} == shown

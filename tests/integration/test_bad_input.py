# SPDX-License-Identifier: Apache-2.0
"""Wrong input of every kind: the message names the object, the exit code is 1, nothing is lost."""
import os
import socket
import stat

import pytest
from conftest import needs_root

from support import process, stubs
from support.process import eventually, run, toml_plugin, toml_table, write


def server_config(folder, text='', **changes):
    keys = {'bind_address': '127.0.0.1', 'bind_port': process.free_port(), 'socket_path': folder / 's.sock',
            'trust_domain': 'example.org', 'data_dir': folder / 'data'}
    keys.update(changes)
    path = folder / 'server.toml'
    write(path, toml_table('server', keys) + text + toml_plugin('KeyManager', 'memory', role='server'))
    return path


def agent_config(folder, text='', **changes):
    keys = {'server_address': '127.0.0.1', 'server_port': 1, 'socket_path': folder / 'a.sock', 'trust_domain': 'example.org',
            'data_dir': folder / 'data', 'insecure_bootstrap': True, 'join_token': 'x'}
    keys.update(changes)
    path = folder / 'agent.toml'
    write(path, toml_table('agent', keys) + text + toml_plugin('KeyManager', 'memory', role='agent')
          + toml_plugin('NodeAttestor', 'join_token', role='agent') + toml_plugin('WorkloadAttestor', 'unix', role='agent'))
    return path


def refused(args, *words):
    done = run(args, wait=60)
    said = done.stdout + done.stderr
    assert done.returncode == 1, (done.returncode, said)
    for word in words:
        assert word in said, '%r is not in %r' % (word, said)
    assert 'Sanitizer' not in said, said
    return said


def refused_by_both(role, path, *words):
    refused(['validate', '-config', path], *words)
    refused(['run', '-role=' + role, '-config', path], *words)


# ---- configuration ----
def test_an_unknown_key_is_named_with_its_place_and_its_neighbour(folder):
    path = server_config(folder, bind_prot=1)
    refused_by_both('server', path, path, 'bind_prot', 'bind_port', '[server]')


@pytest.mark.parametrize('value', ['xml', 'text|json'])
def test_a_wrong_word_in_a_flag_is_named(folder, value):
    refused(['run', '-role=server', '-config', server_config(folder), '-logFormat', value],
            '-logFormat "%s" is not one of text, json' % value)
    refused(['run', '-role=agent', '-config', agent_config(folder), '-trustBundleFormat', value],
            '-trustBundleFormat "%s" is not one of pem, spiffe' % value)


@pytest.mark.parametrize('key,value', [('bind_port', 'x'), ('bind_port', 70000), ('bind_port', -1), ('ca_ttl', '1 hour'),
                                       ('ca_ttl', 3600), ('trust_domain', 7), ('audit_log_enabled', 'yes'),
                                       ('admin_ids', 'one'), ('ca_key_type', 'ed25519'), ('trust_domain', 'Bad Domain'),
                                       ('admin_ids', ['nonsense']), ('log_level', 'LOUD'), ('log_format', 'xml')])
def test_a_wrong_value_is_named(folder, key, value):
    path = server_config(folder, **{key: value})
    refused(['validate', '-config', path], key)


@pytest.mark.parametrize('key', ['trust_domain', 'data_dir'])
def test_a_missing_key_is_named(folder, key):
    path = server_config(folder, **{key: None})
    refused_by_both('server', path, key)


@pytest.mark.parametrize('key', ['server_address', 'server_port', 'trust_domain'])
def test_a_missing_key_of_the_agent_is_named(folder, key):
    refused_by_both('agent', agent_config(folder, **{key: None}), key)


def test_a_missing_file_is_named(folder):
    path = folder / 'none.toml'
    refused(['validate', '-config', path], path)
    refused(['run', '-role=server', '-config', path], path)


def test_a_directory_instead_of_a_file_is_named(folder):
    refused(['validate', '-config', folder.path], folder.path)


@pytest.mark.parametrize('text', ['[server', 'a = ', '\0\0\0', '[server]\n[server]\n', 'x' * 100000, '[server]\ntrust_domain = "a"\nb'])
def test_a_file_that_is_not_toml_is_refused_with_its_name(folder, text):
    path = folder / 'bad.toml'
    write(path, text)
    refused(['validate', '-config', path], path)


def test_an_unknown_plugin_is_named_with_its_line(folder):
    path = server_config(folder, toml_plugin('NodeAttestor', 'no_such', role='server'))
    refused_by_both('server', path, 'no_such')


def test_an_unknown_plugin_type_is_named(folder):
    refused(['validate', '-config', server_config(folder, toml_plugin('Nonsense', 'x'))], 'Nonsense')


def test_wrong_plugin_data_is_named(folder):
    path = folder / 'server.toml'
    server_config(folder)
    text = open(path).read().replace('name = "memory"', 'name = "disk"') + 'data = { nonsense = 1 }\n'
    write(path, text.replace('\n\ndata', '\ndata'))
    refused(['validate', '-config', path], 'nonsense')


def test_a_role_that_the_file_has_not_is_named(folder):
    refused(['run', '-role=agent', '-config', server_config(folder)], '[agent]')
    refused(['run', '-role=queen', '-config', server_config(folder)], 'queen')


# ---- the machine ----
def test_a_port_in_use_is_named(folder):
    with socket.socket() as holder:
        holder.bind(('127.0.0.1', 0))
        holder.listen()
        port = holder.getsockname()[1]
        refused(['run', '-role=server', '-config', server_config(folder, bind_port=port)], str(port), 'in use')


def test_an_address_that_is_not_here_is_named(folder):
    refused(['run', '-role=server', '-config', server_config(folder, bind_address='203.0.113.7')], '203.0.113.7')


def test_a_socket_path_that_is_too_long_is_named(folder):
    path = folder / ('s' * 120)
    refused(['run', '-role=server', '-config', server_config(folder, socket_path=path)], 'socket_path', 'server.toml:4')


def test_a_socket_directory_that_is_a_file_is_named(folder):
    write(folder / 'file', '')
    refused(['run', '-role=server', '-config', server_config(folder, socket_path=folder / 'file/s.sock')], folder / 'file')


def test_a_data_directory_that_is_a_file_is_named(folder):
    write(folder / 'file', '')
    refused(['run', '-role=server', '-config', server_config(folder, data_dir=folder / 'file')], folder / 'file')


@needs_root
def test_directories_that_may_not_be_written_are_named(folder):
    os.mkdir(folder / 'locked')
    os.chmod(folder / 'locked', 0o755)
    os.mkdir(folder / 'open')
    os.chown(folder / 'open', 61001, 61001)
    os.chmod(os.path.dirname(folder / 'x'), 0o755)
    env = {**os.environ, 'ASAN_OPTIONS': 'detect_leaks=0'}
    for changes, word in (({'data_dir': folder / 'locked/data', 'socket_path': folder / 'open/s.sock'}, folder / 'locked'),
                          ({'data_dir': folder / 'open/data', 'socket_path': folder / 'locked/s.sock'}, folder / 'locked')):
        path = server_config(folder, **changes)
        done = run(['run', '-role=server', '-config', path], user=61001, group=61001, extra_groups=[], env=env)
        assert done.returncode == 1 and word in done.stdout + done.stderr, done


def test_a_socket_left_over_by_a_killed_server_is_no_hindrance(make):
    server = make(process.Server)
    server.kill()
    assert stat.S_ISSOCK(os.stat(server.socket).st_mode)
    server.start()


def test_a_second_server_on_the_same_data_is_refused_and_the_first_lives(make, folder):
    server = make(process.Server)
    path = server_config(folder, data_dir=server.data_dir)
    refused(['run', '-role=server', '-config', path], server.data_dir)
    assert server.healthy()


def test_state_of_another_trust_domain_is_refused(make):
    server = make(process.Server)
    server.stop()
    text = open(server.config_path).read().replace('"example.org"', '"other.org"')
    write(server.config_path, text)
    refused(['run', '-role=server', '-config', server.config_path], 'other.org')
    server.start()


# ---- the agent ----
def test_a_bundle_file_that_is_missing_or_garbage_is_named(folder):
    path = folder / 'bundle.pem'
    for content in (None, '', 'garbage', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'):
        if content is not None:
            write(path, content)
        refused(['run', '-role=agent', '-config', agent_config(folder, insecure_bootstrap=None, trust_bundle_path=path)], path)


def test_no_bootstrap_and_two_bootstraps_are_refused(folder):
    refused_by_both('agent', agent_config(folder, insecure_bootstrap=None), 'trust_bundle_path', 'insecure_bootstrap')
    write(folder / 'b.pem', '')
    refused(['validate', '-config', agent_config(folder, trust_bundle_path=folder / 'b.pem')], 'insecure_bootstrap')


def test_a_token_file_that_is_missing_is_named(make):
    server = make(process.Server)
    agent = make(process.Agent, server.port, join_token_file='/none/no-token', roots=server.roots(), start=False)
    agent.spawn()
    eventually(lambda: agent.has_logged('/none/no-token'), what='the name of the file')
    assert agent.running()


def test_an_agent_of_another_trust_domain_is_not_attested(make):
    server = make(process.Server)
    agent = make(process.Agent, server.port, trust_domain='other.org', join_token=server.token('/host'), roots=server.roots(),
                 start=False)
    agent.spawn()
    eventually(lambda: agent.has_logged('no X.509 bundle for trust domain \\"example.org\\"'))
    assert agent.running() and not server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents


@pytest.mark.parametrize('kind', ['used', 'expired', 'unknown'])
def test_a_wrong_token_is_said_and_retried_without_harm(make, kind):
    from support.node import Node
    server = make(process.Server)
    token = server.token('/host', ttl=1 if kind == 'expired' else 600) if kind != 'unknown' else 'nonsense'
    if kind == 'used':
        Node.attest(server, token)
    elif kind == 'expired':
        import time
        time.sleep(2.1)
    agent = make(process.Agent, server.port, join_token=token, roots=server.roots(), start=False)
    agent.spawn()
    eventually(lambda: agent.has_logged('join token'), what='the reason')
    assert agent.running()


def test_a_token_with_odd_characters_is_said_and_not_sent_further(make):
    server = make(process.Server)
    agent = make(process.Agent, server.port, join_token='a"b\\c/../d', roots=server.roots(), start=False)
    agent.spawn()
    eventually(lambda: 'level=warn' in agent.logs() or 'level=error' in agent.logs())
    assert server.healthy()

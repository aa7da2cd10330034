# SPDX-License-Identifier: Apache-2.0
"""Files written for SPIRE: imported by the command, and on the fly when called as SPIRE's programs are."""
import os
import re
import subprocess

import pytest

from support import h2grpc, process, stubs

SERVER = '''server {
  bind_address = "127.0.0.1" # loopback
  bind_port = "%(port)d"
  socket_path = "%(folder)s/api.sock"
  trust_domain = "${TD}"
  data_dir = "%(folder)s/data"
  log_level = "INFO"
  profiling_enabled = false
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "%(folder)s/x.sqlite3" } }
  KeyManager "disk" { plugin_data { keys_path = "%(folder)s/data/keys.json" } }
  NodeAttestor "join_token" { plugin_data {} }
}
'''


class Place:
    def __init__(self):
        self.folder = process.Folder()
        self.port = process.free_port()
        os.makedirs(self.folder / 'data')
        for name in ('spire-server', 'spire-agent'):
            os.symlink(process.BINARY, self.folder / name)
        self.conf = self.write('server.conf', SERVER % {'port': self.port, 'folder': self.folder.path})

    def write(self, name, text):
        process.write(self.folder / name, text)
        return self.folder / name

    def call(self, name, *args, **env):
        binary = self.folder / name if name != 'limpet' else None
        return process.run(list(args), binary=binary, env={**os.environ, **env}, cwd=self.folder.path)


@pytest.fixture
def place():
    made = Place()
    yield made
    made.folder.remove()


def test_what_import_prints_is_a_valid_configuration(place):
    done = place.call('limpet', 'config', 'import', '-expandEnv', place.conf, TD='example.org')
    assert done.returncode == 0 and done.stderr == '', done
    assert '# %s:8: server.profiling_enabled: ' % place.conf in done.stdout
    assert '# %s:11: plugins.DataStore.sql: ' % place.conf in done.stdout
    made = place.write('limpet.toml', done.stdout)
    checked = place.call('limpet', 'validate', '-config', made)
    assert checked.returncode == 0, checked
    again = place.call('limpet', 'config', 'import', made)
    assert again.returncode == 1 and 'is a configuration of Limpet already' in again.stderr


def test_variables_stay_without_expandEnv(place):
    done = place.call('limpet', 'config', 'import', place.conf, TD='example.org')
    assert 'trust_domain = "${TD}"' in done.stdout, done


def test_import_of_what_is_no_configuration_names_file_and_line(place):
    bad = place.write('bad.conf', 'server {\n a = b\n}\n')
    done = place.call('limpet', 'config', 'import', bad)
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr == 'Error: %s: line 2: a value is expected: text stands in quotes\n' % bad
    assert place.call('limpet', 'config', 'import').returncode == 1


def test_a_server_runs_from_its_spire_file(place):
    server = subprocess.Popen([place.folder / 'spire-server', 'run', '-config', place.conf, '-expandEnv', '-logSourceLocation'],
                              env={**os.environ, 'TD': 'example.org'}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def healthy():
            assert server.poll() is None
            with h2grpc.Connection.unix(place.folder / 'api.sock') as connection:
                return connection.unary('grpc.health.v1.Health/Check', stubs.health.HealthCheckRequest(),
                                        stubs.health.HealthCheckResponse, wait=5).status == 1
        process.eventually(healthy, what='the server')
        shown = place.call('spire-server', 'bundle', 'show', '-socketPath', place.folder / 'api.sock')
        assert shown.returncode == 0 and shown.stdout.startswith('-----BEGIN CERTIFICATE-----'), shown
    finally:
        server.terminate()
        assert server.wait(30) == 0


def test_validate_takes_the_spire_file(place):
    done = place.call('spire-server', 'validate', '-config', place.conf, '-expandEnv', TD='example.org')
    assert (done.returncode, done.stdout) == (0, 'SPIRE server configuration file is valid.\n'), done
    assert 'no counterpart: %s:11: plugins.DataStore.sql: ' % place.conf in done.stderr


def test_an_agent_file_in_json(place):
    conf = place.write('agent.conf', '{"agent": {"server_address": "127.0.0.1", "server_port": 1, "trust_domain": "example.org",'
                       ' "insecure_bootstrap": true, "data_dir": "%s"}, "plugins": {"KeyManager": {"memory": {"plugin_data": {}}},'
                       ' "WorkloadAttestor": [{"unix": {}}]}}' % place.folder.path)
    done = place.call('spire-agent', 'validate', '-config', conf)
    assert (done.returncode, done.stdout) == (0, 'SPIRE agent configuration file is valid.\n'), done


def test_unknown_keys_stop_in_spires_words(place):
    conf = place.write('badkey.conf', open(place.conf).read().replace('server {', 'server {\n  bogus_key = 1', 1))
    run = place.call('spire-server', 'run', '-config', conf, TD='example.org')
    assert (run.returncode, run.stdout) == (1, ''), run
    assert re.fullmatch('time="[0-9T:Z-]{20}" level=error msg="Unknown configuration detected" keys=bogus_key section=server\n'
                        'unknown configuration detected\n', run.stderr), run
    checked = place.call('spire-server', 'validate', '-config', conf, TD='example.org')
    assert checked.returncode == 1
    assert checked.stderr.endswith('SPIRE server configuration file is invalid: unknown configuration detected\n'), checked


def test_a_missing_file_is_told_in_spires_words(place):
    done = place.call('spire-server', 'validate', '-config', 'nofile.conf')
    assert done.returncode == 1
    assert done.stderr == ('SPIRE server configuration file is invalid: could not find config file %s: please use the -config '
                           'flag\n' % os.path.join(os.path.realpath(place.folder.path), 'nofile.conf')), done


def test_the_default_path_is_spires(place):
    done = place.call('spire-agent', 'validate')
    assert done.stderr.endswith('/conf/agent/agent.conf: please use the -config flag\n'), done

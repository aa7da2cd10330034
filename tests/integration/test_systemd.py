# SPDX-License-Identifier: Apache-2.0
"""The workload attestor systemd in its sandbox, under a running agent, with a service manager on a bus of the test's."""
import os
import subprocess

import pytest

from support import process, softhsm
from support.process import eventually, plugin_processes, status_of, toml_plugin

BUILD = os.path.dirname(process.BINARY)
PLUGIN = os.path.join(BUILD, 'plugins', 'workload_attestor_systemd.so')
FAKE = os.path.join(BUILD, 'tests/integration/wire/fake_systemd')

pytestmark = pytest.mark.skipif(not os.path.exists(PLUGIN) or not os.path.exists(FAKE), reason='needs a build with libsystemd')


class Manager:
    def __init__(self, folder):
        self.log_path = folder / 'manager.log'
        self.process = subprocess.Popen([FAKE, folder.path], stdin=subprocess.PIPE, stdout=open(self.log_path, 'w'))
        eventually(lambda: 'ready' in self.asked())

    def asked(self):
        with open(self.log_path) as log:
            return log.read().split('\n')

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture
def manager(folder):
    running = Manager(folder)
    yield running
    running.stop()


def systemd_agent(make, server, folder):
    plugin = softhsm.with_digest(PLUGIN)
    del plugin['isolation']  # the default
    return make(process.Agent, server.port, join_token=server.token('/host'), roots=server.roots(),
                plugins=toml_plugin('WorkloadAttestor', 'systemd', {'bus_address': 'unix:path=' + folder / 'bus'}, role='agent', **plugin))


def fetched(agent):
    with agent.workload() as workload:
        return [svid.spiffe_id for svid in workload.fetch(wait=30).svids]


def test_a_units_process_gets_its_svid_by_way_of_the_sandbox(server, make, manager, folder):
    agent = systemd_agent(make, server, folder)
    server.add('/web', '/host', ['systemd:id:web.service', 'systemd:slice:system.slice', 'unix:uid:%d' % os.geteuid()])
    server.add('/db', '/host', ['systemd:id:db.service'], id='other')
    eventually(lambda: fetched(agent) == ['spiffe://example.org/web'])
    child, = plugin_processes(agent)
    status = status_of(child)
    assert status['NoNewPrivs'] == '1' and status['Seccomp'] == '2'
    if os.geteuid() == 0:
        assert status['Uid'].split() == ['65534'] * 4
    assert 'pidfd %d' % os.getpid() in manager.asked(), manager.asked()
    assert not [line for line in manager.asked() if line.startswith('pid ') or line == 'pidfd 0']

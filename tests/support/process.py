# SPDX-License-Identifier: Apache-2.0
"""Starts the built binary (LIMPET) as server or agent in a folder of its own, on free ports and loopback."""
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import grpc

from . import h2grpc, stubs

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.path.abspath(os.environ.get('LIMPET', os.path.join(ROOT, 'build', 'dbg', 'limpet')))
TRUST_DOMAIN = 'example.org'
WAIT = 30.0


def free_port():
    """Below the range that the kernel gives to clients: there another test's connection may take it while a server restarts."""
    with open('/proc/sys/net/ipv4/ip_local_port_range') as given:
        first = int(given.read().split()[0])
    while True:
        port = random.randrange(10000, max(first, 10100))
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', port))
                return port
            except OSError:
                pass


def eventually(check, wait=WAIT, what='it'):
    """Waits until `check` gives something true and returns that; exceptions count as not yet."""
    deadline, last = time.monotonic() + wait, None
    while True:
        try:
            value = check()
            if value:
                return value
            last = value
        except Exception as error:  # noqa: BLE001: anything may be wrong until it is right
            last = error
        if time.monotonic() > deadline:
            raise AssertionError('%s did not come within %s s; last: %r' % (what, wait, last))
        time.sleep(0.05)


def toml_value(value):
    if isinstance(value, bool):
        return 'true' if value else 'false'
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, dict):
        return '{ ' + ', '.join('%s = %s' % (k, toml_value(v)) for k, v in value.items()) + ' }'
    if isinstance(value, (list, tuple)):
        return '[' + ', '.join(toml_value(v) for v in value) + ']'
    return '"' + str(value).replace('\\', '\\\\').replace('"', '\\"') + '"'


def toml_table(title, keys):
    return '[%s]\n' % title + ''.join('%s = %s\n' % (k, toml_value(v)) for k, v in keys.items() if v is not None) + '\n'


def toml_plugin(kind, name, data=None, **more):
    keys = {'type': kind, 'name': name, **more}
    text = '[[plugin]]\n' + ''.join('%s = %s\n' % (k, toml_value(v)) for k, v in keys.items())
    if data is not None:
        text += 'data = %s\n' % toml_value(data)
    return text + '\n'


def write(path, text, mode=None):
    with open(path, 'w') as out:
        if mode is not None:
            os.fchmod(out.fileno(), mode)
        out.write(text)


def run(args, wait=60, binary=None, **more):
    """One command of the binary: its CompletedProcess, streams as text."""
    return subprocess.run([binary or BINARY] + list(args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=wait,
                          universal_newlines=True, **more)


def health_checks(port):
    return {'listener_enabled': True, 'bind_address': '127.0.0.1', 'bind_port': port}


def part(role, name):
    """State and reason that the health of a role (with `health_port`) has of one of its parts."""
    connection = http.client.HTTPConnection('127.0.0.1', role.health_port, timeout=10)
    try:
        connection.request('GET', '/ready')
        found = json.loads(connection.getresponse().read())['parts'].get(name, {})
        return found.get('state', ''), found.get('reason', '')
    finally:
        connection.close()


def plugin_processes(role):
    """The pids of the plugins that run in processes of their own."""
    pid = role.process.pid
    with open('/proc/%d/task/%d/children' % (pid, pid)) as text:
        found = [int(child) for child in text.read().split()]
    return [child for child in found if os.path.basename(os.readlink('/proc/%d/exe' % child)) == 'limpet-shim']


def status_of(pid):
    """/proc/<pid>/status: {'Seccomp': '2', ...}"""
    with open('/proc/%d/status' % pid) as text:
        return dict(line.split(':\t', 1) for line in text.read().splitlines() if ':\t' in line)


class Folder:
    """A short-named folder (socket paths have 108 bytes), removed at the end. Others than root may pass through it."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix='lt-')
        os.chmod(self.path, 0o755)

    def __truediv__(self, name):
        return os.path.join(self.path, name)

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


class Role:
    role = ''
    prefix = []   # what runs the binary: ['prlimit', '--nofile=256:256']
    env = None    # its environment; None: ours

    def __init__(self, folder):
        self.folder = folder if isinstance(folder, Folder) else Folder()
        self.owns_folder = not isinstance(folder, Folder)
        self.process = None
        self.config_path = self.folder / (self.role + '.toml')
        self.log_path = self.folder / (self.role + '.log')
        self.socket = self.folder / (self.role + '.sock')
        self.data_dir = self.folder / (self.role + '-data')
        os.makedirs(self.data_dir, exist_ok=True)
        self.channels = []

    # ---- life ----
    def spawn(self):
        write(self.config_path, self.config())
        self.log = open(self.log_path, 'ab')
        self.process = subprocess.Popen(self.prefix + [BINARY, 'run', '-role=' + self.role, '-config', self.config_path],
                                        stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL, env=self.env)
        self.log.close()
        return self

    def start(self, wait=WAIT):
        self.spawn()
        eventually(self.check_ready, wait, self.role + ' ready')
        return self

    def check_ready(self):
        if self.process.poll() is not None:
            raise SystemExit('%s ended with %s:\n%s' % (self.role, self.process.returncode, self.logs()))
        return self.healthy()

    def healthy(self):
        with h2grpc.Connection.unix(self.socket) as connection:
            answer = connection.unary('grpc.health.v1.Health/Check', stubs.health.HealthCheckRequest(),
                                      stubs.health.HealthCheckResponse, wait=5)
            return answer.status == 1

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, wait=WAIT):
        """Ends it as a service manager would; its exit status."""
        self.drop_channels()
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(wait)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(self.role + ' did not end after SIGTERM:\n' + self.logs())
        self.process = None
        return status

    def kill(self):
        """SIGKILL: nothing is said good-bye to."""
        self.drop_channels()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def close(self):
        try:
            status = self.stop()
            logs = self.logs()
        finally:
            self.kill()
            if self.owns_folder:
                self.folder.remove()
        assert 'AddressSanitizer' not in logs and 'runtime error:' not in logs, logs
        assert status in (None, 0), 'ended with %s:\n%s' % (status, logs)

    def logs(self):
        try:
            with open(self.log_path, errors='replace') as text:
                return text.read()
        except OSError:
            return ''

    def has_logged(self, text):
        return text in self.logs()

    # ---- clients ----
    def channel(self):
        channel = grpc.insecure_channel('unix:' + self.socket, [('grpc.use_local_subchannel_pool', 1)])
        self.channels.append(channel)
        return channel

    def drop_channels(self):
        for channel in self.channels:
            channel.close()
        self.channels = []

    def connect(self, **more):
        return h2grpc.Connection.unix(self.socket, **more)

    def cli(self, *args, **more):
        args = list(args)
        words = 0
        while words < len(args) and not args[words].startswith('-'):
            words += 1
        return run(args[:words] + ['-socketPath', self.socket] + args[words:], **more)


class Server(Role):
    role = 'server'

    def __init__(self, folder=None, trust_domain=TRUST_DOMAIN, key_manager=None, plugins='', **keys):
        super().__init__(folder)
        self.port = keys.pop('bind_port', None) or free_port()
        self.trust_domain = trust_domain
        self.keys = {'ratelimit': {'attestation': False, 'signing': False}, 'log_level': 'DEBUG', **keys}
        self.key_manager = key_manager or toml_plugin('KeyManager', 'disk', {'keys_path': self.folder / 'server-keys.json'},
                                                      role='server')
        self.plugins = plugins

    def config(self):
        return toml_table('server', {'bind_address': '127.0.0.1', 'bind_port': self.port, 'socket_path': self.socket,
                                     'trust_domain': self.trust_domain, 'data_dir': self.data_dir,
                                     **self.keys}) + self.key_manager + self.plugins

    # ---- admin APIs over the local socket ----
    def api(self, module_grpc, name):
        return getattr(module_grpc, name + 'Stub')(self.admin_channel())

    def admin_channel(self):
        if not self.channels:
            self.channel()
        return self.channels[0]

    @property
    def entries(self):
        return self.api(stubs.entry_grpc, 'Entry')

    @property
    def agents(self):
        return self.api(stubs.agent_grpc, 'Agent')

    @property
    def bundles(self):
        return self.api(stubs.bundle_grpc, 'Bundle')

    @property
    def svids(self):
        return self.api(stubs.svid_grpc, 'SVID')

    @property
    def debugs(self):
        return self.api(stubs.debug_grpc, 'Debug')

    def id(self, path):
        return stubs.types.SPIFFEID(trust_domain=self.trust_domain, path=path)

    def token(self, agent_id=None, ttl=600, token=''):
        request = stubs.agent.CreateJoinTokenRequest(ttl=ttl, token=token)
        if agent_id:
            request.agent_id.CopyFrom(self.id(agent_id))
        return self.agents.CreateJoinToken(request).value

    def entry(self, path, parent, selectors, **more):
        return stubs.types.Entry(
            spiffe_id=self.id(path), parent_id=self.id(parent),
            selectors=[stubs.types.Selector(type=s.split(':', 1)[0], value=s.split(':', 1)[1]) for s in selectors], **more)

    def add(self, path, parent, selectors, **more):
        """Creates one entry and gives it back as stored."""
        answer = self.entries.BatchCreateEntry(stubs.entry.BatchCreateEntryRequest(
            entries=[self.entry(path, parent, selectors, **more)]))
        assert answer.results[0].status.code == 0, answer
        return answer.results[0].entry

    def remove(self, entry_id):
        answer = self.entries.BatchDeleteEntry(stubs.entry.BatchDeleteEntryRequest(ids=[entry_id]))
        assert answer.results[0].status.code == 0, answer

    def roots(self):
        """The trust bundle as PEM text."""
        from . import pki
        bundle = self.bundles.GetBundle(stubs.bundle.GetBundleRequest())
        return pki.pem_from_der(*[a.asn1 for a in bundle.x509_authorities])

    def tls(self, chain=None, key=None, **more):
        return h2grpc.Connection.tls(self.port, roots=self.roots(), chain=chain, key=key, **more)


class Agent(Role):
    role = 'agent'

    def __init__(self, server_port, folder=None, trust_domain=TRUST_DOMAIN, join_token=None, roots=None, plugins='',
                 attestor=None, sync='1s', discover_path=False, **keys):
        super().__init__(folder)
        self.server_port, self.trust_domain, self.plugins = server_port, trust_domain, plugins
        self.keys = {'log_level': 'DEBUG', 'experimental': {'sync_interval': sync}, **keys}
        if join_token:
            self.keys['join_token'] = join_token
        if roots:
            self.bundle_path = self.folder / 'bootstrap.pem'
            write(self.bundle_path, roots)
            self.keys['trust_bundle_path'] = self.bundle_path
        elif 'trust_bundle_path' not in self.keys:
            self.keys['insecure_bootstrap'] = True
        self.attestor = attestor or toml_plugin('NodeAttestor', 'join_token', role='agent')
        self.workload_data = {'discover_workload_path': True} if discover_path else None
        self.key_manager = toml_plugin('KeyManager', 'disk', {'directory': self.data_dir}, role='agent')

    def config(self):
        return toml_table('agent', {'server_address': '127.0.0.1', 'server_port': self.server_port,
                                    'trust_domain': self.trust_domain, 'data_dir': self.data_dir,
                                    'socket_path': self.socket, **self.keys}) \
            + self.key_manager + self.attestor \
            + toml_plugin('WorkloadAttestor', 'unix', self.workload_data, role='agent') + self.plugins

    def workload(self, **more):
        return Workload(self.connect(**more))

    def at_rest(self):
        """Nothing has been written for a while: what it serves is on disk, and a kill takes nothing of it."""
        path = os.path.join(self.data_dir, 'agent.mdb')
        eventually(lambda: time.time() - os.stat(path).st_mtime > 3, what='the store at rest')


class Workload:
    """A Workload API client in this process."""
    HEADER = (('workload.spiffe.io', 'true'),)

    def __init__(self, connection):
        self.connection = connection

    def close(self):
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def watch(self, metadata=HEADER):
        call = self.connection.start('SpiffeWorkloadAPI/FetchX509SVID', metadata)
        call.send(stubs.workload.X509SVIDRequest(), end=True)
        return call

    def watch_bundles(self, metadata=HEADER):
        call = self.connection.start('SpiffeWorkloadAPI/FetchX509Bundles', metadata)
        call.send(stubs.workload.X509BundlesRequest(), end=True)
        return call

    def fetch(self, metadata=HEADER, wait=WAIT):
        call = self.watch(metadata)
        answer = call.receive(stubs.workload.X509SVIDResponse, wait)
        call.cancel()
        return answer


def attested_agent(server, parent='/host', **more):
    """An agent of ours, attested with a new token whose alias is `parent`."""
    return Agent(server.port, join_token=server.token(parent), roots=server.roots(), **more).start()

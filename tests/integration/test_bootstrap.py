# SPDX-License-Identifier: Apache-2.0
"""The agent's first trust in its server when it comes from an address, and what becomes of an agent that was away while
the server's authorities changed."""
import http.server
import os
import socketserver
import ssl
import threading
import time
import urllib.parse

import pytest

from support import pki, process
from support.fake_server import FakeServer
from support.process import eventually, write

ME = 'unix:uid:%d' % os.geteuid()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.body.encode()
        self.send_response(self.server.status)
        self.send_header('content-length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self):
        return 'unix'

    def log_message(self, *_):
        pass


class UnixHttp(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def serve(server, body, status=200):
    server.body, server.status, server.asked = body, status, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def ids(agent):
    with agent.workload() as workload:
        return [s.spiffe_id for s in workload.fetch().svids]


@pytest.fixture
def fake():
    servers = []

    def start(**more):
        servers.append(FakeServer(**more))
        return servers[-1]
    yield start
    for server in servers:
        server.close()


def test_a_bundle_is_fetched_over_a_unix_socket_until_it_is_there(fake, make, folder):
    """Over a socket the request says who asks, as SPIRE's does."""
    server = fake()
    server.add('/web', '/spire/agent/join_token/the-token', [ME])
    agent = make(process.Agent, server.port, join_token='the-token', start=False, trust_bundle_path=None,
                 trust_bundle_url='http://boot/bundle', trust_bundle_unix_socket=folder / 'boot.sock')
    agent.spawn()
    eventually(lambda: agent.has_logged('trust bundle cannot be had'), what='the first refusal')
    assert agent.running() and server.count('AttestAgent') == 0
    web = serve(UnixHttp(folder / 'boot.sock', Handler), server.authority.pem())
    try:
        eventually(lambda: ids(agent) == ['spiffe://example.org/web'], what='the SVID')
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(web.asked[0]).query)
        assert query['spire-attest-mode'] == ['initial'] and int(query['spire-connection-attempts'][0]) >= 1
        assert query['spire-server-address'] == ['127.0.0.1'] and query['spire-server-port'] == [str(server.port)]
        assert query['spiffe-trust-domain'] == ['example.org']
    finally:
        web.shutdown()
        web.server_close()


def test_a_bundle_is_fetched_over_https_by_the_webs_rules(fake, make, folder, monkeypatch):
    server = fake()
    server.add('/web', '/spire/agent/join_token/the-token', [ME])
    authority = pki.Authority('web.test')
    web = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert, key = authority.leaf(['spiffe://web.test/x'], dns=['localhost'])
    write(folder / 'web.pem', cert)
    write(folder / 'web.key', key)
    write(folder / 'roots.pem', authority.pem())
    context.load_cert_chain(folder / 'web.pem', folder / 'web.key')
    web.socket = context.wrap_socket(web.socket, server_side=True)
    serve(web, server.authority.pem())
    monkeypatch.setenv('SSL_CERT_FILE', folder / 'roots.pem')
    try:
        agent = make(process.Agent, server.port, join_token='the-token', trust_bundle_path=None,
                     trust_bundle_url='https://localhost:%d/bundle.pem' % web.server_address[1])
        eventually(lambda: ids(agent) == ['spiffe://example.org/web'], what='the SVID')
        assert web.asked == ['/bundle.pem']
    finally:
        web.shutdown()
        web.server_close()


@pytest.mark.parametrize('mode, back', [('always', True), ('never', False)])
def test_an_agent_that_missed_a_change_of_authorities_begins_anew_where_it_may(fake, make, mode, back):
    old = fake()
    old.add('/web', '/spire/agent/join_token/the-token', [ME])
    agent = make(process.Agent, old.port, join_token='the-token', roots=old.authority.pem(), rebootstrap_mode=mode,
                 rebootstrap_delay='2s')
    eventually(lambda: ids(agent) == ['spiffe://example.org/web'], what='the SVID')
    old.close()
    new = fake(port=old.port)
    new.add('/anew', '/spire/agent/join_token/the-token', [ME])
    write(agent.bundle_path, new.authority.pem())
    if back:
        eventually(lambda: 'spiffe://example.org/anew' in ids(agent), wait=60, what='the SVID of the new authority')
    else:
        time.sleep(6)
        assert agent.running() and new.count('SyncAuthorizedEntries') == 0
        assert ids(agent) == ['spiffe://example.org/web'], 'what is valid is still served'

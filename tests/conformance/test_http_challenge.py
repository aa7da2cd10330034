# SPDX-License-Identifier: Apache-2.0
"""http_challenge on the wire: agents played by hand with a real HTTP server, and both our halves together."""
import base64
import contextlib
import json
import os
import re
import socket
import threading

import pytest

from conftest import needs_root
from support import process, stubs
from support.attestation import ATTEST, INVALID, PERMISSION, attest, refused, selectors_of
from support.node import Node
from support.process import eventually, free_port, toml_plugin

PATH = '/.well-known/spiffe/nodeattestor/http_challenge/%s/challenge'
EXHAUSTED = 8
NAME = 'nodeattestor(http_challenge): '
FAILED = NAME + 'challenge verification failed: '
USED = (PERMISSION, NAME + 'attestation data has already been used to attest an agent')


class Web:
    """Listens on 127.0.0.1 (or another loopback address) and answers each connection with `reply(nonce)`."""

    def __init__(self, reply=None, port=0, host='127.0.0.1'):
        self.host, self.reply, self.nonce, self.heard = host, reply or plain, b'', []
        self.listener = socket.create_server((host, port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                link = self.listener.accept()[0]
                threading.Thread(target=self.serve, args=(link,), daemon=True).start()

    def serve(self, link):
        with link, contextlib.suppress(OSError):
            head = b''
            while b'\r\n\r\n' not in head:
                part = link.recv(4096)
                if not part:
                    return
                head += part
            self.heard.append(head)
            answer = self.reply(self.nonce)
            if answer is None:
                link.recv(1)  # until the server gives up
            else:
                link.sendall(answer)

    def close(self):
        self.listener.close()

    # ---- the agent's side of the attestation ----
    def payload(self, **changes):
        return json.dumps({'hostname': self.host, 'agentname': 'default', 'port': self.port, **changes}).encode()

    def answer(self, challenge):
        self.nonce = json.loads(challenge)['nonce'].encode()
        return b'\n'


def response(status, body, *fields):
    head = ['HTTP/1.1 ' + status, 'Content-Type: text/plain', 'Content-Length: %d' % len(body), *fields]
    return ('\r\n'.join(head) + '\r\n\r\n').encode() + body


def plain(nonce):
    """As SPIRE's agent answers."""
    return response('200 OK', nonce + b'\n')


@pytest.fixture
def web():
    made = []

    def begin(*args, **more):
        made.append(Web(*args, **more))
        return made[-1]
    yield begin
    for one in made:
        one.close()


def plugin(**data):
    return toml_plugin('NodeAttestor', 'http_challenge', data, role='server')


@pytest.fixture(scope='module')
def server():
    role = process.Server(plugins=plugin())
    try:
        yield role.start()
    finally:
        role.close()


def forget(server, host='127.0.0.1'):
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=server.id('/spire/agent/http_challenge/' + host)))


def test_an_agent_that_serves_the_nonce_is_attested_by_its_name(server, web):
    site = web(host='127.0.0.2')
    node, result = attest(server, site.payload(agentname='b-1'), site.answer, 'http_challenge')
    assert node.id.path == '/spire/agent/http_challenge/127.0.0.2'
    assert not result.reattestable
    assert selectors_of(server, node.id) == ['http_challenge:hostname:127.0.0.2']
    assert re.fullmatch(rb'{"nonce":"[A-Za-z0-9_-]{43}="}', node.challenge)
    assert len(base64.urlsafe_b64decode(site.nonce)) == 32
    head = site.heard[0].decode().split('\r\n')
    assert head[0] == 'GET ' + PATH % 'b-1' + ' HTTP/1.1'
    assert any(line.lower() == 'host: 127.0.0.2:%d' % site.port for line in head) and len(site.heard) == 1


@pytest.mark.parametrize('host, reply', [
    ('127.0.0.3', lambda nonce: b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2d\r\n' + nonce + b'\n\r\n0\r\n\r\n'),
    ('127.0.0.4', lambda nonce: b'HTTP/1.0 200 OK\r\n\r\n' + nonce),  # ends with the connection
    ('127.0.0.5', lambda nonce: response('200 OK', b' \t' + nonce + b'\r\n'))])
def test_answers_of_any_honest_http_server_are_taken(server, web, host, reply):
    site = web(reply, host=host)
    attest(server, site.payload(), site.answer, 'http_challenge')


@pytest.mark.parametrize('answer', [b'\n', b'x' * 1000, b'{"nonce":"no"}'])
def test_what_the_agent_answers_does_not_matter(server, web, answer):
    site = web(host='127.0.0.6')
    attest(server, site.payload(), lambda c: site.answer(c) and answer, 'http_challenge')
    forget(server, '127.0.0.6')


def test_a_name_attests_once_until_its_agent_is_deleted(server, web):
    site = web(host='127.0.0.7')
    node, _ = attest(server, site.payload(), site.answer, 'http_challenge')
    assert refused(server, site.payload(), site.answer, 'http_challenge') == USED
    assert refused(server, site.payload(agentname='other'), site.answer, 'http_challenge') == USED
    again = web(host='127.0.0.7')  # another port of the same host: a process of somebody else
    assert refused(server, again.payload(), again.answer, 'http_challenge') == USED
    forget(server, '127.0.0.7')
    attest(server, site.payload(), site.answer, 'http_challenge')
    server.agents.BanAgent(stubs.agent.BanAgentRequest(id=node.id))
    assert refused(server, site.payload(), site.answer, 'http_challenge') == USED


@pytest.mark.parametrize('reply, why', [
    (lambda nonce: response('200 OK', nonce[:-1] + b'x'), 'what is served there is not the nonce'),
    (lambda nonce: response('200 OK', b''), 'what is served there is not the nonce'),
    (lambda nonce: response('200 OK', b'secret of another service'), 'what is served there is not the nonce'),
    (lambda nonce: response('404 Not Found', nonce), 'unexpected status 404'),
    (lambda nonce: response('302 Found', b'', 'Location: http://127.0.0.1:1/'), 'unexpected status 302'),
    (lambda nonce: response('200 OK', nonce + b' ' * 100), None),
    (lambda nonce: b'HTTP/1.1 200 OK\r\n\r\n' + b'x' * 1000000, None),
    (lambda nonce: b'HTTP/1.1 200 OK\r\n' + b'A: b\r\n' * 100000, None),
    (lambda nonce: b'SSH-2.0-OpenSSH_9.2\r\n', None),
    (lambda nonce: b'\0' * 100, None),
    (lambda nonce: b'', None)])
def test_anything_but_the_nonce_is_refused(server, web, reply, why):
    site = web(reply)
    code, text = refused(server, site.payload(), site.answer, 'http_challenge')
    assert code == PERMISSION and text.startswith(FAILED), text
    if why:
        assert text == FAILED + why
    assert b'secret' not in text.encode() and site.nonce.decode() not in text


def test_a_host_that_does_not_answer_is_given_ten_seconds(server, web):
    site = web(lambda nonce: None)
    code, text = refused(server, site.payload(), site.answer, 'http_challenge')
    assert code == PERMISSION and text.startswith(FAILED) and 'timed out after 10 s' in text, text


def test_a_closed_port_is_said(server, web):
    site = web()
    code, text = refused(server, site.payload(port=free_port()), site.answer, 'http_challenge')
    assert code == PERMISSION and text.startswith(FAILED) and 'connection refused' in text, text


def test_payloads_that_cannot_be_are_refused_without_a_request(server, web):
    site = web()
    for sent, code, text in (
            (b'{', INVALID, 'failed to unmarshal data: '), (b'[]', INVALID, 'failed to unmarshal data: '),
            (site.payload(port='80'), INVALID, 'failed to unmarshal data: '),
            (site.payload(hostname=5), INVALID, 'failed to unmarshal data: '),
            (site.payload(agentname=''), INVALID, 'agent name is not valid'),
            (site.payload(agentname='a.b'), INVALID, 'agent name is not valid'),
            (site.payload(agentname='../x'), INVALID, 'agent name is not valid'),
            (site.payload(agentname='a' * 33), INVALID, 'agent name is not valid'),
            (site.payload(hostname='localhost'), PERMISSION, 'you can not use localhost as a hostname'),
            (site.payload(hostname=''), PERMISSION, 'challenge verification failed: hostname must be set'),
            (site.payload(hostname='a/b'), PERMISSION, 'challenge verification failed: hostname can not contain a slash'),
            (site.payload(hostname='a:1'), PERMISSION, 'challenge verification failed: hostname can not contain a colon'),
            (site.payload(hostname='u@127.0.0.1'), PERMISSION, 'challenge verification failed: hostname has only '),
            (site.payload(hostname='a\r\nx y'), PERMISSION, 'challenge verification failed: hostname has only '),
            (site.payload(hostname='..'), PERMISSION, 'challenge verification failed: hostname has only '),
            (site.payload(hostname='LOCALHOST'), PERMISSION, "hostname is a name of the server's own machine"),
            (site.payload(hostname='localhost.'), PERMISSION, 'hostname has a dot at an end'),
            (site.payload(hostname='127.1'), PERMISSION, 'hostname is a number but no IPv4 address'),
            (site.payload(hostname='2130706433'), PERMISSION, 'hostname is a number but no IPv4 address'),
            (site.payload(hostname='0.0.0.0'), PERMISSION, 'hostname is a loopback address'),
            (site.payload(port=0), PERMISSION, 'challenge verification failed: port is invalid'),
            (site.payload(port=-1), PERMISSION, 'challenge verification failed: port is invalid'),
            (site.payload(port=65536), PERMISSION, 'challenge verification failed: port is invalid')):
        got = refused(server, sent, site.answer, 'http_challenge')
        assert got[0] == code and got[1].startswith(NAME + text), (sent, got)
    assert site.heard == []


def test_members_match_in_any_case_and_unknown_ones_are_ignored(server, web):
    site = web(host='127.0.0.8')
    sent = site.payload().replace(b'"hostname"', b'"more":[{}],"HostName"')
    attest(server, sent, site.answer, 'http_challenge')


def test_names_and_ports_are_those_that_the_server_allows(make, web):
    site = web()
    server = make(process.Server, plugins=plugin(allowed_dns_patterns=[r'^127\.0\.0\.\d$'], required_port=site.port))
    attest(server, site.payload(), site.answer, 'http_challenge')
    assert refused(server, site.payload(hostname='127.0.0.10'), site.answer, 'http_challenge') == (
        PERMISSION, NAME + 'the requested hostname is not allowed to connect')
    other = web()
    assert refused(server, other.payload(), other.answer, 'http_challenge') == (
        INVALID, NAME + 'port %d is not allowed to be used by this server' % other.port)
    server = make(process.Server, plugins=plugin(allow_non_root_ports=False))
    assert refused(server, site.payload(), site.answer, 'http_challenge') == (
        INVALID, NAME + 'port %d is not allowed to be >= 1024' % site.port)


@needs_root
def test_without_tofu_an_agent_attests_again(make, web):
    for port in range(1023, 900, -1):
        with contextlib.suppress(OSError):
            site = web(port=port)
            break
    server = make(process.Server, plugins=plugin(required_port=site.port, tofu=False))
    first, result = attest(server, site.payload(), site.answer, 'http_challenge')
    assert result.reattestable
    again, _ = attest(server, site.payload(), site.answer, 'http_challenge')
    assert again.id == first.id


def test_agents_that_hang_up_while_they_are_asked_fill_only_their_own_room(make, web):
    """The requests they caused go on for ten seconds, 16 at most; then there is room again."""
    server = make(process.Server, plugins=plugin())
    hung, good = web(lambda nonce: None, host='127.0.0.9'), web()
    with contextlib.ExitStack() as links:
        calls = [links.enter_context(server.tls()).start(ATTEST) for _ in range(16)]
        for call in calls:
            call.send(Node(server).attest_request(hung.payload(), 'http_challenge'))
        challenges = [call.receive(stubs.agent.AttestAgentResponse).challenge for call in calls]
        for call, challenge in zip(calls, challenges):
            call.send(stubs.agent.AttestAgentRequest(challenge_response=hung.answer(challenge)))

        def all_asked():
            assert len(hung.heard) == 16, (len(hung.heard), server.logs()[-3000:])
            return True
        eventually(all_asked)
    assert refused(server, good.payload(), good.answer, 'http_challenge') == (
        EXHAUSTED, NAME + 'too many attestations at a time; try again')
    assert good.heard == []
    eventually(lambda: attest(server, good.payload(), good.answer, 'http_challenge'))


def test_both_our_halves_together(make):
    server = make(process.Server, plugins=plugin(allowed_dns_patterns=[r'^127\.']))
    port = free_port()
    server.add('/mine', '/spire/agent/http_challenge/127.0.0.1', ['unix:uid:%d' % os.geteuid()])
    agent = make(process.Agent, server.port, roots=server.roots(), attestor=toml_plugin('NodeAttestor', 'http_challenge', {
        'hostname': '127.0.0.1', 'agentname': 'edge', 'port': port}, role='agent'))

    def served():
        with agent.workload() as workload:
            return [s.spiffe_id for s in workload.fetch().svids] == ['spiffe://example.org/mine']
    eventually(served)
    with pytest.raises(ConnectionRefusedError):  # the port was open for the attempt alone
        socket.create_connection(('127.0.0.1', port))


def test_our_agent_on_any_port_is_refused_the_second_time(make):
    """Another agent of the same host; and the first, once its state is gone."""
    server = make(process.Server, plugins=plugin())
    attestor = toml_plugin('NodeAttestor', 'http_challenge', {'hostname': '127.0.0.1'}, role='agent')
    make(process.Agent, server.port, roots=server.roots(), attestor=attestor)
    eventually(lambda: len(server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents) == 1)
    second = make(process.Agent, server.port, roots=server.roots(), attestor=attestor, start=False)
    second.spawn()
    eventually(lambda: second.has_logged('attestation data has already been used to attest an agent'))
    eventually(lambda: server.has_logged('attestation data has already been used to attest an agent'))

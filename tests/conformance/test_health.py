# SPDX-License-Identifier: Apache-2.0
"""The HTTP listener of [health_checks], for both roles."""
import http.client
import json

import pytest

from support import process


def checks(port):
    return {'listener_enabled': True, 'bind_address': '127.0.0.1', 'bind_port': port}


def ask(port, path, method='GET'):
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, response.getheader('content-type'), response.read()
    finally:
        connection.close()


@pytest.fixture
def watched_server():
    port = process.free_port()
    role = process.Server(health_checks=checks(port))
    try:
        role.start()
        yield role, port
    finally:
        role.close()


def test_a_server_is_live_and_ready_and_names_its_parts(watched_server):
    _, port = watched_server
    for path in ('/live', '/ready'):
        status, kind, body = ask(port, path)
        assert (status, kind) == (200, 'application/json')
        told = json.loads(body)
        assert told['serving'] is True
        assert told['parts']['server'] == {'state': 'ok'}


def test_other_paths_and_methods_are_refused(watched_server):
    _, port = watched_server
    assert ask(port, '/')[0] == 404
    assert ask(port, '/live/')[0] == 404
    assert ask(port, '/live', 'POST')[0] == 405
    assert ask(port, '/live', 'HEAD') == (200, 'application/json', b'')


def test_a_port_in_use_is_named(watched_server):
    _, port = watched_server
    second = process.Server(health_checks=checks(port))
    try:
        second.spawn()
        process.eventually(lambda: not second.running(), what='the end of the second server')
        assert second.has_logged('health_checks: ')
    finally:
        second.kill()  # it ended with an error, which close() takes for a failure
        second.folder.remove()

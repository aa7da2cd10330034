# SPDX-License-Identifier: Apache-2.0
"""Fixtures for every test that drives the binary. A server or agent serves one test file, unless a test needs its own."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from support import process  # noqa: E402
from support.cli import Cli  # noqa: E402


@pytest.fixture(scope='module')
def server():
    role = process.Server()
    try:
        yield role.start()
    finally:
        role.close()


@pytest.fixture(scope='module')
def agent(server):
    """An agent whose alias is /host, so that entries with that parent reach it."""
    role = process.Agent(server.port, join_token=server.token('/host'), roots=server.roots())
    try:
        yield role.start()
    finally:
        role.close()


@pytest.fixture(scope='module')
def cli(server):
    """Commands that ask the file's server."""
    place = process.Folder()
    yield Cli(place, server)
    place.remove()


@pytest.fixture
def make():
    """Starts roles that end with the test: make(Server, ...) or make(Agent, port, ...)."""
    roles = []

    def begin(kind, *args, start=True, **more):
        role = kind(*args, **more)
        roles.append(role)
        return role.start() if start else role

    yield begin
    failures = []
    for role in reversed(roles):
        try:
            role.close()
        except AssertionError as failure:
            failures.append(str(failure))
    assert not failures, '\n'.join(failures)


@pytest.fixture
def folder():
    place = process.Folder()
    yield place
    place.remove()


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason='needs root, to be other users')

# SPDX-License-Identifier: Apache-2.0
"""Rate limits seen from outside, however slow the machine is: a bucket owes so much that it is not paid while a test looks
at it, and what is refused shows by its code, at once."""
from . import h2grpc
from .h2grpc import RpcError
from .node import PREFIX

LONG = 60     # seconds that a bucket owes where nobody waits for it
SOON = '20S'  # a deadline that no such debt meets
ATTEST, BUNDLE = 'agent.v1.Agent/AttestAgent', 'bundle.v1.Bundle/GetBundle'


def begin(link, method, request=b'', timeout=None):
    call = link.start(PREFIX + method, timeout=timeout)
    call.send(request, end=True)
    return call


def end(call):
    """(code, text) of a call."""
    try:
        call.receive(wait=60)
        return h2grpc.OK, ''
    except RpcError as error:
        return error.code, error.message


def answer(link, method, request=b'', timeout=None):
    return end(begin(link, method, request, timeout))


def taken(link, method):
    """Returns when all calls begun on `link` have come to their bucket: a later one of `method`, with a bucket of its own or
    none, is answered. Without it a call on a second connection may be read before them."""
    assert answer(link, method)[0] == h2grpc.OK


def owe_attestations(link):
    """One attestation a second may pass; these wait, and are gone with `link`."""
    for _ in range(LONG):
        begin(link, ATTEST)
    taken(link, BUNDLE)

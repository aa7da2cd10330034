# SPDX-License-Identifier: Apache-2.0
"""Which entries an agent is given, and both shapes of SyncAuthorizedEntries."""
import pytest

from support import h2grpc, process, stubs
from support.h2grpc import RpcError
from support.node import PREFIX, Node

E = stubs.entry
SYNC = PREFIX + 'entry.v1.Entry/SyncAuthorizedEntries'
AGENT_MASK = stubs.types.EntryMask(spiffe_id=True, selectors=True, federates_with=True, admin=True, downstream=True,
                                   revision_number=True, store_svid=True, hint=True, created_at=True)


@pytest.fixture
def node(server):
    """A node with an alias of its own, so that tests do not see each other's entries."""
    node = Node.attest(server)
    node.alias = '/alias' + node.id.path.replace('/spire/agent', '')
    server.add(node.alias, node.id.path, ['spiffe_id:spiffe://example.org' + node.id.path])
    return node


def open_sync(link, mask=None, ids=()):
    call = link.start(SYNC)
    call.send(E.SyncAuthorizedEntriesRequest(output_mask=mask, ids=ids))
    return call


def sync_once(node, mask=None):
    """Only the first answer."""
    with node.connect() as link:
        return open_sync(link, mask).receive(E.SyncAuthorizedEntriesResponse)


def paths(entries):
    return sorted(e.spiffe_id.path for e in entries)


# ---- GetAuthorizedEntries ----
def test_authorized_are_children_and_their_children(server, node):
    server.add(node.alias + '/child', node.alias, ['unix:uid:1'])
    server.add(node.alias + '/grandchild', node.alias + '/child', ['unix:uid:2'])
    server.add('/elsewhere' + node.alias, '/somebody/else', ['unix:uid:1'])
    got = paths(node.authorized().entries)
    assert got == sorted([node.alias, node.alias + '/child', node.alias + '/grandchild'])


def test_cycles_end(server, node):
    server.add(node.alias + '/x', node.alias + '/y', ['unix:uid:1'])
    server.add(node.alias + '/y', node.alias + '/x', ['unix:uid:1'])
    server.add(node.alias + '/x', node.alias, ['unix:uid:3'])
    assert len(node.authorized().entries) == 4


def test_a_node_alias_gives_its_children_but_is_not_given_itself(make):
    mine = make(process.Server, experimental={'agent_spiffe_id_as_selector': True})
    node = Node.attest(mine)
    mine.add('/group', '/spire/server', ['spiffe_id:spiffe://example.org' + node.id.path])
    mine.add('/group/child', '/group', ['unix:uid:1'])
    mine.add('/not/mine', '/spire/server', ['spiffe_id:spiffe://example.org/other'])
    mine.add('/not/mine/child', '/not/mine', ['unix:uid:1'])
    assert paths(node.authorized().entries) == ['/group/child']


def test_get_authorized_entries_honours_the_mask(server, node):
    got = node.call('entry.v1.Entry/GetAuthorizedEntries', E.GetAuthorizedEntriesRequest(
        output_mask=stubs.types.EntryMask(selectors=True)), E.GetAuthorizedEntriesResponse).entries
    assert len(got) == 1 and got[0].id and got[0].selectors and not got[0].HasField('spiffe_id')


def test_a_change_is_seen_by_the_next_call(server, node):
    made = server.add(node.alias + '/new', node.alias, ['unix:uid:1'])
    assert node.alias + '/new' in paths(node.authorized().entries)
    server.remove(made.id)
    assert node.alias + '/new' not in paths(node.authorized().entries)


def test_an_agents_own_entries_carry_every_field(server, node):
    server.add(node.alias + '/f', node.alias, ['unix:uid:1'], dns_names=['a.test'], x509_svid_ttl=77, hint='h')
    entry = [e for e in node.authorized().entries if e.hint == 'h'][0]
    assert entry.x509_svid_ttl == 77 and list(entry.dns_names) == ['a.test'] and entry.parent_id.path == node.alias


# ---- SyncAuthorizedEntries ----
def test_few_entries_come_whole_and_the_server_ends_the_stream(server, node):
    server.add(node.alias + '/s', node.alias, ['unix:uid:1'])
    with node.connect() as link:
        call = open_sync(link, AGENT_MASK)
        answer = call.receive(E.SyncAuthorizedEntriesResponse)
        assert not answer.more
        if answer.entries:  # the list shape; the revision shape is allowed at any size
            assert paths(answer.entries) == sorted([node.alias, node.alias + '/s'])
            assert not answer.entry_revisions and not answer.entries[0].HasField('parent_id')
            assert call.receive() is None and call.status()[0] == 0
        else:
            assert len(answer.entry_revisions) == 2


def test_no_entries_are_an_empty_answer(server):
    node = Node.attest(server)
    answer = sync_once(node)
    assert not answer.entries and not answer.entry_revisions and not answer.more


def test_ids_in_the_first_message_are_refused(server, node):
    with node.connect() as link:
        with pytest.raises(RpcError) as error:
            open_sync(link, AGENT_MASK, ['a']).receive()
    assert (error.value.code, error.value.message) == (
        h2grpc.INVALID_ARGUMENT, 'specifying IDs on initial request is not supported')


def test_a_mask_without_the_revision_number_is_refused(server, node):
    with node.connect() as link:
        with pytest.raises(RpcError) as error:
            open_sync(link, stubs.types.EntryMask(spiffe_id=True)).receive()
    assert (error.value.code, error.value.message) == (h2grpc.INVALID_ARGUMENT, 'revision number cannot be masked')


def test_a_stream_closed_by_the_agent_at_once_is_nobodys_error(server, node):
    with node.connect() as link:
        call = link.start(SYNC, end=False)
        call.half_close()
        code, _ = call.status()
        assert code in (h2grpc.OK, h2grpc.INVALID_ARGUMENT, h2grpc.CANCELLED)
        open_sync(link).cancel()
        assert link.unary(PREFIX + 'entry.v1.Entry/GetAuthorizedEntries', b'', E.GetAuthorizedEntriesResponse)


@pytest.fixture(scope='module')
def crowd(server):
    """A node with 600 entries, and what was made."""
    node = Node.attest(server)
    made = server.entries.BatchCreateEntry(E.BatchCreateEntryRequest(entries=[
        server.entry('/crowd/%03d' % i, node.id.path, ['unix:uid:%d' % i], x509_svid_ttl=60 + i) for i in range(600)])).results
    assert all(r.status.code == 0 for r in made)
    return node, {r.entry.id: r.entry for r in made}


def read_revisions(call):
    revisions, pages = [], 0
    while True:
        answer = call.receive(E.SyncAuthorizedEntriesResponse)
        assert not answer.entries, 'entries inside the revision pages'
        assert len(answer.entry_revisions) <= 500
        revisions += answer.entry_revisions
        pages += 1
        if not answer.more:
            return revisions, pages


def read_entries(call):
    entries = []
    while True:
        answer = call.receive(E.SyncAuthorizedEntriesResponse)
        assert not answer.entry_revisions, 'revisions inside the entry pages'
        assert len(answer.entries) <= 500
        entries += answer.entries
        if not answer.more:
            return entries


def test_many_entries_come_as_revisions_in_pages(crowd):
    node, made = crowd
    with node.connect() as link:
        revisions, pages = read_revisions(open_sync(link, AGENT_MASK))
    assert pages == 2
    assert {r.id: (r.revision_number, r.created_at) for r in revisions} == {e.id: (0, e.created_at) for e in made.values()}


def test_entries_are_fetched_by_id_in_pages(crowd):
    node, made = crowd
    wanted = sorted(made)
    with node.connect() as link:
        call = open_sync(link, AGENT_MASK)
        read_revisions(call)
        got = []
        for start in range(0, 600, 500):
            call.send(E.SyncAuthorizedEntriesRequest(ids=wanted[start:start + 500]))
            got += read_entries(call)
        call.cancel()
    assert sorted(e.id for e in got) == wanted
    assert all(e.spiffe_id == made[e.id].spiffe_id and e.selectors == made[e.id].selectors for e in got)
    assert not any(e.x509_svid_ttl for e in got)  # masked


def test_unknown_and_foreign_ids_are_skipped(server, crowd):
    node, made = crowd
    foreign = server.add('/foreign/entry', '/somebody', ['unix:uid:1'])
    one = sorted(made)[7]
    with node.connect() as link:
        call = open_sync(link)
        read_revisions(call)
        call.send(E.SyncAuthorizedEntriesRequest(ids=['no-such', foreign.id, one]))
        assert [e.id for e in read_entries(call)] == [one]
        call.send(E.SyncAuthorizedEntriesRequest(ids=['no-such']))
        answer = call.receive(E.SyncAuthorizedEntriesResponse)
        assert not answer.entries and not answer.more
        call.cancel()


def test_the_agent_ending_its_side_ends_the_stream_well(crowd):
    node, _ = crowd
    with node.connect() as link:
        call = open_sync(link)
        read_revisions(call)
        call.half_close()
        assert call.receive() is None and call.status()[0] == 0


def test_revisions_follow_updates(server, crowd):
    node, made = crowd
    one = made[sorted(made)[3]]
    one.hint = 'changed'
    result = server.entries.BatchUpdateEntry(E.BatchUpdateEntryRequest(entries=[one])).results[0]
    assert result.status.code == 0
    with node.connect() as link:
        revisions, _ = read_revisions(open_sync(link, AGENT_MASK))
    assert [r.revision_number for r in revisions if r.id == one.id] == [1]

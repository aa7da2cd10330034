# SPDX-License-Identifier: Apache-2.0
"""Registration entries: creating, reading, updating and deleting them, with every rule of validation."""
import re
import uuid

import grpc
import pytest

from support import stubs

E = stubs.entry
HOST = '/host'


def create(server, *entries, mask=None):
    return server.entries.BatchCreateEntry(E.BatchCreateEntryRequest(entries=entries, output_mask=mask)).results


def create_one(server, path='/w', parent=HOST, selectors=('unix:uid:1',), **more):
    return create(server, server.entry(path, parent, selectors, **more))[0]


def rpc_error(call, request):
    with pytest.raises(grpc.RpcError) as error:
        call(request)
    return error.value.code(), error.value.details()


def fresh():
    return '/' + uuid.uuid4().hex


# ---- create ----
def test_a_created_entry_has_id_revision_0_and_creation_time(server):
    result = create_one(server, fresh())
    assert (result.status.code, result.status.message) == (0, 'OK')
    assert uuid.UUID(result.entry.id).version == 4
    assert result.entry.revision_number == 0 and result.entry.created_at > 1_600_000_000


def test_every_field_is_kept(server):
    path = fresh()
    result = create_one(server, path, '/spire/server', ['unix:uid:7', 'unix:gid:8'], id='my-id.1_A', x509_svid_ttl=60,
                        jwt_svid_ttl=30, admin=True, downstream=True, expires_at=4_000_000_000, dns_names=['a.test', '*.b.test'],
                        hint='the hint', additional_attributes=stubs.types.AdditionalAttributes(jwt_svid_include_jti=True)
                        if hasattr(stubs.types, 'AdditionalAttributes') else None)
    assert result.status.code == 0, result
    got = server.entries.GetEntry(E.GetEntryRequest(id='my-id.1_A'))
    assert got == result.entry
    assert (got.spiffe_id.path, got.parent_id.path, got.x509_svid_ttl, got.jwt_svid_ttl) == (path, '/spire/server', 60, 30)
    assert got.admin and got.downstream and not got.store_svid and got.hint == 'the hint'
    assert list(got.dns_names) == ['a.test', '*.b.test'] and got.expires_at == 4_000_000_000
    assert sorted(s.value for s in got.selectors) == ['gid:8', 'uid:7']


def test_a_similar_entry_is_refused_and_shown(server):
    path = fresh()
    first = create_one(server, path, selectors=['unix:uid:1', 'unix:gid:2'])
    again = create_one(server, path, selectors=['unix:gid:2', 'unix:uid:1'])
    assert (again.status.code, again.status.message) == (6, 'similar entry already exists')
    assert again.entry.id == first.entry.id
    other = create_one(server, path, selectors=['unix:uid:1'])
    assert other.status.code == 0  # another set of selectors is another entry


def test_similar_entries_in_one_batch_are_found(server):
    entry = server.entry(fresh(), HOST, ['unix:uid:1'])
    results = create(server, entry, entry)
    assert [r.status.code for r in results] == [0, 6]


def test_a_batch_answers_item_by_item_in_order(server):
    good, bad = server.entry(fresh(), HOST, ['unix:uid:1']), server.entry('/spire/agent', HOST, ['unix:uid:1'])
    assert [r.status.code for r in create(server, good, bad, server.entry(fresh(), HOST, ['a:b']))] == [0, 3, 0]


def test_the_output_mask_keeps_only_what_is_asked_and_the_id(server):
    result = create(server, server.entry(fresh(), HOST, ['unix:uid:1'], hint='h'), mask=stubs.types.EntryMask(hint=True))[0]
    assert result.entry.id and result.entry.hint == 'h'
    assert not result.entry.HasField('spiffe_id') and not result.entry.selectors


def test_an_entry_of_another_trust_domain_is_refused_in_spires_words(server):
    entry = server.entry('/db', HOST, ['unix:uid:1'])
    entry.spiffe_id.trust_domain = 'other.org'
    status = create(server, entry)[0].status
    assert (status.code, status.message) == (
        3, 'failed to convert entry: invalid spiffe ID: "spiffe://other.org/db" is not a member of trust domain "example.org"')


def test_a_parent_of_another_trust_domain_is_refused(server):
    entry = server.entry('/db', HOST, ['unix:uid:1'])
    entry.parent_id.trust_domain = 'other.org'
    status = create(server, entry)[0].status
    assert status.code == 3 and status.message.startswith('failed to convert entry: invalid parent ID: ')


def test_an_unknown_federated_bundle_is_internal_as_with_spire(server):
    status = create_one(server, fresh(), federates_with=['unknown.org']).status
    assert (status.code, status.message) == (
        13, 'failed to create entry: unable to find federated bundle "spiffe://unknown.org"')


BAD = {
    'no SPIFFE ID': lambda e: e.ClearField('spiffe_id'),
    'no parent ID': lambda e: e.ClearField('parent_id'),
    'SPIFFE ID without path': lambda e: setattr(e.spiffe_id, 'path', ''),
    'parent ID without path': lambda e: setattr(e.parent_id, 'path', ''),
    'reserved /spire': lambda e: setattr(e.spiffe_id, 'path', '/spire'),
    'reserved /spire/agent/x': lambda e: setattr(e.spiffe_id, 'path', '/spire/agent/x'),
    'empty segment': lambda e: setattr(e.spiffe_id, 'path', '/a//b'),
    'trailing slash': lambda e: setattr(e.spiffe_id, 'path', '/a/'),
    'dot segment': lambda e: setattr(e.spiffe_id, 'path', '/a/./b'),
    'dot dot segment': lambda e: setattr(e.spiffe_id, 'path', '/a/../b'),
    'path without slash': lambda e: setattr(e.spiffe_id, 'path', 'a'),
    'percent in path': lambda e: setattr(e.spiffe_id, 'path', '/a%20b'),
    'space in path': lambda e: setattr(e.spiffe_id, 'path', '/a b'),
    'upper-case trust domain': lambda e: setattr(e.spiffe_id, 'trust_domain', 'EXAMPLE.ORG'),
    'ID of more than 2048 bytes': lambda e: setattr(e.spiffe_id, 'path', '/' + 'a' * 2048),
    'no selectors': lambda e: e.ClearField('selectors'),
    'selector without type': lambda e: setattr(e.selectors[0], 'type', ''),
    'selector type with a colon': lambda e: setattr(e.selectors[0], 'type', 'a:b'),
    'selector without value': lambda e: setattr(e.selectors[0], 'value', ''),
    'negative X.509 TTL': lambda e: setattr(e, 'x509_svid_ttl', -1),
    'negative JWT TTL': lambda e: setattr(e, 'jwt_svid_ttl', -1),
    'entry ID with a space': lambda e: setattr(e, 'id', 'a b'),
    'entry ID with a slash': lambda e: setattr(e, 'id', 'a/b'),
    'entry ID of 256 bytes': lambda e: setattr(e, 'id', 'a' * 256),
    'hint of 1025 bytes': lambda e: setattr(e, 'hint', 'h' * 1025),
    'DNS name with a trailing dot': lambda e: e.dns_names.append('a.test.'),
    'DNS name with a space': lambda e: e.dns_names.append('a b'),
    'DNS name with an empty label': lambda e: e.dns_names.append('a..b'),
    'DNS name with a wildcard inside': lambda e: e.dns_names.append('a.*.b'),
    'DNS name of two wildcards': lambda e: e.dns_names.append('*.*.b'),
    'DNS name not ASCII': lambda e: e.dns_names.append('\u00e4.test'),
    'DNS name empty': lambda e: e.dns_names.append(''),
    'federates with a bad name': lambda e: e.federates_with.append('Not A Domain'),
}


@pytest.mark.parametrize('what', sorted(BAD))
def test_a_wrong_entry_is_an_invalid_item_and_is_not_stored(server, what):
    entry = server.entry(fresh(), HOST, ['unix:uid:1'])
    BAD[what](entry)
    before = server.entries.CountEntries(E.CountEntriesRequest()).count
    result = create(server, entry)[0]
    assert result.status.code == 3, result
    assert result.status.message.startswith('failed to convert entry: '), result
    assert server.entries.CountEntries(E.CountEntriesRequest()).count == before


GOOD = {
    'parent is the server': lambda e: setattr(e.parent_id, 'path', '/spire/server'),
    'parent is an agent': lambda e: setattr(e.parent_id, 'path', '/spire/agent/x/y'),
    'the longest ID': lambda e: setattr(e.spiffe_id, 'path', '/' + uuid.uuid4().hex + 'a' * (2048 - len('spiffe://example.org/') - 32)),
    'every character of a path': lambda e: setattr(e.spiffe_id, 'path', '/' + uuid.uuid4().hex + '/AZaz09._-/...'),
    'selector value with colons': lambda e: setattr(e.selectors[0], 'value', 'a:b:c'),
    'the longest TTL': lambda e: setattr(e, 'x509_svid_ttl', 2**31 - 1),
    'the longest hint': lambda e: setattr(e, 'hint', 'h' * 1024),
    'a wildcard DNS name': lambda e: e.dns_names.append('*.a.test'),
    'the own trust domain under another entry ID': lambda e: setattr(e, 'id', 'A' * 255),
}


@pytest.mark.parametrize('what', sorted(GOOD))
def test_a_right_entry_at_the_edge_is_taken(server, what):
    entry = server.entry(fresh(), HOST, ['unix:uid:1'])
    GOOD[what](entry)
    result = create(server, entry)[0]
    assert result.status.code == 0, result
    server.remove(result.entry.id)


def test_store_svid_needs_selectors_of_one_type(server):
    assert create_one(server, fresh(), selectors=['a:1', 'b:2'], store_svid=True).status.code == 3
    assert create_one(server, fresh(), selectors=['a:1', 'a:2'], store_svid=True).status.code == 0


def test_a_taken_entry_id_is_refused(server):
    assert create_one(server, fresh(), id='taken-id').status.code == 0
    result = create_one(server, fresh(), id='taken-id')
    assert result.status.code in (6, 13), result


# ---- get ----
def test_get_of_nothing_and_of_no_id(server):
    assert rpc_error(server.entries.GetEntry, E.GetEntryRequest()) == (grpc.StatusCode.INVALID_ARGUMENT, 'missing ID')
    assert rpc_error(server.entries.GetEntry, E.GetEntryRequest(id='nothing')) == (
        grpc.StatusCode.NOT_FOUND, 'entry not found')


def test_get_honours_the_mask(server):
    made = create_one(server, fresh()).entry
    got = server.entries.GetEntry(E.GetEntryRequest(id=made.id, output_mask=stubs.types.EntryMask(spiffe_id=True)))
    assert got.id == made.id and got.spiffe_id == made.spiffe_id
    assert not got.HasField('parent_id') and not got.created_at and not got.selectors
    everything_off = server.entries.GetEntry(E.GetEntryRequest(id=made.id, output_mask=stubs.types.EntryMask()))
    assert everything_off == stubs.types.Entry(id=made.id)


# ---- update ----
def update(server, entry, **mask):
    return server.entries.BatchUpdateEntry(E.BatchUpdateEntryRequest(
        entries=[entry], input_mask=stubs.types.EntryMask(**mask) if mask else None)).results[0]


def test_an_update_raises_the_revision_and_replaces_every_field(server):
    made = create_one(server, fresh(), x509_svid_ttl=60, hint='old', dns_names=['a.test']).entry
    changed = server.entry(made.spiffe_id.path, HOST, ['unix:uid:2'], id=made.id)
    result = update(server, changed)
    assert (result.status.code, result.status.message) == (0, 'OK')
    assert result.entry.revision_number == 1 and result.entry.created_at == made.created_at
    assert result.entry.x509_svid_ttl == 0 and result.entry.hint == '' and not result.entry.dns_names
    assert update(server, changed).entry.revision_number == 2


def test_an_update_with_a_mask_changes_only_that(server):
    made = create_one(server, fresh(), x509_svid_ttl=60, hint='old').entry
    result = update(server, stubs.types.Entry(id=made.id, hint='new'), hint=True)
    assert result.status.code == 0, result
    assert result.entry.hint == 'new' and result.entry.x509_svid_ttl == 60 and result.entry.selectors == made.selectors


def test_an_update_of_nothing_is_not_found(server):
    result = update(server, server.entry(fresh(), HOST, ['unix:uid:1'], id='nothing'))
    assert (result.status.code, result.status.message) == (5, 'failed to update entry')


def test_an_update_without_an_id_is_refused(server):
    assert update(server, server.entry(fresh(), HOST, ['unix:uid:1'])).status.code in (3, 5)


@pytest.mark.parametrize('spoil', ['no selectors', 'reserved /spire', 'negative X.509 TTL', 'DNS name with a space'])
def test_an_update_is_validated_as_a_creation_is(server, spoil):
    made = create_one(server, fresh()).entry
    BAD[spoil](made)
    result = update(server, made)
    assert result.status.code == 3 and result.status.message.startswith('failed to convert entry: '), result
    assert server.entries.GetEntry(E.GetEntryRequest(id=made.id)).revision_number == 0


# ---- delete ----
def test_delete_answers_item_by_item(server):
    made = create_one(server, fresh()).entry
    results = server.entries.BatchDeleteEntry(E.BatchDeleteEntryRequest(ids=[made.id, '', 'nothing'])).results
    assert [(r.status.code, r.status.message) for r in results] == [
        (0, 'OK'), (3, 'missing entry ID'), (5, 'entry not found')]
    assert [r.id for r in results] == [made.id, '', 'nothing']
    assert rpc_error(server.entries.GetEntry, E.GetEntryRequest(id=made.id))[0] == grpc.StatusCode.NOT_FOUND


def test_a_deleted_entry_may_be_made_again(server):
    path = fresh()
    first = create_one(server, path).entry
    server.remove(first.id)
    assert create_one(server, path).entry.id != first.id


# ---- much at once ----
def test_a_batch_of_a_thousand(server):
    prefix = fresh()
    results = create(server, *[server.entry('%s/%d' % (prefix, i), HOST, ['unix:uid:%d' % i]) for i in range(1000)])
    assert [r.status.code for r in results] == [0] * 1000
    assert len({r.entry.id for r in results}) == 1000
    gone = server.entries.BatchDeleteEntry(E.BatchDeleteEntryRequest(ids=[r.entry.id for r in results])).results
    assert [r.status.code for r in gone] == [0] * 1000


def test_an_empty_batch_is_answered_empty(server):
    assert not create(server)
    assert not server.entries.BatchDeleteEntry(E.BatchDeleteEntryRequest()).results
    assert not server.entries.BatchUpdateEntry(E.BatchUpdateEntryRequest()).results


def test_entry_ids_are_distinct_lower_case_uuids(server):
    assert re.fullmatch(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', create_one(server, fresh()).entry.id)

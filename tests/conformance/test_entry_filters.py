# SPDX-License-Identifier: Apache-2.0
"""Listing and counting entries: filters, their four kinds of match, masks and pages."""
import re

import grpc
import pytest

from support import stubs

E = stubs.entry
T = stubs.types
EXACT, SUBSET, SUPERSET, ANY = range(4)


@pytest.fixture(scope='module')
def entries(server):
    """Five entries whose names say what they have."""
    def sel(*names):
        return ['unix:' + n for n in names]
    made = {}
    for name, parent, selectors, more in [
            ('a', '/p1', sel('1'), {'hint': 'x'}), ('ab', '/p1', sel('1', '2'), {'hint': 'y'}),
            ('abc', '/p1', sel('1', '2', '3'), {'downstream': True}), ('b', '/p2', sel('2'), {}),
            ('d', '/p2', sel('4'), {'hint': 'x'})]:
        made[name] = server.add('/' + name, parent, selectors, **more)
    return made


def names(server, mask=None, **filters):
    listed = server.entries.ListEntries(E.ListEntriesRequest(filter=E.ListEntriesRequest.Filter(**filters), output_mask=mask))
    counted = server.entries.CountEntries(E.CountEntriesRequest(filter=E.CountEntriesRequest.Filter(**filters))).count
    assert counted == len(listed.entries)
    return sorted(e.spiffe_id.path[1:] for e in listed.entries)


def match(kind, *values):
    return T.SelectorMatch(selectors=[T.Selector(type='unix', value=v) for v in values], match=kind)


def test_no_filter_gives_all(server, entries):
    assert names(server) == ['a', 'ab', 'abc', 'b', 'd']


def test_by_spiffe_id_and_by_parent_id(server, entries):
    assert names(server, by_spiffe_id=server.id('/ab')) == ['ab']
    assert names(server, by_parent_id=server.id('/p2')) == ['b', 'd']
    assert names(server, by_parent_id=server.id('/p1'), by_spiffe_id=server.id('/b')) == []


@pytest.mark.parametrize('kind,given,wanted', [
    (EXACT, '12', ['ab']), (EXACT, '1', ['a']), (EXACT, '13', []),
    (SUBSET, '12', ['a', 'ab', 'b']), (SUBSET, '4', ['d']), (SUBSET, '9', []),
    (SUPERSET, '1', ['a', 'ab', 'abc']), (SUPERSET, '12', ['ab', 'abc']), (SUPERSET, '14', []),
    (ANY, '14', ['a', 'ab', 'abc', 'd']), (ANY, '3', ['abc']), (ANY, '9', [])])
def test_by_selectors(server, entries, kind, given, wanted):
    assert names(server, by_selectors=match(kind, *given)) == wanted


def test_a_selector_that_stands_twice_counts_once(server, entries):
    assert names(server, by_selectors=match(EXACT, '1', '2', '2')) == ['ab']


def test_by_hint(server, entries):
    assert names(server, by_hint=stubs.StringValue(value='x')) == ['a', 'd']


def test_by_downstream_true_filters_and_false_does_not(server, entries):
    assert names(server, by_downstream=stubs.BoolValue(value=True)) == ['abc']
    assert names(server, by_downstream=stubs.BoolValue(value=False)) == ['a', 'ab', 'abc', 'b', 'd']


def test_by_federates_with_finds_none_without_federation(server, entries):
    assert names(server, by_federates_with=T.FederatesWithMatch(trust_domains=['other.org'], match=ANY)) == []


@pytest.mark.parametrize('filters', [
    {'by_selectors': T.SelectorMatch(match=EXACT)}, {'by_federates_with': T.FederatesWithMatch(match=ANY)},
    {'by_selectors': match(7, '1')}, {'by_spiffe_id': T.SPIFFEID(trust_domain='other.org', path='/a')},
    {'by_spiffe_id': T.SPIFFEID(trust_domain='example.org', path='bad')},
    {'by_parent_id': T.SPIFFEID(trust_domain='Bad', path='/a')},
    {'by_selectors': T.SelectorMatch(selectors=[T.Selector(type='a:b', value='c')])},
    {'by_selectors': T.SelectorMatch(selectors=[T.Selector(type='a')])}])
def test_a_malformed_filter_is_invalid(server, entries, filters):
    for call, kind in ((server.entries.ListEntries, E.ListEntriesRequest), (server.entries.CountEntries, E.CountEntriesRequest)):
        with pytest.raises(grpc.RpcError) as error:
            call(kind(filter=kind.Filter(**filters)))
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT, error.value
        assert 'malformed' in error.value.details()


def pages(server, size, **filters):
    token, all_pages = '', []
    while True:
        page = server.entries.ListEntries(E.ListEntriesRequest(
            filter=E.ListEntriesRequest.Filter(**filters), page_size=size, page_token=token))
        all_pages.append([e.spiffe_id.path[1:] for e in page.entries])
        token = page.next_page_token
        if not token:
            return all_pages
        assert re.fullmatch(r'\d+', token), token


def test_a_token_comes_with_every_page_that_is_not_empty(server, entries):
    got = pages(server, 2)
    assert [len(p) for p in got] == [2, 2, 1, 0]
    assert sorted(sum(got, [])) == ['a', 'ab', 'abc', 'b', 'd']
    assert [len(p) for p in pages(server, 5)] == [5, 0]


def test_a_filtered_list_has_no_empty_page_but_the_last(server, entries):
    got = pages(server, 1, by_parent_id=server.id('/p2'))
    assert got[-1] == [] and all(got[:-1]) and sorted(sum(got, [])) == ['b', 'd']


def test_an_entry_deleted_between_pages_takes_no_other_with_it(server, entries):
    extra = server.add('/between', '/p3', ['unix:9'])
    first = server.entries.ListEntries(E.ListEntriesRequest(page_size=2))
    server.remove(extra.id)
    rest, token = [], first.next_page_token
    while token:
        page = server.entries.ListEntries(E.ListEntriesRequest(page_size=2, page_token=token))
        rest += page.entries
        token = page.next_page_token
    seen = {e.spiffe_id.path[1:] for e in list(first.entries) + rest}
    assert seen - {'between'} == {'a', 'ab', 'abc', 'b', 'd'}


@pytest.mark.parametrize('token', ['x', '-1', '1.5', ' 1', '99999999999999999999999'])
def test_a_malformed_token_is_internal(server, entries, token):
    with pytest.raises(grpc.RpcError) as error:
        server.entries.ListEntries(E.ListEntriesRequest(page_size=1, page_token=token))
    assert error.value.code() == grpc.StatusCode.INTERNAL
    assert error.value.details().startswith('failed to list entries: could not parse token'), error.value.details()


def test_a_token_past_the_end_is_an_empty_page(server, entries):
    page = server.entries.ListEntries(E.ListEntriesRequest(page_size=3, page_token='999999999'))
    assert not page.entries and page.next_page_token == ''


def test_a_list_honours_the_mask(server, entries):
    listed = server.entries.ListEntries(E.ListEntriesRequest(output_mask=T.EntryMask(hint=True))).entries
    assert {e.id for e in listed} == {e.id for e in entries.values()}
    assert not any(e.HasField('spiffe_id') or e.selectors for e in listed)


def test_a_filter_and_a_page_of_much(server):
    server.entries.BatchCreateEntry(E.BatchCreateEntryRequest(
        entries=[server.entry('/much/%d' % i, '/much', ['unix:%d' % i]) for i in range(300)]))
    got = pages(server, 97, by_parent_id=server.id('/much'))
    assert len(set(sum(got, []))) == 300

# SPDX-License-Identifier: Apache-2.0
"""`entry` with files, many entries, filters and a terminal: texts, streams and exit codes as SPIRE's commands have them."""
import json

import pytest

from support import pki, process
from support.cli import check

PARENT = 'spiffe://example.org/host'


def data_file(cli, *entries):
    path = cli.folder / 'data.json'
    process.write(path, json.dumps({'entries': entries}))
    return path


def data(path, number, **more):
    return {'selectors': [{'type': 'unix', 'value': 'uid:%d' % number}], 'spiffe_id': 'spiffe://example.org' + path,
            'parent_id': PARENT, **more}


def block(path, number, entry_id='(none)', revision=0, ttl='default', more=''):
    return ('Entry ID                : %s\nSPIFFE ID               : spiffe://example.org%s\n'
            'Parent ID               : %s\nRevision                : %d\nX509-SVID TTL           : %s\n'
            'JWT-SVID TTL            : default\n%sSelector                : unix:uid:%d\n\n' % (
                entry_id, path, PARENT, revision, ttl, more, number))


def stored(cli):
    return json.loads(cli.server('entry', 'count', '-output', 'json').stdout)['count']


# ---- -data ----
@pytest.mark.parametrize('verb', ['create', 'update'])
@pytest.mark.parametrize('spoilt, text', [
    ({'x509_svid_ttl': '300'}, 'x509_svid_ttl: a whole number is expected, without quotes'),
    ({'admin': 'true'}, 'admin: true or false is expected, without quotes'),
    ({'ttl': 300}, 'unknown key "ttl"'),
    ({'jwt_svid_ttl': 4294967297}, 'jwt_svid_ttl: 0 to 2147483647 seconds are possible')])
def test_a_file_with_one_bad_entry_sends_nothing(cli, verb, spoilt, text):
    before = stored(cli)
    path = data_file(cli, data('/good', 1), data('/bad', 2, **spoilt))
    check(cli.server('entry', verb, '-data', path), 1, '', 'Error: %s: entry 1: %s\n' % (path, text))
    assert stored(cli) == before


@pytest.mark.parametrize('key', ['entryExpiry', 'entry_expiry'])
def test_the_expiry_of_a_file_counts_in_either_spelling(cli, server, key):
    path = data_file(cli, data('/expires', 3, **{key: 4000000000, 'entry_id': key}))
    check(cli.server('entry', 'create', '-data', path), 0, None, '')
    shown = json.loads(cli.server('entry', 'show', '-entryID', key, '-output', 'json').stdout)
    assert shown['entries'][0]['expires_at'] == '4000000000'
    server.remove(key)


def test_entry_update_from_a_file(cli, server):
    server.add('/u1', '/host', ['unix:uid:10'], id='u1')
    path = data_file(cli, data('/u1', 11, entry_id='u1', x509_svid_ttl=300), data('/u2', 12))
    check(cli.server('entry', 'update', '-data', path), 1, block('/u1', 11, 'u1', 1, '300'),
          'Failed to update the following entry (code: NotFound, msg: "failed to update entry"):\n' + block('/u2', 12) +
          'Error: failed to update one or more entries\n')
    server.remove('u1')


def test_entry_update_without_an_id_asks_nobody(cli):
    check(cli.server('entry', 'update', '-parentID', PARENT, '-spiffeID', 'spiffe://example.org/web', '-selector',
                     'unix:uid:1', socket='/nonexistent/none.sock'), 1, '', 'Error: entry ID is required\n')


@pytest.mark.parametrize('verb, flag', [('create', '-x509SVIDTTL'), ('create', '-jwtSVIDTTL'), ('update', '-x509SVIDTTL')])
def test_a_ttl_beyond_32_bits_is_refused(cli, verb, flag):
    check(cli.server('entry', verb, '-entryID', 'x', '-parentID', PARENT, '-spiffeID', 'spiffe://example.org/web',
                     '-selector', 'unix:uid:1', flag, '4294967297'), 1, '',
          'Error: invalid value for flag %s: 4294967297 seconds are out of range, at most 2147483647 are possible\n' % flag)


# ---- delete -file, and many entries ----
def test_entry_delete_of_the_ids_in_a_file(cli, server):
    for name in ('f1', 'f2'):
        server.add('/' + name, '/host', ['unix:uid:20'], id=name)
    path = cli.folder / 'ids'
    process.write(path, 'f1\r\n\nnone\nf2')
    check(cli.server('entry', 'delete', '-file', path), 1,
          'Deleted entry with ID: f1\nDeleted entry with ID: f2\n\n\nDeleted 2 entries successfully'
          '\n\nFailed to delete 1 entries',
          'Failed to delete entry with ID none (code: NotFound, msg: "entry not found")\n'
          'Error: failed to delete one or more entries\n')
    check(cli.server('entry', 'delete', '-file', '/nonexistent/ids'), 1, '',
          'Error: open /nonexistent/ids: no such file or directory\n')


def test_many_entries_go_in_batches_with_progress_on_a_terminal(cli):
    ids = ['many-%d' % i for i in range(1100)]
    path = data_file(cli, *[data('/many/%d' % i, i, entry_id=ids[i]) for i in range(len(ids))])
    code, out, shown = cli.server_on_a_terminal('entry', 'create', '-data', path)
    assert code == 0 and out.count('Entry ID') == 1100
    steps = '\rentries: %s: 500 of 1100\rentries: %s: 1000 of 1100\rentries: %s: 1100 of 1100\r\x1b[K'
    assert shown == steps.replace('%s', 'create')

    list_of_ids = cli.folder / 'many-ids'
    process.write(list_of_ids, '\n'.join(ids))
    code, out, shown = cli.server_on_a_terminal('entry', 'delete', '-file', list_of_ids)
    assert code == 0 and out.endswith('\n\nDeleted 1100 entries successfully')
    assert shown == steps.replace('%s', 'delete')


def test_progress_is_for_terminals_only(cli):
    path = data_file(cli, *[data('/quiet/%d' % i, i, entry_id='quiet-%d' % i) for i in range(1000)])
    check(cli.server('entry', 'create', '-data', path), 0, None, '')
    list_of_ids = cli.folder / 'quiet-ids'
    process.write(list_of_ids, '\n'.join('quiet-%d' % i for i in range(1000)))
    check(cli.server('entry', 'delete', '-file', list_of_ids), 0, None, '')


def test_more_ids_than_a_message_holds_are_all_asked_for(cli, server):
    server.add('/last', '/host', ['unix:uid:30'], id='the-last')
    list_of_ids = cli.folder / 'too-many-ids'
    process.write(list_of_ids, '\n'.join(['gone-%d' % i for i in range(65535)] + ['the-last']))
    done = cli.server('entry', 'delete', '-file', list_of_ids)
    assert done.returncode == 1
    assert done.stdout == ('Deleted entry with ID: the-last\n\n\nDeleted 1 entries successfully'
                           '\n\nFailed to delete 65535 entries')


# ---- filters ----
def test_match_federates_with_on(cli, server):
    for name in ('one.org', 'two.org'):
        path = cli.folder / name
        process.write(path, server.roots())
        check(cli.server('bundle', 'set', '-id', 'spiffe://' + name, '-path', path), 0, 'bundle set.\n', '')
    server.add('/fed/one', '/host', ['unix:uid:41'], id='fed-1', federates_with=['one.org'])
    server.add('/fed/two', '/host', ['unix:uid:42'], id='fed-2', federates_with=['one.org', 'two.org'])

    def found(match, *names):
        federates = [word for name in names for word in ('-federatesWith', name)]
        done = cli.server('entry', 'show', *federates, *(['-matchFederatesWithOn', match] if match else []), '-output', 'json')
        assert done.returncode == 0, done.stderr
        return [e['id'] for e in json.loads(done.stdout)['entries']]

    assert found('exact', 'one.org') == ['fed-1']
    assert found('superset', 'one.org') == found(None, 'one.org') == ['fed-1', 'fed-2']
    assert found('subset', 'one.org', 'two.org') == ['fed-1', 'fed-2']
    assert found('any', 'two.org', 'three.org') == ['fed-2']
    check(cli.server('entry', 'count', '-federatesWith', 'one.org', '-matchFederatesWithOn', 'exact'), 0,
          '1 registration entry\n', '')
    check(cli.server('entry', 'show', '-federatesWith', 'one.org', '-matchFederatesWithOn', 'bogus'), 1, '',
          'Error: match behavior "bogus" unknown\n')

# SPDX-License-Identifier: Apache-2.0
"""Bundles of other trust domains (wire notes 5.4, 5.9): the API, what it does to entries, and the commands."""
import json

import grpc
import pytest

from support import pki, process, stubs
from support.node import Node

B, T, E = stubs.bundle, stubs.types, stubs.entry
RESTRICT, DELETE, DISSOCIATE = 0, 1, 2
INVALID, NOT_FOUND, EXISTS, PRECONDITION, INTERNAL = 3, 5, 6, 9, 13


@pytest.fixture
def mine(make):
    return make(process.Server)


def bundle(name, authority=None, **more):
    authority = authority or pki.Authority(name)
    return T.Bundle(trust_domain=name, x509_authorities=[T.X509Certificate(asn1=pki.der_of(authority.certificate))], **more)


def put(server, *bundles, **more):
    return server.bundles.BatchSetFederatedBundle(B.BatchSetFederatedBundleRequest(bundle=bundles, **more)).results


def fetch(server, name, **more):
    return server.bundles.GetFederatedBundle(B.GetFederatedBundleRequest(trust_domain=name, **more))


def names(server, **more):
    return [b.trust_domain for b in
            server.bundles.ListFederatedBundles(B.ListFederatedBundlesRequest(**more)).bundles]


def delete(server, *trust_domains, mode=RESTRICT):
    return server.bundles.BatchDeleteFederatedBundle(
        B.BatchDeleteFederatedBundleRequest(trust_domains=trust_domains, mode=mode)).results


def refused(call, request):
    with pytest.raises(grpc.RpcError) as error:
        call(request)
    return error.value.code().value[0], error.value.details()


def status(result):
    return result.status.code, result.status.message


def test_a_bundle_is_created_once(mine):
    one = bundle('one.org', refresh_hint=60, sequence_number=7)
    create = mine.bundles.BatchCreateFederatedBundle
    first, second = create(B.BatchCreateFederatedBundleRequest(bundle=[one, one])).results
    assert status(first) == (0, 'OK') and first.bundle == one
    assert status(second) == (EXISTS, 'bundle already exists') and not second.HasField('bundle')
    assert status(create(B.BatchCreateFederatedBundleRequest(bundle=[one])).results[0]) == (EXISTS, 'bundle already exists')
    assert fetch(mine, 'one.org') == one
    assert mine.bundles.CountBundles(B.CountBundlesRequest()).count == 2


def test_jwt_authorities_are_kept(mine):
    key = T.JWTKey(public_key=pki.public_der(pki.new_key()), key_id='kid-1', expires_at=4_000_000_000)
    put(mine, bundle('one.org', jwt_authorities=[key]))
    assert list(fetch(mine, 'one.org').jwt_authorities) == [key]


def test_set_replaces_and_the_output_mask_counts(mine):
    put(mine, bundle('one.org', sequence_number=1))
    later = bundle('one.org', sequence_number=2)
    result = put(mine, later, output_mask=T.BundleMask(sequence_number=True))[0]
    assert result.bundle == T.Bundle(trust_domain='one.org', sequence_number=2)
    assert fetch(mine, 'one.org') == later
    assert fetch(mine, 'one.org', output_mask=T.BundleMask()) == T.Bundle(trust_domain='one.org')


def test_update_changes_what_the_input_mask_names_of_a_bundle_that_is_there(mine):
    update = mine.bundles.BatchUpdateFederatedBundle
    change = bundle('one.org', refresh_hint=9, sequence_number=9)
    missing = update(B.BatchUpdateFederatedBundleRequest(bundle=[change])).results[0]
    assert status(missing) == (NOT_FOUND, 'bundle not found')
    before = bundle('one.org', refresh_hint=1, sequence_number=1)
    put(mine, before)
    update(B.BatchUpdateFederatedBundleRequest(bundle=[change], input_mask=T.BundleMask(refresh_hint=True)))
    before.refresh_hint = 9
    assert fetch(mine, 'one.org') == before
    update(B.BatchUpdateFederatedBundleRequest(bundle=[change]))
    assert fetch(mine, 'one.org') == change


@pytest.mark.parametrize('method, request_type, doing', [
    ('BatchCreateFederatedBundle', B.BatchCreateFederatedBundleRequest, 'creating'),
    ('BatchUpdateFederatedBundle', B.BatchUpdateFederatedBundleRequest, 'updating'),
    ('BatchSetFederatedBundle', B.BatchSetFederatedBundleRequest, 'setting')])
def test_items_are_judged_one_by_one(server, method, request_type, doing):
    results = getattr(server.bundles, method)(request_type(bundle=[
        bundle('example.org'), bundle('Not Valid'), T.Bundle(trust_domain='bad.org', x509_authorities=[T.X509Certificate(asn1=b'x')])])).results
    assert status(results[0]) == (INVALID, doing + " a federated bundle for the server's own trust domain is not allowed")
    assert results[1].status.code == INVALID and results[1].status.message.startswith('trust domain argument is not valid: ')
    assert results[2].status.code == INVALID and results[2].status.message.startswith('failed to convert bundle: ')


def test_getting_a_bundle_that_is_not_there_the_own_one_and_nonsense(server):
    get = server.bundles.GetFederatedBundle
    assert refused(get, B.GetFederatedBundleRequest(trust_domain='none.org')) == (NOT_FOUND, 'bundle not found')
    assert refused(get, B.GetFederatedBundleRequest(trust_domain='example.org')) == (
        INVALID, "getting a federated bundle for the server's own trust domain is not allowed")
    code, text = refused(get, B.GetFederatedBundleRequest(trust_domain='A b'))
    assert code == INVALID and text.startswith('trust domain argument is not valid: ')


def test_pages_leave_the_own_bundle_out_and_end_with_an_empty_one(mine):
    put(mine, *[bundle(n) for n in ('a.org', 'b.org', 'x.org', 'y.org')])
    assert names(mine) == ['a.org', 'b.org', 'x.org', 'y.org']
    seen, token = [], ''
    while True:
        page = mine.bundles.ListFederatedBundles(B.ListFederatedBundlesRequest(page_size=2, page_token=token))
        seen.append([b.trust_domain for b in page.bundles])
        token = page.next_page_token
        if not token:
            break
    assert seen == [['a.org', 'b.org'], ['x.org'], ['y.org'], []]  # example.org took a place of the second


def test_a_malformed_page_token_is_internal(server):
    code, text = refused(server.bundles.ListFederatedBundles, B.ListFederatedBundlesRequest(page_size=1, page_token='zz!'))
    assert code == INTERNAL and text.startswith('failed to list bundles: could not parse token "zz!"')


def test_deleting_what_is_not_there_the_own_bundle_and_nonsense(server):
    results = delete(server, 'none.org', 'example.org', 'A b')
    assert status(results[0]) == (NOT_FOUND, 'bundle not found') and results[0].trust_domain == 'none.org'
    assert status(results[1]) == (INVALID, 'removing the bundle for the server trust domain is not allowed')
    assert results[2].status.code == INVALID and results[2].trust_domain == 'A b'
    assert results[2].status.message.startswith('trust domain argument is not valid: ')


def federated_entries(server):
    put(server, bundle('one.org'), bundle('two.org'))
    both = server.add('/both', '/host', ['unix:uid:1'], federates_with=['one.org', 'two.org'])
    two = server.add('/two', '/host', ['unix:uid:2'], federates_with=['two.org'])
    none = server.add('/none', '/host', ['unix:uid:3'])
    return both.id, two.id, none.id


def entry(server, entry_id):
    return server.entries.GetEntry(E.GetEntryRequest(id=entry_id))


def test_restrict_keeps_a_bundle_that_entries_federate_with(mine):
    federated_entries(mine)
    one, two = delete(mine, 'one.org', 'two.org')
    assert status(one) == (PRECONDITION, 'failed to delete federated bundle: cannot delete bundle; '
                           'federated with 1 registration entries')
    assert '2 registration entries' in two.status.message
    assert names(mine) == ['one.org', 'two.org']


def test_dissociate_takes_the_trust_domain_out_of_entries(mine):
    both, two, none = federated_entries(mine)
    assert status(delete(mine, 'one.org', mode=DISSOCIATE)[0]) == (0, 'OK')
    assert names(mine) == ['two.org']
    assert list(entry(mine, both).federates_with) == ['two.org'] and entry(mine, both).revision_number == 1
    assert entry(mine, two).revision_number == 0 and entry(mine, none).revision_number == 0


def test_delete_takes_the_entries_with_it(mine):
    both, two, none = federated_entries(mine)
    assert status(delete(mine, 'one.org', mode=DELETE)[0]) == (0, 'OK')
    left = [e.id for e in mine.entries.ListEntries(E.ListEntriesRequest()).entries]
    assert sorted(left) == sorted([two, none]) and names(mine) == ['two.org']


def test_one_batch_may_dissociate_two_trust_domains_of_one_entry(mine):
    both, two, _ = federated_entries(mine)
    assert [r.status.code for r in delete(mine, 'one.org', 'two.org', mode=DISSOCIATE)] == [0, 0]
    assert not entry(mine, both).federates_with and not entry(mine, two).federates_with and names(mine) == []


def test_an_unknown_mode_is_invalid(server):
    code, text = refused(server.bundles.BatchDeleteFederatedBundle,
                         B.BatchDeleteFederatedBundleRequest(trust_domains=['one.org'], mode=7))
    assert code == INVALID and text.startswith('failed to parse deletion mode: ')


def test_entries_federate_with_known_trust_domains_only(mine):
    answer = mine.entries.BatchCreateEntry(E.BatchCreateEntryRequest(
        entries=[mine.entry('/web', '/host', ['unix:uid:1'], federates_with=['unknown.org'])]))
    assert status(answer.results[0]) == (
        INTERNAL, 'failed to create entry: unable to find federated bundle "spiffe://unknown.org"')


def test_an_agent_reads_federated_bundles_and_strangers_do_not(mine):
    put(mine, bundle('one.org'))
    node = Node.attest(mine)
    request = B.GetFederatedBundleRequest(trust_domain='one.org')
    assert node.call('bundle.v1.Bundle/GetFederatedBundle', request, T.Bundle) == fetch(mine, 'one.org')
    with mine.tls() as link, pytest.raises(Exception) as error:
        link.unary('spire.api.server.bundle.v1.Bundle/GetFederatedBundle', request, T.Bundle)
    assert 'authorization denied' in str(error.value)


def test_what_is_stored_outlives_a_kill(mine):
    put(mine, bundle('one.org'))
    before = fetch(mine, 'one.org')
    mine.kill()
    mine.start()
    assert fetch(mine, 'one.org') == before


# ---- the admin of another trust domain ----

def test_an_admin_of_a_federated_trust_domain_is_accepted(make):
    other = pki.Authority('other.org')
    mine = make(process.Server, admin_ids=['spiffe://other.org/boss'])
    chain, key = other.leaf(['spiffe://other.org/boss'])
    count = ('spire.api.server.bundle.v1.Bundle/CountBundles', B.CountBundlesRequest(), B.CountBundlesResponse)
    with pytest.raises(Exception):  # without its bundle nobody of other.org can prove anything
        with mine.tls(chain, key) as link:
            link.unary(*count)
    put(mine, bundle('other.org', other))
    with mine.tls(chain, key) as link:
        assert link.unary(*count).count == 2
    for uri, authority in (('spiffe://other.org/clerk', other), ('spiffe://other.org/boss', pki.Authority('other.org'))):
        with pytest.raises(Exception):
            with mine.tls(*authority.leaf([uri])) as link:
                link.unary(*count)
    delete(mine, 'other.org')
    with pytest.raises(Exception):
        with mine.tls(chain, key) as link:
            link.unary(*count)


# ---- commands ----

@pytest.mark.parametrize('kind', ['pem', 'spiffe'])
def test_a_bundle_shown_by_one_server_is_set_at_another(make, kind):
    mine, other = make(process.Server), make(process.Server, trust_domain='other.org')
    shown = other.cli('bundle', 'show', '-format', kind)
    path = mine.folder / 'bundle'
    process.write(path, shown.stdout)
    done = mine.cli('bundle', 'set', '-id', 'spiffe://other.org', '-format', kind, '-path', path)
    assert (done.returncode, done.stdout, done.stderr) == (0, 'bundle set.\n', '')
    listed = mine.cli('bundle', 'list', '-id', 'spiffe://other.org', '-format', kind)
    assert listed.stdout == shown.stdout
    own = other.bundles.GetBundle(B.GetBundleRequest())
    assert [a.asn1 for a in fetch(mine, 'other.org').x509_authorities] == [a.asn1 for a in own.x509_authorities]
    if kind == 'spiffe':
        assert fetch(mine, 'other.org').sequence_number == own.sequence_number
        assert [k.key_id for k in fetch(mine, 'other.org').jwt_authorities] == [k.key_id for k in own.jwt_authorities]


def test_bundle_set_reads_standard_input(mine):
    done = mine.cli('bundle', 'set', '-id', 'in.org', input=pki.Authority('in.org').pem())
    assert (done.returncode, done.stdout) == (0, 'bundle set.\n')


def test_bundle_list_has_a_head_for_each(mine):
    assert mine.cli('bundle', 'list').stdout == ''
    a, b = pki.Authority('a.org'), pki.Authority('b.org')
    put(mine, bundle('a.org', a), bundle('b.org', b))
    stars = '*' * 40 + '\n'
    assert mine.cli('bundle', 'list').stdout == (
        stars + '* a.org\n' + stars + a.pem() + '\n' + stars + '* b.org\n' + stars + b.pem())
    document = json.loads(mine.cli('bundle', 'list', '-output', 'json').stdout)
    assert [x['trust_domain'] for x in document['bundles']] == ['a.org', 'b.org'] and document['next_page_token'] == ''
    assert mine.cli('bundle', 'count').stdout == '3 bundles\n'


@pytest.mark.parametrize('args, text', [
    (['bundle', 'set'], 'Error: id flag is required\n'),
    (['bundle', 'set', '-id', 'x.org', '-format', 'der'], 'Error: invalid format: "der"\n'),
    (['bundle', 'set', '-id', 'x.org', '-path', '/nonexistent'],
     'Error: unable to load bundle data: open /nonexistent: no such file or directory\n'),
    (['bundle', 'set', '-id', 'x.org', '-path', '/dev/null'], 'Error: unable to parse bundle data: no PEM blocks\n'),
    (['bundle', 'list', '-id', 'none.org'], 'Error: rpc error: code = NotFound desc = bundle not found\n'),
    (['bundle', 'delete'], 'Error: id is required\n'),
    (['bundle', 'delete', '-id', 'x.org', '-mode', 'maybe'], 'Error: unsupported mode "maybe"\n'),
    (['bundle', 'delete', '-id', 'none.org'], 'Error: failed to delete federated bundle "none.org": bundle not found\n')])
def test_what_the_commands_refuse(server, args, text):
    done = server.cli(*args)
    assert (done.returncode, done.stdout, done.stderr) == (1, '', text)


def test_bundle_delete_says_so_and_takes_a_mode(mine):
    federated_entries(mine)
    done = mine.cli('bundle', 'delete', '-id', 'spiffe://one.org')
    assert done.returncode == 1 and 'federated with 1 registration entries' in done.stderr
    done = mine.cli('bundle', 'delete', '-id', 'spiffe://one.org', '-mode', 'dissociate')
    assert (done.returncode, done.stdout) == (0, 'bundle deleted.\n')
    done = mine.cli('bundle', 'delete', '-id', 'two.org', '-mode', 'delete', '-output', 'json')
    assert json.loads(done.stdout)['results'][0]['status'] == {'code': 0, 'message': 'OK'}
    assert mine.entries.CountEntries(E.CountEntriesRequest()).count == 1

# SPDX-License-Identifier: Apache-2.0
"""Federation relationships (wire notes 5.6, 5.9): the API and the commands."""
import json

import grpc
import pytest

from support import pki, process, stubs

D, B, T = stubs.trustdomain, stubs.bundle, stubs.types
INVALID, NOT_FOUND, INTERNAL = 3, 5, 13
URL = 'https://127.0.0.1:9/'


@pytest.fixture
def mine(make):
    return make(process.Server)


def api(server):
    return server.api(stubs.trustdomain_grpc, 'TrustDomain')


def web(name, url=URL, **more):
    return T.FederationRelationship(trust_domain=name, bundle_endpoint_url=url, https_web=T.HTTPSWebProfile(), **more)


def spiffe(name, endpoint=None, url=URL, **more):
    return T.FederationRelationship(trust_domain=name, bundle_endpoint_url=url, https_spiffe=T.HTTPSSPIFFEProfile(
        endpoint_spiffe_id=endpoint or 'spiffe://%s/spire/server' % name), **more)


def create(server, *relationships, **more):
    return api(server).BatchCreateFederationRelationship(
        D.BatchCreateFederationRelationshipRequest(federation_relationships=relationships, **more)).results


def update(server, *relationships, **more):
    return api(server).BatchUpdateFederationRelationship(
        D.BatchUpdateFederationRelationshipRequest(federation_relationships=relationships, **more)).results


def delete(server, *names):
    return api(server).BatchDeleteFederationRelationship(
        D.BatchDeleteFederationRelationshipRequest(trust_domains=names)).results


def get(server, name, **more):
    return api(server).GetFederationRelationship(D.GetFederationRelationshipRequest(trust_domain=name, **more))


def listed(server, **more):
    return api(server).ListFederationRelationships(D.ListFederationRelationshipsRequest(**more))


def refused(call, *args, **more):
    with pytest.raises(grpc.RpcError) as error:
        call(*args, **more)
    return error.value.code().value[0], error.value.details()


def status(result):
    return result.status.code, result.status.message


def bundle(name, **more):
    der = pki.der_of(pki.Authority(name).certificate)
    return T.Bundle(trust_domain=name, x509_authorities=[T.X509Certificate(asn1=der)], **more)


def test_both_profiles_are_created_and_got(mine):
    first, second = create(mine, web('a.org'), spiffe('b.org', 'spiffe://c.org/endpoint'))
    assert status(first) == (0, 'OK') and first.federation_relationship == web('a.org')
    assert second.federation_relationship == spiffe('b.org', 'spiffe://c.org/endpoint')
    assert get(mine, 'a.org') == web('a.org') and get(mine, 'b.org') == spiffe('b.org', 'spiffe://c.org/endpoint')
    mine.kill()
    mine.start()
    assert list(listed(mine).federation_relationships) == [web('a.org'), spiffe('b.org', 'spiffe://c.org/endpoint')]


def test_a_bundle_that_comes_along_is_stored_and_shown(mine):
    given = bundle('a.org', sequence_number=3)
    assert create(mine, web('a.org', trust_domain_bundle=given))[0].federation_relationship.trust_domain_bundle == given
    assert mine.bundles.GetFederatedBundle(B.GetFederatedBundleRequest(trust_domain='a.org')) == given
    assert get(mine, 'a.org').trust_domain_bundle == given
    delete(mine, 'a.org')  # ends the relationship, not the trust
    assert mine.bundles.GetFederatedBundle(B.GetFederatedBundleRequest(trust_domain='a.org')) == given


def test_masks_choose_fields_by_their_own_numbers(mine):
    create(mine, web('a.org', trust_domain_bundle=bundle('a.org')))
    mask = T.FederationRelationshipMask(bundle_endpoint_url=True)
    assert get(mine, 'a.org', output_mask=mask) == T.FederationRelationship(trust_domain='a.org', bundle_endpoint_url=URL)
    assert get(mine, 'a.org', output_mask=T.FederationRelationshipMask()) == T.FederationRelationship(trust_domain='a.org')
    mask = T.FederationRelationshipMask(bundle_endpoint_profile=True)
    assert listed(mine, output_mask=mask).federation_relationships[0].WhichOneof('bundle_endpoint_profile') == 'https_web'


def test_update_changes_what_the_input_mask_names(mine):
    create(mine, web('a.org'))
    change = spiffe('a.org', url='https://new.example/')
    result = update(mine, change, input_mask=T.FederationRelationshipMask(bundle_endpoint_url=True))[0]
    assert result.federation_relationship == web('a.org', url='https://new.example/')
    assert update(mine, change)[0].federation_relationship == change
    assert get(mine, 'a.org') == change


def test_failures_of_the_store_are_internal_items(mine):
    first, again = create(mine, web('a.org'), web('a.org'))
    assert first.status.code == 0 and again.status.code == INTERNAL
    assert again.status.message.startswith('failed to create federation relationship: ')
    missing = update(mine, web('none.org'))[0]
    assert missing.status.code == INTERNAL
    assert missing.status.message.startswith('failed to update federation relationship: ')


@pytest.mark.parametrize('relationship, text', [
    (web('Not Valid'), 'failed to parse trust domain: '),
    (web('a.org', url='http://a.org/'), 'bundle endpoint URL must use the https scheme'),
    (web('a.org', url=''), 'bundle endpoint URL must use the https scheme'),
    (web('a.org', url='https:///path'), 'bundle endpoint URL must specify the host'),
    (web('a.org', url='https://user:pw@a.org/'), 'bundle endpoint URL must not contain user info'),
    (web('a.org', url='https://a.org:99999/'), 'failed to parse bundle endpoint URL: '),
    (web('a.org', url='https://a.org/\n'), 'failed to parse bundle endpoint URL: '),
    (web('a.org', url='https://' + 'a' * 3000), 'failed to parse bundle endpoint URL: '),
    (T.FederationRelationship(trust_domain='a.org', bundle_endpoint_url=URL), 'unsupported bundle endpoint profile type: '),
    (spiffe('a.org', 'nonsense'), 'failed to parse endpoint SPIFFE ID: scheme is missing or invalid'),
    (T.FederationRelationship(trust_domain='a.org', bundle_endpoint_url=URL, https_spiffe=T.HTTPSSPIFFEProfile()),
     'failed to parse endpoint SPIFFE ID: cannot be empty'),
    (web('a.org', trust_domain_bundle=T.Bundle(trust_domain='a.org', x509_authorities=[T.X509Certificate(asn1=b'x')])),
     'failed to parse bundle: '),
    (web('a.org', trust_domain_bundle=T.Bundle(trust_domain='b.org')), 'trust domain bundle ("b.org") must match')])
def test_what_is_no_relationship(server, relationship, text):
    for results in (create(server, relationship), update(server, relationship)):
        assert results[0].status.code == INVALID
        assert results[0].status.message.startswith('failed to convert federation relationship: ' + text)
        assert not results[0].HasField('federation_relationship')


def test_the_own_trust_domain_is_refused(server):
    assert status(create(server, web('example.org'))[0]) == (
        INVALID, 'unable to create federation relationship for server trust domain')


def test_deleting_answers_each_name(mine):
    create(mine, web('a.org'))
    a, again, empty, bad = delete(mine, 'a.org', 'a.org', '', 'A b')
    assert status(a) == (0, 'OK') and a.trust_domain == 'a.org'
    assert status(again) == (NOT_FOUND, 'federation relationship not found') and again.trust_domain == 'a.org'
    assert status(empty) == (INVALID, 'missing trust domain')
    assert bad.status.code == INVALID and bad.status.message.startswith('failed to parse trust domain: ')
    assert bad.trust_domain == 'A b'


def test_pages_end_with_an_empty_one(mine):
    create(mine, *[web(n) for n in ('a.org', 'b.org', 'c.org')])
    seen, token = [], ''
    while True:
        page = listed(mine, page_size=2, page_token=token)
        seen.append([r.trust_domain for r in page.federation_relationships])
        token = page.next_page_token
        if not token:
            break
    assert seen == [['a.org', 'b.org'], ['c.org'], []]


def test_bad_names_and_tokens(server):
    assert refused(get, server, 'none.org') == (NOT_FOUND, 'federation relationship does not exist')
    code, text = refused(get, server, 'A b')
    assert code == INVALID and text.startswith('failed to parse trust domain: ')
    code, text = refused(listed, server, page_size=1, page_token='zz!')
    assert code == INTERNAL and text.startswith('failed to list federation relationships: could not parse token "zz!"')


def test_refreshing_needs_a_relationship(server):
    call = api(server).RefreshBundle
    assert refused(call, D.RefreshBundleRequest(trust_domain='none.org')) == (
        NOT_FOUND, 'no relationship with trust domain "none.org"')
    code, text = refused(call, D.RefreshBundleRequest(trust_domain='A b'))
    assert code == INVALID and text.startswith('failed to parse trust domain: ')


# ---- commands ----
SHOWN = ('Trust domain              : fed2.example\nBundle endpoint URL       : https://127.0.0.1:9/\n'
         'Bundle endpoint profile   : https_spiffe\nEndpoint SPIFFE ID        : spiffe://fed2.example/spire/server\n')
FLAGS = ['-trustDomain', 'fed2.example', '-bundleEndpointURL', URL, '-bundleEndpointProfile', 'https_spiffe',
         '-endpointSpiffeID', 'spiffe://fed2.example/spire/server']


def said(done):
    return done.returncode, done.stdout, done.stderr


def test_the_life_of_a_relationship_by_commands(mine):
    assert said(mine.cli('federation', 'list')) == (0, 'Found 0 federation relationships\n', '')
    assert said(mine.cli('federation', 'create', *FLAGS)) == (0, '\n' + SHOWN, '')
    assert said(mine.cli('federation', 'list')) == (0, 'Found 1 federation relationship\n\n' + SHOWN, '')
    assert mine.cli('federation', 'list', '-output', 'json').stdout == (
        '{"federation_relationships":[{"bundle_endpoint_url":"https://127.0.0.1:9/","https_spiffe":{"endpoint_spiffe_id":'
        '"spiffe://fed2.example/spire/server"},"trust_domain":"fed2.example"}],"next_page_token":""}\n')
    assert said(mine.cli('federation', 'show', '-trustDomain', 'fed2.example')) == (
        0, 'Found a federation relationship with trust domain fed2.example:\n\n' + SHOWN, '')
    done = mine.cli('federation', 'update', '-trustDomain', 'fed2.example', '-bundleEndpointURL', URL,
                    '-bundleEndpointProfile', 'https_web')
    assert said(done) == (0, '\n' + SHOWN.replace('https_spiffe', 'https_web').split('Endpoint')[0], '')
    assert said(mine.cli('federation', 'delete', '-id', 'fed2.example')) == (0, 'federation relationship deleted.\n', '')
    assert said(mine.cli('federation', 'show', '-trustDomain', 'fed2.example')) == (
        1, '', 'Error: error showing federation relationship: rpc error: code = NotFound desc = '
        'federation relationship does not exist\n')


def test_a_failed_item_is_shown_with_its_reason(mine):
    done = mine.cli('federation', 'create', '-trustDomain', 'example.org', '-bundleEndpointURL', URL,
                    '-bundleEndpointProfile', 'https_web')
    assert done.returncode == 1 and done.stderr == (
        'Failed to create the following federation relationship (code: InvalidArgument, msg: "unable to create federation '
        'relationship for server trust domain"):\nTrust domain              : example.org\n'
        'Bundle endpoint URL       : https://127.0.0.1:9/\nBundle endpoint profile   : https_web\n'
        'Error: failed to create one or more federation relationships\n')


def test_relationships_come_from_a_file(mine):
    a = pki.Authority('a.org')
    data = {'federationRelationships': [
        {'trustDomain': 'a.org', 'bundleEndpointURL': URL, 'bundleEndpointProfile': 'https_web',
         'trustDomainBundle': a.pem(), 'trustDomainBundleFormat': 'pem'},
        {'trustDomain': 'b.org', 'bundleEndpointURL': URL, 'bundleEndpointProfile': 'https_spiffe',
         'endpointSpiffeID': 'spiffe://b.org/x', 'trustDomainBundleFormat': 'spiffe',
         'trustDomainBundle': json.loads(mine.cli('bundle', 'show', '-format', 'spiffe').stdout)}]}
    path = mine.folder / 'data.json'
    process.write(path, json.dumps(data))
    done = mine.cli('federation', 'create', '-data', path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('Trust domain  ') == 2
    assert get(mine, 'a.org').trust_domain_bundle.x509_authorities[0].asn1 == pki.der_of(a.certificate)
    assert get(mine, 'b.org').trust_domain_bundle.sequence_number >= 1
    done = mine.cli('federation', 'update', '-data', '-', '-output', 'json', input=json.dumps(data))
    assert [r['status']['code'] for r in json.loads(done.stdout)['results']] == [0, 0]


def test_a_relationship_takes_its_first_bundle_from_a_file(mine):
    a = pki.Authority('fed2.example')
    path = mine.folder / 'first.pem'
    process.write(path, a.pem())
    assert mine.cli('federation', 'create', *FLAGS, '-trustDomainBundlePath', path).returncode == 0
    assert get(mine, 'fed2.example').trust_domain_bundle.x509_authorities[0].asn1 == pki.der_of(a.certificate)


@pytest.mark.parametrize('args, text', [
    (['create'], 'trust domain is required'),
    (['create', '-trustDomain', 'a.org'], 'bundle endpoint URL is required'),
    (['create', '-trustDomain', 'a.org', '-bundleEndpointURL', URL], 'unknown bundle endpoint profile type: ""'),
    (['create', '-trustDomain', 'a.org', '-bundleEndpointURL', URL, '-bundleEndpointProfile', 'https_spiffe'],
     "endpoint SPIFFE ID is required if 'https_spiffe' endpoint profile is set"),
    (['create', '-trustDomain', 'a.org', '-data', '-'],
     "cannot use other flags to specify relationship fields when 'data' flag is set"),
    (['create', '-data', '/nonexistent'], 'open /nonexistent: no such file or directory'),
    (['show'], 'a trust domain name is required'), (['delete'], 'id is required'), (['refresh'], 'id is required'),
    (['delete', '-id', 'none.org'],
     'failed to delete federation relationship "none.org": federation relationship not found'),
    (['refresh', '-id', 'none.org'], 'there is no federation relationship with trust domain "none.org"')])
def test_what_the_commands_refuse(server, args, text):
    assert said(server.cli('federation', *args)) == (1, '', 'Error: ' + text + '\n')


@pytest.mark.parametrize('content', ['', '{', '[]', '{"federationRelationships": {}}', '{"federationRelationships": [1]}',
                                     '{"federationRelationships": [{"trustDomain": 7}]}'])
def test_files_that_are_no_relationships(server, content):
    done = server.cli('federation', 'create', '-data', '-', input=content)
    assert done.returncode == 1 and done.stderr.startswith('Error: ') and done.stdout == ''

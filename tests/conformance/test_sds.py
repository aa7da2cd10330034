# SPDX-License-Identifier: Apache-2.0
"""Envoy's secret discovery service: names, what a bundle looks like for which Envoy, versions, nonces, refusals."""
import os

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from support import h2grpc, pki, process, stubs
from support.h2grpc import RpcError
from support.process import eventually

S = stubs.sds
API = 'envoy.service.secret.v3.SecretDiscoveryService/'
ME = 'unix:uid:%d' % os.geteuid()
TYPES = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.'
ONE, TWO, TD = 'spiffe://example.org/one', 'spiffe://example.org/two', 'spiffe://example.org'


def node(major=None, minor=None, **metadata):
    out = S.Node(id='envoy')
    if major is not None:
        out.user_agent_build_version.version.major_number = major
        out.user_agent_build_version.version.minor_number = minor
    if metadata:
        out.metadata.update(metadata)
    return out


def request(*names, **more):
    return S.DiscoveryRequest(resource_names=names, type_url=TYPES + 'Secret', **more)


def secrets(answer):
    """Name to Secret."""
    assert answer.type_url == TYPES + 'Secret'
    out = {}
    for resource in answer.resources:
        assert resource.type_url == TYPES + 'Secret'
        secret = S.Secret.FromString(resource.value)
        assert secret.name not in out
        out[secret.name] = secret
    return out


def fetch_raw(agent, message):
    with agent.connect() as link:
        return link.unary(API + 'FetchSecrets', message, S.DiscoveryResponse)


def fetch(agent, *names, **more):
    return secrets(fetch_raw(agent, request(*names, **more)))


def refusal(agent, *names, **more):
    with pytest.raises(RpcError) as error:
        fetch(agent, *names, **more)
    return error.value.code, error.value.message


def validator(secret):
    """Trust domain name to PEM."""
    context = secret.validation_context
    assert not context.HasField('trusted_ca')
    assert context.custom_validator_config.name == 'envoy.tls.cert_validator.spiffe'
    packed = context.custom_validator_config.typed_config
    assert packed.type_url == TYPES + 'SPIFFECertValidatorConfig'
    config = S.SPIFFECertValidatorConfig.FromString(packed.value)
    return {t.name: t.trust_bundle.inline_bytes.decode() for t in config.trust_domains}


def plain(secret):
    assert not secret.validation_context.HasField('custom_validator_config')
    return secret.validation_context.trusted_ca.inline_bytes.decode()


@pytest.fixture(scope='module')
def mine(server, agent):
    """Two entries of this process; the first by id is /one."""
    server.add('/one', '/host', [ME], id='a-one')
    server.add('/two', '/host', [ME], id='b-two')

    def there():
        with agent.workload() as workload:
            return len(workload.fetch().svids) == 2
    eventually(there, what='both SVIDs')


# ---- names ----
def test_no_names_mean_every_svid_and_every_bundle(agent, mine):
    assert set(fetch(agent)) == {ONE, TWO, TD}
    assert set(fetch(agent, '')) == {ONE, TWO, TD}


def test_default_is_the_first_identity(agent, mine):
    answer = fetch(agent, 'default')
    assert set(answer) == {'default'}
    certificate = answer['default'].tls_certificate
    chain = [x509.load_pem_x509_certificate(certificate.certificate_chain.inline_bytes)]
    assert pki.uris_of(chain[0]) == [ONE]
    key = load_pem_private_key(certificate.private_key.inline_bytes, None)
    assert certificate.private_key.inline_bytes.startswith(b'-----BEGIN PRIVATE KEY-----\n')
    assert key.public_key().public_numbers() == chain[0].public_key().public_numbers()


def test_a_refusal_of_very_many_names_arrives_cut(agent, mine):
    names = ['spiffe://example.org/%0100d' % i for i in range(900)]
    text = refusal(agent, *names)
    assert 'workload is not authorized for the requested identities' in str(text)
    assert str(text).rstrip("')").endswith('...') and len(str(text)) < 9000


def test_an_identity_is_given_under_its_id(agent, mine):
    answer = fetch(agent, TWO)
    chain = [x509.load_pem_x509_certificate(answer[TWO].tls_certificate.certificate_chain.inline_bytes)]
    assert set(answer) == {TWO} and pki.uris_of(chain[0]) == [TWO]


@pytest.mark.parametrize('name', ['ROOTCA', 'ALL', TD])
def test_the_own_bundle_has_three_names(server, agent, mine, name):
    answer = fetch(agent, name)
    assert {n: validator(s) for n, s in answer.items()} == {name: {'example.org': server.roots()}}


@pytest.mark.parametrize('names, left', [((TD, 'ROOTCA'), 'ROOTCA'), ((TD, 'ALL'), 'ALL'), (('ROOTCA', 'ALL'), 'ALL')])
def test_the_own_bundle_is_given_under_one_name_only(agent, mine, names, left):
    assert refusal(agent, *names) == (
        h2grpc.INVALID_ARGUMENT, 'workload is not authorized for the requested identities ["%s"]' % left)


def test_what_the_workload_may_not_have_is_named(agent, mine):
    assert refusal(agent, ONE, 'spiffe://example.org/x', 'spiffe://other.org') == (
        h2grpc.INVALID_ARGUMENT, 'workload is not authorized for the requested identities '
                                 '["spiffe://example.org/x" "spiffe://other.org"]')


def test_one_identity_under_both_its_names_is_not_given_twice(agent, mine):
    assert refusal(agent, ONE, 'default')[0] == h2grpc.INVALID_ARGUMENT


def test_too_many_names_are_refused(agent, mine):
    assert refusal(agent, *map(str, range(1025))) == (h2grpc.INVALID_ARGUMENT, 'resource_names has more than 1024 names')


def test_a_workload_without_an_identity_gets_no_svid(make, server):
    agent = make(process.Agent, server.port, join_token=server.token('/empty'), roots=server.roots())
    assert refusal(agent, 'default') == (
        h2grpc.INVALID_ARGUMENT, 'workload is not authorized for the requested identities ["default"]')
    assert set(fetch(agent)) == {TD}


# ---- what a bundle looks like ----
@pytest.mark.parametrize('envoy', [node(), node(1, 18), node(2, 0), node(disable_spiffe_cert_validation=False),
                                   S.Node(user_agent_version='1.10')])
def test_a_newer_or_unknown_envoy_gets_the_spiffe_validator(server, agent, mine, envoy):
    assert validator(fetch(agent, 'ROOTCA', node=envoy)['ROOTCA']) == {'example.org': server.roots()}


@pytest.mark.parametrize('envoy', [node(1, 17), node(0, 99), node(disable_spiffe_cert_validation=True),
                                   node(1, 30, disable_spiffe_cert_validation='true')])
def test_an_old_envoy_or_one_that_asks_for_it_gets_plain_roots(server, agent, mine, envoy):
    assert plain(fetch(agent, 'ROOTCA', node=envoy)['ROOTCA']) == server.roots()


def test_names_and_validator_come_from_the_configuration(make, server):
    agent = make(process.Agent, server.port, join_token=server.token('/named'), roots=server.roots(),
                 sds={'default_bundle_name': 'roots', 'disable_spiffe_cert_validation': True})
    assert plain(fetch(agent, 'roots')['roots']) == server.roots()
    assert refusal(agent, 'ROOTCA')[0] == h2grpc.INVALID_ARGUMENT


# ---- streams ----
@pytest.fixture
def stream(agent, mine):
    with agent.connect() as link:
        yield link.start(API + 'StreamSecrets')


def ask(call, *names, **more):
    call.send(request(*names, **more))


def test_a_fetch_has_no_version(agent, mine):
    assert fetch_raw(agent, request('default')).version_info == ''


def test_an_acknowledgement_is_not_answered_and_a_new_question_is(stream):
    ask(stream, 'default', node=node())
    first = stream.receive(S.DiscoveryResponse)
    assert first.version_info == '1' and len(bytes.fromhex(first.nonce)) == 8
    ask(stream, 'default', version_info='1', response_nonce=first.nonce)
    ask(stream, 'ROOTCA', version_info='1', response_nonce=first.nonce)
    second = stream.receive(S.DiscoveryResponse)
    assert set(secrets(second)) == {'ROOTCA'} and second.nonce != first.nonce


def test_an_answer_to_an_older_response_is_passed_over(stream):
    ask(stream, 'default')
    first = stream.receive(S.DiscoveryResponse)
    ask(stream, TWO, version_info='1', response_nonce='00')
    ask(stream, 'ROOTCA', version_info='1', response_nonce=first.nonce)
    assert set(secrets(stream.receive(S.DiscoveryResponse))) == {'ROOTCA'}


def test_a_refused_response_is_given_again(stream):
    ask(stream, 'default')
    first = stream.receive(S.DiscoveryResponse)
    for _ in range(2):  # the second time after a pause
        ask(stream, 'default', response_nonce=first.nonce, error_detail=stubs.rpc_status.Status(code=3, message='no'))
        again = stream.receive(S.DiscoveryResponse)
        assert secrets(again) == secrets(first) and again.nonce != first.nonce
        first = again


def test_the_node_needs_to_be_said_once(server, stream):
    ask(stream, 'default', node=node(1, 17))
    first = stream.receive(S.DiscoveryResponse)
    ask(stream, 'ROOTCA', version_info='1', response_nonce=first.nonce)
    assert plain(secrets(stream.receive(S.DiscoveryResponse))['ROOTCA']) == server.roots()


def test_a_change_is_pushed_with_a_new_version(server, stream):
    ask(stream)
    first = stream.receive(S.DiscoveryResponse)
    assert set(secrets(first)) == {ONE, TWO, TD}
    entry = server.add('/three', '/host', [ME], id='c-three')
    second = stream.receive(S.DiscoveryResponse)
    while len(second.resources) < 4:
        second = stream.receive(S.DiscoveryResponse)
    assert int(second.version_info) > int(first.version_info)
    server.remove(entry.id if hasattr(entry, 'id') else entry)
    third = stream.receive(S.DiscoveryResponse)
    assert set(secrets(third)) == {ONE, TWO, TD} and int(third.version_info) > int(second.version_info)


def test_a_closed_half_ends_the_stream_well(stream):
    ask(stream, 'default')
    assert stream.receive(S.DiscoveryResponse)
    stream.half_close()
    assert stream.receive() is None


# ---- methods ----
def test_delta_is_unimplemented(agent):
    with agent.connect() as link:
        call = link.start(API + 'DeltaSecrets')
        call.send(b'', end=True)
        with pytest.raises(RpcError) as error:
            call.receive()
    assert error.value.code == h2grpc.UNIMPLEMENTED


def test_each_api_can_be_switched_off(make, server):
    agent = make(process.Agent, server.port, join_token=server.token('/off'), roots=server.roots(),
                 disable_sds_api=True)
    assert refusal(agent, 'ROOTCA')[0] == h2grpc.UNIMPLEMENTED
    agent = make(process.Agent, server.port, join_token=server.token('/off2'), roots=server.roots(),
                 disable_workload_api=True)
    with pytest.raises(RpcError) as error, agent.workload() as workload:
        workload.fetch()
    assert error.value.code == h2grpc.UNIMPLEMENTED
    assert set(fetch(agent, 'ROOTCA')) == {'ROOTCA'}

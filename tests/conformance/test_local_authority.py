# SPDX-License-Identifier: Apache-2.0
"""LocalAuthority: show, prepare, activate, taint and revoke, with every refusal, and the commands' output."""
import re

import grpc
import jwt
import pytest
from cryptography import x509

from support import pki, process, stubs

L = stubs.localauthority
KINDS = ('X509', 'JWT')


def api(server):
    return server.api(stubs.localauthority_grpc, 'LocalAuthority')


def call(server, verb, kind, **request):
    method = verb + kind + 'Authority' + ('State' if verb == 'Get' else '')
    return getattr(api(server), method)(getattr(L, method + 'Request')(**request))


def error(server, verb, kind, **request):
    with pytest.raises(grpc.RpcError) as refused:
        call(server, verb, kind, **request)
    return refused.value.code(), refused.value.details()


def subject_key_id(der):
    extensions = x509.load_der_x509_certificate(der).extensions
    return extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()


def bundle(server):
    return server.bundles.GetBundle(stubs.bundle.GetBundleRequest())


def tainted(server, kind):
    """The IDs of all authorities in the bundle, and of the tainted ones."""
    if kind == 'JWT':
        known = [(key.key_id, key.tainted) for key in bundle(server).jwt_authorities]
    else:
        known = [(subject_key_id(root.asn1), root.tainted)
                 for root in bundle(server).x509_authorities]
    return {one for one, _ in known}, {one for one, is_tainted in known if is_tainted}


def signer(server, kind):
    """Who signs now."""
    if kind == 'JWT':
        request = stubs.svid.MintJWTSVIDRequest(id=server.id('/x'), audience=['a'])
        return jwt.get_unverified_header(server.svids.MintJWTSVID(request).svid.token)['kid']
    csr = pki.csr(pki.new_key(), ['spiffe://example.org/x'])
    chain = server.svids.MintX509SVID(stubs.svid.MintX509SVIDRequest(csr=csr)).svid.cert_chain
    extension = x509.load_der_x509_certificate(chain[0]).extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    return extension.value.key_identifier.hex()


@pytest.mark.parametrize('kind', KINDS)
def test_an_authority_goes_from_prepared_to_revoked(make, kind):
    server = make(process.Server)
    first = call(server, 'Get', kind).active
    assert first.authority_id == signer(server, kind) and first.expires_at > 0
    assert not call(server, 'Get', kind).HasField('prepared') and not call(server, 'Get', kind).HasField('old')

    prepared = call(server, 'Prepare', kind).prepared_authority
    assert call(server, 'Get', kind).prepared == prepared
    assert prepared.authority_id in tainted(server, kind)[0], 'published before it signs'
    assert signer(server, kind) == first.authority_id

    assert call(server, 'Activate', kind, authority_id=prepared.authority_id).activated_authority == prepared
    assert signer(server, kind) == prepared.authority_id
    state = call(server, 'Get', kind)
    assert (state.active, state.old) == (prepared, first) and not state.HasField('prepared')

    assert call(server, 'Taint', kind, authority_id=first.authority_id).tainted_authority == first
    assert tainted(server, kind)[1] == {first.authority_id}
    assert call(server, 'Revoke', kind, authority_id=first.authority_id).revoked_authority == first
    assert first.authority_id not in tainted(server, kind)[0]
    assert signer(server, kind) == prepared.authority_id


@pytest.mark.parametrize('kind', KINDS)
def test_refusals_have_spires_codes_and_texts(make, kind):
    server = make(process.Server)
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    active = call(server, 'Get', kind).active.authority_id
    for verb in ('Activate', 'Taint'):
        assert error(server, verb, kind) == (invalid, 'no authority ID provided')
        assert error(server, verb, kind, authority_id='zz') == (invalid, 'unexpected authority ID')
    assert error(server, 'Taint', kind, authority_id=active) == (invalid, 'unable to taint current local authority')
    for given in ('', 'zz', active):
        code, text = error(server, 'Revoke', kind, authority_id=given)
        assert code == invalid and text.startswith('invalid authority ID: ')
    prepared = call(server, 'Prepare', kind).prepared_authority.authority_id
    code, text = error(server, 'Taint', kind, authority_id=prepared)
    assert code == invalid and text.startswith('only Old local authorities can be tainted: ')
    call(server, 'Activate', kind, authority_id=prepared)
    code, text = error(server, 'Activate', kind, authority_id=active)
    assert code == grpc.StatusCode.INTERNAL and text.startswith('only Prepared authorities can be activated: ')
    code, text = error(server, 'Revoke', kind, authority_id=active)  # not tainted yet
    assert code == grpc.StatusCode.INTERNAL and 'untainted' in text
    assert active in tainted(server, kind)[0], 'nothing was lost'


def test_the_servers_own_svid_leaves_a_tainted_authority(make):
    server = make(process.Server)
    old = call(server, 'Get', 'X509').active.authority_id
    call(server, 'Activate', 'X509', authority_id=call(server, 'Prepare', 'X509').prepared_authority.authority_id)
    issued = server.logs().count('Server X509-SVID issued')
    call(server, 'Taint', 'X509', authority_id=old)
    process.eventually(lambda: server.logs().count('Server X509-SVID issued') > issued, what='a new server SVID')


def test_states_survive_a_restart(make):
    server = make(process.Server)
    for kind in KINDS:
        call(server, 'Activate', kind, authority_id=call(server, 'Prepare', kind).prepared_authority.authority_id)
    before = [call(server, 'Get', kind) for kind in KINDS]
    server.stop()
    server.start()
    assert [call(server, 'Get', kind) for kind in KINDS] == before


@pytest.mark.parametrize('verb', ['Taint', 'Revoke'])
def test_without_an_upstream_authority_there_is_none_to_change(server, verb):
    method = verb + 'X509UpstreamAuthority'
    with pytest.raises(grpc.RpcError) as refused:
        getattr(api(server), method)(getattr(L, method + 'Request')(subject_key_id='aa'))
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION,
                                                               'upstream authority is not configured')


@pytest.mark.parametrize('verb', ['Get', 'Prepare', 'Activate', 'Taint', 'Revoke'])
def test_wit_authorities_are_unimplemented(server, verb):
    assert error(server, verb, 'WIT') == (grpc.StatusCode.UNIMPLEMENTED, 'WIT-SVID functionality is not yet implemented')


def test_jwt_authorities_where_jwt_svids_are_disabled(make):
    server = make(process.Server, disable_jwt_svids=True)
    assert error(server, 'Get', 'JWT') == (grpc.StatusCode.UNIMPLEMENTED, 'JWT functionality is disabled')
    assert call(server, 'Get', 'X509').active.authority_id


STATE = r'  Authority ID: %s\n  Expires at: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC\n'


def test_the_commands_print_what_spires_print(make):
    server = make(process.Server)
    upstream = '  Upstream authority ID: No upstream authority\n'
    for kind, name, more, id_form in [('x509', 'X.509', upstream, '[0-9a-f]{40}'), ('jwt', 'JWT', '', '[A-Za-z0-9]{32}')]:
        shown = server.cli('localauthority', kind, 'show')
        assert re.fullmatch('Active %s authority:\n' % name + STATE % id_form + more
                            + '\nPrepared {0} authority:\n  No prepared {0} authority found\n'
                              '\nOld {0} authority:\n  No old {0} authority found\n'.format(name), shown.stdout), shown.stdout
        assert re.fullmatch(r'{"active":{"authority_id":"%s","expires_at":"\d+","upstream_authority_subject_key_id":""}}\n'
                            % id_form, server.cli('localauthority', kind, 'show', '-output', 'json').stdout)
        prepared = server.cli('localauthority', kind, 'prepare')
        assert re.fullmatch('Prepared %s authority:\n' % name + STATE % id_form + more, prepared.stdout)
        wrong = server.cli('localauthority', kind, 'activate')
        assert (wrong.returncode, wrong.stdout, wrong.stderr) == (1, '', 'Error: an authority ID is required\n')
        for verb in ('activate', 'taint'):
            wrong = server.cli('localauthority', kind, verb, '-authorityID', 'zz')
            assert (wrong.returncode, wrong.stderr) == (
                1, 'Error: could not %s %s authority: rpc error: code = InvalidArgument desc = unexpected authority ID\n'
                % (verb, name))
        new = re.search('Authority ID: (.*)', prepared.stdout).group(1)
        assert server.cli('localauthority', kind, 'activate', '-authorityID', new).stdout.startswith('Activated %s' % name)
        old = re.search('Old .*\n  Authority ID: (.*)', server.cli('localauthority', kind, 'show').stdout).group(1)
        assert server.cli('localauthority', kind, 'taint', '-authorityID', old).stdout.startswith('Tainted %s' % name)
        assert server.cli('localauthority', kind, 'revoke', '-authorityID', old).stdout.startswith('Revoked %s' % name)
    wrong = server.cli('upstreamauthority', 'taint', '-subjectKeyID', 'aa')
    assert (wrong.returncode, wrong.stderr) == (
        1, 'Error: could not taint X.509 upstream authority: rpc error: code = FailedPrecondition desc = '
           'upstream authority is not configured\n')

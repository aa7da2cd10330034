# SPDX-License-Identifier: Apache-2.0
"""`agent` and `mint` as SPIRE's commands print them: ban, evict, purge, the filters, lifetimes that were capped."""
import re
import time

import pytest
from cryptography import x509

from support import pki, process
from support.cli import TIME, check
from support.node import Node
from test_node_attestors import Pki, attest, payload, prove


@pytest.fixture(scope='module')
def factory():
    place = process.Folder()
    yield Pki(place)
    place.remove()


@pytest.fixture(scope='module')
def server(factory):
    """Agent SVIDs live for two seconds, so that there is something to purge."""
    role = process.Server(plugins=factory.server_plugin(), agent_ttl='2s')
    try:
        yield role.start()
    finally:
        role.close()


def text_of(agent_id):
    return 'spiffe://%s%s' % (agent_id.trust_domain, agent_id.path)


def device(server, factory):
    """The SPIFFE ID of an agent that can attest again."""
    key, certificate = factory.device()
    return text_of(attest(server, payload(certificate, factory.middle), lambda c: prove(key, c))[0].id)


def listed(cli, *filters):
    done = cli.server('agent', 'list', *filters)
    assert done.returncode == 0, done.stderr
    return sorted(re.findall('spiffe://\\S+', done.stdout))


def clear(cli):
    for spiffe_id in listed(cli):
        check(cli.server('agent', 'evict', '-spiffeID', spiffe_id), 0, 'Agent evicted successfully\n', '')


def test_ban_show_and_evict(cli, server):
    spiffe_id = text_of(Node.attest(server).id)
    check(cli.server('agent', 'ban', '-spiffeID', spiffe_id), 0, 'Agent banned successfully\n', '')
    check(cli.server('agent', 'show', '-spiffeID', spiffe_id), 0, re.compile(
        'Found an attested agent given its SPIFFE ID\n\nSPIFFE ID         : %s\nAttestation type  : join_token\n'
        'Expiration time   : %s\nBanned            : true\nCan re-attest     : false\n(Agent version     : \\S+\n)?\n'
        % (spiffe_id, TIME)), '')
    assert listed(cli, '-banned', 'true') == [spiffe_id] and spiffe_id not in listed(cli, '-banned', 'false')
    check(cli.server('agent', 'evict', '-spiffeID', spiffe_id), 0, 'Agent evicted successfully\n', '')
    check(cli.server('agent', 'list'), 0, 'No attested agents found\n', '')
    other = text_of(Node.attest(server).id)
    check(cli.server('agent', 'ban', '-spiffeID', other, '-output', 'json'), 0, '{}\n', '')
    check(cli.server('agent', 'evict', '-spiffeID', other, '-output', 'json'), 0, '{}\n', '')


def test_evicting_an_agent_removes_the_alias_of_its_token_and_no_other_entry(cli, server):
    node = Node.attest(server, server.token('/alias'))
    server.add('/below', node.id.path, ['unix:uid:1'], id='below')
    check(cli.server('entry', 'count', '-parentID', text_of(node.id)), 0, '2 registration entries\n', '')
    check(cli.server('agent', 'evict', '-spiffeID', text_of(node.id)), 0, 'Agent evicted successfully\n', '')
    check(cli.server('entry', 'show', '-spiffeID', 'spiffe://example.org/alias'), 0, 'Found 0 entries\n', '')
    check(cli.server('entry', 'show', '-entryID', 'below'), 0, None, '')
    server.remove('below')


def test_purge_forgets_expired_agents_that_can_attest_again(cli, server, factory):
    clear(cli)
    check(cli.server('agent', 'purge', '-expiredFor', '0s'), 0, 'No agents to purge.\n', '')
    first, second = device(server, factory), device(server, factory)
    stays = text_of(Node.attest(server).id)  # with a token: it could not come back
    time.sleep(3.1)
    check(cli.server('agent', 'purge'), 0, 'No agents to purge.\n', '')  # not for a month yet
    ids = re.compile('Found 2 expired agents\n\nAgents that can be purged:\n(SPIFFE ID         : (%s|%s)\n){2}' % (first, second))
    check(cli.server('agent', 'purge', '-expiredFor', '1s', '-dryRun'), 0, ids, '')
    assert len(listed(cli)) == 3
    check(cli.server('agent', 'purge', '-expiredFor', '1s'), 0, re.compile(
        ids.pattern.replace('Agents that can be purged', 'Agents purged')), '')
    assert listed(cli) == [stays]
    third = device(server, factory)
    time.sleep(3.1)
    check(cli.server('agent', 'purge', '-expiredFor', '1s', '-output', 'json'), 0,
          '{"expired_agents":[{"agent_id":"%s","deleted":true,"error":""}]}\n' % third, '')


def test_expires_before_and_can_reattest(cli, server, factory):
    clear(cli)
    again, once = device(server, factory), text_of(Node.attest(server).id)
    assert listed(cli, '-canReattest', 'true') == [again]
    assert listed(cli, '-canReattest', 'false') == [once]
    assert listed(cli, '-canReattest', 'all') == sorted([again, once])
    stamp = '%Y-%m-%d %H:%M:%S +0000 +00'
    hour = 3600
    assert listed(cli, '-expiresBefore', time.strftime(stamp, time.gmtime(time.time() + hour))) == sorted([again, once])
    assert listed(cli, '-expiresBefore', time.strftime(stamp, time.gmtime(time.time() - hour))) == []
    check(cli.server('agent', 'count', '-canReattest', 'true', '-expiresBefore',
                     time.strftime(stamp, time.gmtime(time.time() + hour))), 0, '1 attested agent\n', '')


# ---- tokens and minting ----
@pytest.mark.parametrize('words, flags, seconds', [
    (['token', 'generate'], ['-ttl', '4294967297'], 4294967297),
    (['x509', 'mint'], ['-spiffeID', 'spiffe://example.org/m', '-ttl', '1200000h'], 4320000000),
    (['jwt', 'mint'], ['-spiffeID', 'spiffe://example.org/m', '-audience', 'a', '-ttl', '1200000h'], 4320000000)])
def test_a_ttl_beyond_32_bits_is_refused(cli, words, flags, seconds):
    check(cli.server(*words, *flags), 1, '',
          'Error: invalid value for flag -ttl: %d seconds are out of range, at most 2147483647 are possible\n' % seconds)


def leaf_of(text):
    return x509.load_pem_x509_certificate(text[text.index('-----BEGIN'):].encode())


def test_x509_mint_says_when_the_lifetime_was_capped(cli):
    done = cli.server('x509', 'mint', '-spiffeID', 'spiffe://example.org/m', '-ttl', '1000h')
    expires = leaf_of(done.stdout).not_valid_after.strftime('%Y-%m-%dT%H:%M:%SZ')
    check(done, 0, None, 'X509-SVID lifetime was capped shorter than specified ttl; expires "%s"\n' % expires)


def test_x509_mint_takes_the_lifetime_and_dns_names(cli):
    done = cli.server('x509', 'mint', '-spiffeID', 'spiffe://example.org/m', '-ttl', '119500ms', '-dns', 'a.local', '-dns',
                      'b.local')
    assert done.returncode == 0
    leaf = leaf_of(done.stdout)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ['a.local', 'b.local']
    assert pki.uris_of(leaf) == ['spiffe://example.org/m']
    assert abs(leaf.not_valid_after.timestamp() - time.mktime(time.gmtime()) - 120) < 30
    check(cli.server('x509', 'mint', '-spiffeID', 'spiffe://example.org/m', '-dns', 'a.local', '-dns', 'a.local'), 1, '',
          'Error: unable to mint SVID: rpc error: code = InvalidArgument desc = CSR DNS name is not unique: a.local\n')

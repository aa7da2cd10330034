# SPDX-License-Identifier: Apache-2.0
"""What the commands print: every text, stream and exit code as SPIRE's commands have them."""
import json
import os
import re
import stat
import subprocess

import pytest

from support import process
from support.cli import TIME, check

PARENT = 'spiffe://example.org/host'
UUID = '[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}'


def test_healthcheck(cli):
    check(cli.server('healthcheck'), 0, 'Server is healthy.\n', '')
    check(cli.server('healthcheck', '-verbose'), 0, 'Checking server health...\nServer is healthy.\n', '')
    check(cli.server('healthcheck', '-shallow'), 0, 'Server is healthy.\n', '')


def test_healthcheck_of_a_server_that_does_not_run(cli):
    check(cli.server('healthcheck', socket='/nonexistent/none.sock'), 1, '',
          'Error: server is unhealthy: unable to determine health\n')
    check(cli.server('healthcheck', '-verbose', socket='/nonexistent/none.sock'), 1, 'Checking server health...\n',
          'Failed to check health: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while '
          'dialing: dial unix ///nonexistent/none.sock: connect: no such file or directory"\n'
          'Error: server is unhealthy: unable to determine health\n')


def test_token_generate(cli):
    check(cli.server('token', 'generate', '-spiffeID', 'spiffe://example.org/host2', '-ttl', '300'), 0,
          re.compile('Token: %s\n' % UUID), '')
    check(cli.server('token', 'generate'), 0, re.compile('Token: %s\nWarning: Missing SPIFFE ID.\n' % UUID), '')
    check(cli.server('token', 'generate', '-output', 'json'), 0,
          re.compile(r'{"expires_at":"\d+","value":"%s"}\n' % UUID), '')
    check(cli.server('token', 'generate', '-ttl', '0'), 1, '',
          'Error: rpc error: code = InvalidArgument desc = ttl is required, you must provide one\n')


WEB = ('SPIFFE ID               : spiffe://example.org/web\n'
       'Parent ID               : spiffe://example.org/host\n')


def test_entry_create_show_update_delete(cli):
    made = cli.server('entry', 'create', '-parentID', PARENT, '-spiffeID', 'spiffe://example.org/web', '-selector',
                      'unix:uid:1000', '-selector', 'unix:path:/usr/bin/web', '-x509SVIDTTL', '120', '-jwtSVIDTTL', '60',
                      '-dns', 'web.local', '-dns', 'www.local', '-hint', 'internal', '-admin', '-entryID', 'web-1')
    block = ('Entry ID                : web-1\n' + WEB + 'Revision                : 0\n'
             'X509-SVID TTL           : 120\nJWT-SVID TTL            : 60\n'
             'Selector                : unix:path:/usr/bin/web\nSelector                : unix:uid:1000\n'
             'DNS name                : web.local\nDNS name                : www.local\n'
             'Admin                   : true\nHint                    : internal\n\n')
    check(made, 0, block, '')
    check(cli.server('entry', 'show', '-entryID', 'web-1'), 0, 'Found 1 entry\n' + block, '')
    check(cli.server('entry', 'show', '-spiffeID', 'spiffe://example.org/web'), 0, 'Found 1 entry\n' + block, '')
    check(cli.server('entry', 'show', '-selector', 'unix:uid:1000', '-matchSelectorsOn', 'superset'), 0,
          'Found 1 entry\n' + block, '')

    again = cli.server('entry', 'create', '-parentID', PARENT, '-spiffeID', 'spiffe://example.org/web', '-selector',
                       'unix:uid:1000', '-selector', 'unix:path:/usr/bin/web')
    check(again, 1, '', 'Failed to create the following entry (code: AlreadyExists, msg: "similar entry already exists"):\n'
          'Entry ID                : (none)\n' + WEB + 'Revision                : 0\n'
          'X509-SVID TTL           : default\nJWT-SVID TTL            : default\n'
          'Selector                : unix:uid:1000\nSelector                : unix:path:/usr/bin/web\n\n'
          'Error: failed to create one or more entries\n')

    check(cli.server('entry', 'update', '-entryID', 'web-1', '-parentID', PARENT, '-spiffeID', 'spiffe://example.org/web',
                     '-selector', 'unix:uid:1002'), 0,
          'Entry ID                : web-1\n' + WEB + 'Revision                : 1\n'
          'X509-SVID TTL           : default\nJWT-SVID TTL            : default\n'
          'Selector                : unix:uid:1002\n\n', '')
    check(cli.server('entry', 'delete', '-entryID', 'web-1'), 0,
          'Deleted entry with ID: web-1\n\n\nDeleted 1 entries successfully', '')
    check(cli.server('entry', 'delete', '-entryID', 'web-1'), 1, '\n\nFailed to delete 1 entries',
          'Failed to delete entry with ID web-1 (code: NotFound, msg: "entry not found")\n'
          'Error: failed to delete one or more entries\n')
    check(cli.server('entry', 'delete', '-entryID', 'web-1', '-output', 'json'), 0,
          '{"results":[{"id":"web-1","status":{"code":5,"message":"entry not found"}}]}\n', '')


def test_entry_update_of_one_that_is_not_there(cli):
    check(cli.server('entry', 'update', '-entryID', 'nope', '-parentID', PARENT, '-spiffeID', 'spiffe://example.org/web',
                     '-selector', 'unix:uid:1002'), 1, '',
          'Failed to update the following entry (code: NotFound, msg: "failed to update entry"):\n'
          'Entry ID                : nope\n' + WEB + 'Revision                : 0\n'
          'X509-SVID TTL           : default\nJWT-SVID TTL            : default\n'
          'Selector                : unix:uid:1002\n\nError: failed to update one or more entries\n')


def test_entry_create_as_json(cli):
    made = cli.server('entry', 'create', '-parentID', PARENT, '-spiffeID', 'spiffe://example.org/db', '-selector',
                      'unix:uid:1001', '-output', 'json')
    check(made, 0, re.compile(
        r'{"results":\[{"entry":{"admin":false,"created_at":"\d+","dns_names":\[\],"downstream":false,"expires_at":"0",'
        r'"federates_with":\[\],"hint":"","id":"%s","jwt_svid_ttl":0,"parent_id":{"path":"/host","trust_domain":'
        r'"example.org"},"revision_number":"0","selectors":\[{"type":"unix","value":"uid:1001"}\],"spiffe_id":{"path":"/db",'
        r'"trust_domain":"example.org"},"store_svid":false,"x509_svid_ttl":0},"status":{"code":0,"message":"OK"}}\]}\n'
        % UUID), '')


@pytest.mark.parametrize('args, text', [
    (['-parentID', PARENT, '-spiffeID', 'spiffe://example.org/x', '-selector', 'nocolon'],
     'selector "nocolon" must be formatted as type:value'),
    (['-parentID', PARENT, '-spiffeID', 'spiffe://example.org/x'], 'at least one selector is required'),
    (['-spiffeID', 'spiffe://example.org/x', '-selector', 'unix:uid:1'],
     'a parent ID is required if the node flag is not set'),
    (['-parentID', PARENT, '-spiffeID', 'notaspiffeid', '-selector', 'unix:uid:1'], 'scheme is missing or invalid'),
    (['-parentID', PARENT, '-spiffeID', 'spiffe://example.org/bad//path', '-selector', 'unix:uid:1'],
     'path cannot contain empty segments'),
    (['-parentID', PARENT, '-spiffeID', 'spiffe://example.org/n', '-selector', 'unix:uid:1', '-x509SVIDTTL', '-1'],
     'a positive x509-SVID TTL is required'),
    (['-data', '/nonexistent/f.json'], 'open /nonexistent/f.json: no such file or directory'),
])
def test_entry_create_refuses(cli, args, text):
    check(cli.server('entry', 'create', *args), 1, '', 'Error: %s\n' % text)


@pytest.mark.parametrize('spiffe_id, more, status', [
    ('spiffe://other.org/db', [], '(code: InvalidArgument, msg: "failed to convert entry: invalid spiffe ID: '
     '\\"spiffe://other.org/db\\" is not a member of trust domain \\"example.org\\"")'),
    ('spiffe://example.org/f', ['-federatesWith', 'spiffe://unknown.org'], '(code: Internal, msg: "failed to create entry: '
     'unable to find federated bundle \\"spiffe://unknown.org\\"")'),
])
def test_entry_create_that_the_server_refuses(cli, spiffe_id, more, status):
    federates = 'FederatesWith           : spiffe://unknown.org\n' if more else ''
    check(cli.server('entry', 'create', '-parentID', PARENT, '-spiffeID', spiffe_id, '-selector', 'unix:uid:1', *more), 1, '',
          'Failed to create the following entry %s:\nEntry ID                : (none)\n' % status +
          'SPIFFE ID               : %s\n' % spiffe_id +
          'Parent ID               : spiffe://example.org/host\nRevision                : 0\n'
          'X509-SVID TTL           : default\nJWT-SVID TTL            : default\n'
          'Selector                : unix:uid:1\n' + federates + '\nError: failed to create one or more entries\n')


def test_entry_errors_of_show(cli):
    check(cli.server('entry', 'show', '-entryID', 'nope'), 1, '',
          'Error: error fetching entry ID nope: rpc error: code = NotFound desc = entry not found\n')
    check(cli.server('entry', 'show', '-selector', 'unix:uid:1', '-matchSelectorsOn', 'bogus'), 1, '',
          'Error: match behavior "bogus" unknown\n')
    check(cli.server('entry', 'show', '-downstream'), 0, 'Found 0 entries\n', '')
    check(cli.server('entry', 'show', socket='/nonexistent/none.sock'), 1, '',
          'Error: error fetching entries: rpc error: code = Unavailable desc = connection error: desc = "transport: Error '
          'while dialing: dial unix ///nonexistent/none.sock: connect: no such file or directory"\n')


def test_entry_create_from_a_file(cli):
    path = cli.folder / 'data.json'
    process.write(path, json.dumps({'entries': [
        {'selectors': [{'type': 'unix', 'value': 'uid:3001'}], 'spiffe_id': 'spiffe://example.org/d1', 'parent_id': PARENT,
         'x509_svid_ttl': 300},
        {'selectors': [{'type': 'unix', 'value': 'uid:3002'}], 'spiffe_id': 'spiffe://example.org/d2', 'parent_id': PARENT,
         'dns_names': ['d2.local'], 'admin': True}]}))
    check(cli.server('entry', 'create', '-data', path), 0, re.compile(
        'Entry ID                : %s\nSPIFFE ID               : spiffe://example.org/d1\n'
        'Parent ID               : spiffe://example.org/host\nRevision                : 0\n'
        'X509-SVID TTL           : 300\nJWT-SVID TTL            : default\nSelector                : unix:uid:3001\n\n'
        'Entry ID                : %s\nSPIFFE ID               : spiffe://example.org/d2\n'
        'Parent ID               : spiffe://example.org/host\nRevision                : 0\n'
        'X509-SVID TTL           : default\nJWT-SVID TTL            : default\nSelector                : unix:uid:3002\n'
        'DNS name                : d2.local\nAdmin                   : true\n\n' % (UUID, UUID)), '')


def test_counts(cli):
    number = json.loads(cli.server('entry', 'count', '-output', 'json').stdout)['count']
    words = '1 registration entry\n' if number == 1 else '%d registration entries\n' % number
    check(cli.server('entry', 'count'), 0, words, '')
    check(cli.server('bundle', 'count'), 0, '1 bundle\n', '')


def test_unknown_flag_and_unknown_command(cli):
    done = cli.server('entry', 'create', '-bogus')
    assert done.returncode == 1
    assert done.stderr.startswith('flag provided but not defined: -bogus\n')
    assert cli.bare('spire-server', 'bogus').returncode == 127
    assert cli.bare('spire-agent', 'entry', 'show').returncode == 127


def test_version(cli):
    for name in ('spire-server', 'spire-agent'):
        check(cli.bare(name, '--version'), 0, re.compile(r'\d+\.\d+\.\d+\n'), '')


def test_bundle_show(cli):
    check(cli.server('bundle', 'show'), 0, re.compile(
        '(-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=]{1,64}\n)+-----END CERTIFICATE-----\n)+'), '')
    bundle = cli.server('bundle', 'show', '-format', 'spiffe')
    assert bundle.stdout.startswith('{\n    "keys": [\n        {\n            "use": "x509-svid",\n            "kty": "EC",\n'
                                    '            "crv": "P-256",\n            "x": ')
    assert re.search(r'\n    "spiffe_sequence": \d+\n}\n$', bundle.stdout)
    members = json.loads(cli.server('bundle', 'show', '-output', 'json').stdout)
    assert list(members) == ['jwt_authorities', 'refresh_hint', 'sequence_number', 'trust_domain', 'wit_authorities',
                             'x509_authorities']
    check(cli.server('bundle', 'show', '-format', 'bogus'), 1, '', 'Error: invalid format: "bogus"\n')


def test_agents(cli, server, agent):
    known = cli.server('agent', 'list')
    check(known, 0, re.compile(
        'Found 1 attested agent:\n\nSPIFFE ID         : spiffe://example.org/spire/agent/join_token/%s\n'
        'Attestation type  : join_token\nExpiration time   : %s\nSerial number     : \\d+\nCan re-attest     : false\n'
        '(Agent version     : \\S+\n)?\n' % (UUID, TIME)), '')
    spiffe_id = re.search('spiffe://\\S+', known.stdout).group()
    check(cli.server('agent', 'count'), 0, '1 attested agent\n', '')
    check(cli.server('agent', 'count', '-output', 'json'), 0, '{"count":1}\n', '')
    shown = cli.server('agent', 'show', '-spiffeID', spiffe_id)
    assert shown.stdout.startswith('Found an attested agent given its SPIFFE ID\n\nSPIFFE ID         : %s\n' % spiffe_id)
    check(cli.server('agent', 'list', '-attestationType', 'join_token', '-banned', 'true'), 0,
          'No attested agents found\n', '')
    for verb in ('show', 'ban', 'evict'):
        check(cli.server('agent', verb, '-spiffeID', 'spiffe://example.org/spire/agent/none'), 1, '',
              'Error: rpc error: code = NotFound desc = agent not found\n')
        check(cli.server('agent', verb), 1, '', 'Error: a SPIFFE ID is required\n')
    check(cli.server('agent', 'purge'), 0, 'No agents to purge.\n', '')
    check(cli.server('agent', 'purge', '-dryRun'), 0, 'No agents to purge.\n', '')
    check(cli.server('agent', 'purge', '-output', 'json'), 0, '{"expired_agents":[]}\n', '')


def test_x509_mint(cli):
    pem = '-----BEGIN %s-----\n([A-Za-z0-9+/=]{1,64}\n)+-----END %s-----\n'
    done = cli.server('x509', 'mint', '-spiffeID', 'spiffe://example.org/minted')
    check(done, 0, re.compile('X509-SVID:\n%s\nPrivate key:\n%s\nRoot CAs:\n(%s)+\n' % (
        pem % ('CERTIFICATE', 'CERTIFICATE'), pem % ('PRIVATE KEY', 'PRIVATE KEY'), pem % ('CERTIFICATE', 'CERTIFICATE'))), '')
    place = cli.folder / 'mint'
    check(cli.server('x509', 'mint', '-spiffeID', 'spiffe://example.org/minted', '-write', place), 0,
          'X509-SVID written to {0}/svid.pem\nPrivate key written to {0}/key.pem\nRoot CAs written to {0}/bundle.pem\n'
          .format(place), '')
    modes = {name: stat.S_IMODE(os.stat(os.path.join(place, name)).st_mode) for name in os.listdir(place)}
    assert modes == {'svid.pem': 0o644, 'key.pem': 0o600, 'bundle.pem': 0o644}


def test_debug_getinfo(cli):
    check(cli.server('debug', 'getinfo'), 0, re.compile(
        r'Server Debug Info:\n  Uptime:                  \S+\n  Registered Agents:       \d+\n'
        r'  Registration Entries:    \d+\n  Federated Bundles:       1\n  SVID Chain:\n'
        r'    \[0\] SPIFFE ID:  spiffe://example.org/spire/server\n        Subject:    O=SPIRE,C=US\n'
        r'        Expires At: \S+Z\n    \[1\] SPIFFE ID:  spiffe://example.org\n'
        r'        Subject:    SERIALNUMBER=\d+,O=SPIFFE,C=US\n        Expires At: \S+Z\n'), '')


def test_api_fetch_and_healthcheck_of_the_agent(cli, server, agent):
    def ask(*args):
        patient = ['-timeout', '30s'] if args[0] == 'api' else []  # a second is what they wait by default
        return process.run(list(args) + ['-socketPath', agent.socket] + patient, binary=cli.folder / 'spire-agent')

    check(ask('healthcheck'), 0, 'Agent is healthy.\n', '')
    check(ask('healthcheck', '-verbose'), 0, 'Checking agent health...\nAgent is healthy.\n', '')
    check(ask('api', 'fetch', 'x509'), 1, '', 'rpc error: code = PermissionDenied desc = no identity issued\n')
    server.add('/cli', '/host', ['unix:uid:%d' % os.geteuid()], id='cli')
    process.eventually(lambda: ask('api', 'fetch', 'x509', '-silent').returncode == 0, what='the SVID')
    lines = ('Received 1 svid after [0-9.]+(ms|µs|s)\n\nSPIFFE ID:\t\tspiffe://example.org/cli\nSVID Valid After:\t{0}\n'
             'SVID Valid Until:\t{0}\nCA #1 Valid After:\t{0}\nCA #1 Valid Until:\t{0}\n\n').format(TIME)
    check(ask('api', 'fetch', 'x509'), 0, re.compile(lines), '')
    check(ask('api', 'fetch', 'x509', '-silent'), 0, '', '')
    place = cli.folder / 'out'
    os.mkdir(place)
    check(ask('api', 'fetch', 'x509', '-write', place), 0, re.compile(
        lines + 'Writing SVID #0 to file {0}/svid.0.pem.\nWriting key #0 to file {0}/svid.0.key.\n'
        'Writing bundle #0 to file {0}/bundle.0.pem.\n'.format(place)), '')
    modes = {name: stat.S_IMODE(os.stat(os.path.join(place, name)).st_mode) for name in os.listdir(place)}
    assert modes == {'svid.0.pem': 0o644, 'svid.0.key': 0o600, 'bundle.0.pem': 0o644}
    answer = json.loads(ask('api', 'fetch', 'x509', '-output', 'json').stdout)
    assert list(answer) == ['crl', 'federated_bundles', 'svids']
    assert list(answer['svids'][0]) == ['bundle', 'hint', 'spiffe_id', 'x509_svid', 'x509_svid_key']


def test_api_fetch_without_an_agent(cli):
    check(process.run(['api', 'fetch', 'x509', '-socketPath', '/nonexistent/none.sock'], binary=cli.folder / 'spire-agent'),
          1, '', 'rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial unix '
          '/nonexistent/none.sock: connect: no such file or directory"\n')


def test_api_watch_prints_every_update_and_outlives_the_agent(cli, make):
    mine = make(process.Server)
    agent = make(process.Agent, mine.port, join_token=mine.token('/host'), roots=mine.roots(), start=False)
    out, err = cli.folder / 'watch.out', cli.folder / 'watch.err'
    with open(out, 'w') as to_out, open(err, 'w') as to_err:
        watch = subprocess.Popen([cli.folder / 'spire-agent', 'api', 'watch', '-socketPath', agent.socket], stdout=to_out,
                                 stderr=to_err, stdin=subprocess.DEVNULL)

    def printed(text, count=1, stream=out):
        def enough():
            assert watch.poll() is None, 'api watch ended'
            with open(stream) as said:
                return len(re.findall(text, said.read())) >= count
        process.eventually(enough, what=text)

    try:
        printed('rpc error: code = Unavailable desc = connection error: .* no such file or directory"\n', stream=err)
        agent.start()
        printed('rpc error: code = PermissionDenied desc = no identity issued\n', stream=err)
        mine.add('/watch', '/host', ['unix:uid:%d' % os.geteuid()], id='watch')
        update = ('Received 1 svid after [0-9.]+(?:ms|µs|s|m)+[^\n]*\n\nSPIFFE ID:\t\tspiffe://example.org/watch\n'
                  'SVID Valid After:\t{0}\nSVID Valid Until:\t{0}\nCA #1 Valid After:\t{0}\nCA #1 Valid Until:\t{0}\n\n'
                  ).format(TIME)
        printed(update)
        mine.add('/watch-2', '/host', ['unix:uid:%d' % os.geteuid()], id='watch-2')
        printed('Received 2 svids after ')
        agent.stop()
        agent.start()
        printed('Received 2 svids after ', 2)
    finally:
        watch.kill()
        watch.wait()


def test_validate(cli, server):
    check(cli.bare('spire-server', 'validate', '-config', server.config_path), 0,
          'SPIRE server configuration file is valid.\n', '')
    done = cli.bare('spire-server', 'validate', '-config', '/nonexistent/none.conf')
    assert done.returncode == 1
    assert done.stderr.startswith('SPIRE server configuration file is invalid: ')
    assert '/nonexistent/none.conf' in done.stderr


def test_run_takes_log_source_location_as_a_flag_and_as_a_key(make):
    mine = make(process.Server, log_source_location=True)
    pattern = r'msg="Starting Server APIs" .* file="core/server/server\.cc:\d+"'
    assert re.search(pattern, mine.logs())
    mine.stop()
    del mine.keys['log_source_location']
    process.write(mine.config_path, mine.config())
    with open(mine.log_path, 'w') as log:
        running = subprocess.Popen([process.BINARY, 'run', '-role=server', '-config', mine.config_path, '-logSourceLocation'],
                                   stdout=log, stderr=log)
    try:
        process.eventually(lambda: re.search(pattern, mine.logs()))
    finally:
        running.terminate()
        running.wait(30)

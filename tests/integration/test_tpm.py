# SPDX-License-Identifier: Apache-2.0
"""Node attestor tpm, both halves, with a software TPM: who is let in, what is told of the machine, and a TPM that is
reset, cleared, replaced, busy or gone."""
import hashlib
import json
import os
import subprocess

import pytest

from support import process, stubs, swtpm
from support.boot_log import BootLog
from support.process import eventually, write

pytestmark = swtpm.needs_swtpm


@pytest.fixture
def tpm(folder):
    machine = swtpm.SwTpm(folder).start()
    yield machine
    machine.vanish()


@pytest.fixture
def maker():
    return swtpm.Maker()


def server_with(make, **data):
    return make(process.Server, plugins=swtpm.table('tpm', 'server', data))


def agent_with(make, server, tpm, start=True, **data):
    attestor = swtpm.table('tpm', 'agent', {'device': tpm.path, **data})
    return make(process.Agent, server.port, roots=server.roots(), attestor=attestor, start=start)


def enroll(server, *args):
    done = server.cli('tpm', 'enroll', *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def attested(server, hash_):
    """The agent's record, once it is there."""
    def look():
        return [a for a in server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents
                if a.id.path == '/spire/agent/tpm/' + hash_]
    return eventually(look, what='the agent ' + hash_)[0]


def selectors(agent):
    assert {s.type for s in agent.selectors} == {'tpm'}
    return [s.value for s in agent.selectors]


def spawn(make, *args, **more):
    agent = agent_with(make, *args, start=False, **more)
    return agent.spawn()


def ca_dir(folder, *makers):
    path = folder / 'ca'
    os.makedirs(path)
    for number, one in enumerate(makers):
        write(os.path.join(path, '%d.pem' % number), one.pem())
    return path


# ---- the list ----
def test_one_command_enrolls_a_device(make, tpm):
    server = server_with(make)
    hash_ = tpm.ek_hash()
    agent = spawn(make, server, tpm)
    assert eventually(lambda: agent.has_logged('tpm: could not validate EK ' + hash_))
    assert agent.has_logged('it is not enrolled (limpet tpm enroll -hash ' + hash_ + ')')
    out = enroll(server, '-hash', hash_.upper(), '-note', 'rack 7')
    assert 'EK hash       : ' + hash_ in out and 'Note          : rack 7' in out
    record = attested(server, hash_)
    assert record.attestation_type == 'tpm' and record.can_reattest
    assert selectors(record) == ['pub_hash:' + hash_]


def test_the_list_is_kept_shown_and_shortened(make, folder, tpm):
    server = server_with(make)
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_, '-note', 'rack 7')
    again = server.cli('tpm', 'enroll', '-hash', hash_)
    assert again.returncode == 1 and 'is enrolled already' in again.stderr
    os.makedirs(folder / 'hashes')
    for number in range(3):
        write(folder / 'hashes/%064x' % number, '')
    write(folder / 'hashes/README', '')
    write(folder / 'hashes/' + hash_, '')
    assert enroll(server, '-hashDir', folder / 'hashes') == 'Enrolled 3 devices; 1 had been enrolled before\n'
    server.stop()
    server.start()
    listed = json.loads(server.cli('tpm', 'list', '-output', 'json').stdout)['devices']
    assert [d['identifier'] for d in listed] == sorted(['%064x' % n for n in range(3)] + [hash_])
    assert [d['note'] for d in listed if d['identifier'] == hash_] == ['rack 7']
    done = server.cli('tpm', 'remove', '-hash', hash_)
    assert done.returncode == 0 and 'Device removed' in done.stdout
    assert 'limpet agent ban -spiffeID spiffe://TRUST_DOMAIN/spire/agent/tpm/' + hash_ in done.stdout
    done = server.cli('tpm', 'remove', '-hash', hash_)
    assert done.returncode == 1 and 'is not enrolled' in done.stderr
    agent = spawn(make, server, tpm)
    assert eventually(lambda: agent.has_logged('it is not enrolled'))


def test_a_key_or_certificate_file_enrolls_too_and_nothing_else(make, folder, tpm, maker):
    from cryptography.hazmat.primitives import serialization
    server = server_with(make)
    key = tpm.ek('ecc').public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write(folder / 'ek.pem', key.decode())
    assert tpm.ek_hash('ecc') in enroll(server, '-ekFile', folder / 'ek.pem')
    with open(folder / 'ek.der', 'wb') as out:
        out.write(maker.certify(tpm.ek()))
    assert tpm.ek_hash() in enroll(server, '-ekFile', folder / 'ek.der')
    write(folder / 'junk', 'junk')
    for args, text in [((), 'one of -hash, -ekFile and -hashDir is needed'),
                       (('-hash', 'abc'), '"abc" is not an EK hash'),
                       (('-ekFile', folder / 'junk'), 'neither a public key nor a certificate'),
                       (('-hashDir', folder / 'none'), 'no such file or directory'),
                       (('-hash', 'a' * 64, '-note', 'x' * 257), 'note must be text of at most 256 bytes')]:
        done = server.cli('tpm', 'enroll', *args)
        assert done.returncode == 1 and text in done.stderr, done.stderr


def test_only_administrators_see_and_change_the_list(make):
    from support.node import Node
    server = make(process.Server)
    node = Node.attest(server)
    for method in ('CreateEnrollment', 'ListEnrollments', 'DeleteEnrollment'):
        with node.connect() as link, pytest.raises(Exception, match='authorization denied for method'):
            link.unary('limpet.api.enrollment.v1.Enrollment/' + method, stubs.agent.ListAgentsRequest(),
                       stubs.agent.ListAgentsResponse)


# ---- keys and certificates ----
@pytest.mark.parametrize('kind', ['rsa', 'ecc'])
def test_each_kind_of_key_attests_and_serves_workloads(make, tpm, kind):
    server = server_with(make)
    enroll(server, '-hash', tpm.ek_hash(kind))
    agent = agent_with(make, server, tpm, key_type=kind)
    attested(server, tpm.ek_hash(kind))
    server.add('/mine', '/spire/agent/tpm/' + tpm.ek_hash(kind), ['unix:uid:%d' % os.geteuid()])

    def fetched():
        with agent.workload() as workload:
            return [svid.spiffe_id for svid in workload.fetch(wait=5).svids]
    assert eventually(fetched) == ['spiffe://example.org/mine']


@pytest.mark.parametrize('kind', ['rsa', 'ecc'])
def test_a_certificate_of_a_trusted_maker_lets_in_without_enrollment(make, folder, tpm, maker, kind):
    tpm.certify_ek(maker, kind)
    server = server_with(make, ca_path=ca_dir(folder, swtpm.Maker('Another'), maker))
    agent_with(make, server, tpm, key_type=kind)
    hash_ = tpm.ek_hash(kind)
    assert selectors(attested(server, hash_)) == ['manufacturer:id:49465800', 'model:SLB9670', 'pub_hash:' + hash_,
                                                  'version:id:0755']


def test_a_certificate_of_a_stranger_does_not(make, folder, tpm, maker):
    tpm.certify_ek(swtpm.Maker())  # of the same name
    server = server_with(make, ca_path=ca_dir(folder, maker))
    agent = spawn(make, server, tpm)
    assert eventually(lambda: agent.has_logged('signed by an unknown authority'))
    assert not server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents


def test_a_certificate_of_another_key_is_left_out(make, folder, tpm, maker):
    other = swtpm.SwTpm(folder, 'other').start()
    tpm.certify_ek(maker, key=other.ek())
    other.vanish()
    server = server_with(make, ca_path=ca_dir(folder, maker))
    agent = spawn(make, server, tpm)
    assert eventually(lambda: agent.has_logged('the TPM has no certificate'))


def test_the_certificates_of_swtpms_own_authority_are_believed(make, folder):
    config = folder / 'setup.conf'
    os.makedirs(folder / 'localca')
    os.makedirs(folder / 'made')
    write(folder / 'localca.conf', 'statedir = {0}\nsigningkey = {0}/key.pem\nissuercert = {0}/cert.pem\n'
                                   'certserial = {0}/serial\n'.format(folder / 'localca'))
    write(folder / 'localca.options', '--platform-manufacturer Test\n--platform-version 1\n--platform-model Board\n')
    write(config, 'create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = %s\n'
                  'create_certs_tool_options = %s\n' % (folder / 'localca.conf', folder / 'localca.options'))
    done = subprocess.run(['swtpm_setup', '--tpm2', '--tpmstate', folder / 'made', '--config', config,
                           '--create-ek-cert', '--create-platform-cert', '--lock-nvram'], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True,
                          env=dict(os.environ, XDG_CONFIG_HOME=folder.path))
    if done.returncode:
        pytest.skip('swtpm_setup does not work here: ' + done.stdout[-300:])
    machine = swtpm.SwTpm(folder)
    for name in os.listdir(folder / 'made'):
        os.rename(os.path.join(folder / 'made', name), os.path.join(machine.state, name))
    machine.start()
    try:
        os.makedirs(folder / 'ca')
        for name in ('cert.pem', 'swtpm-localca-rootca-cert.pem'):
            with open(os.path.join(folder / 'localca', name)) as text:
                write(os.path.join(folder / 'ca', name), text.read())
        server = server_with(make, ca_path=folder / 'ca')
        agent_with(make, server, machine)
        found = selectors(attested(server, machine.ek_hash()))
        assert [s for s in found if s.startswith('model:')] == ['model:swtpm'], found
    finally:
        machine.vanish()


# ---- coming back ----
def test_it_attests_again_after_eviction_and_not_after_a_ban(make, tpm):
    server = server_with(make)
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    agent = agent_with(make, server, tpm)
    first = attested(server, hash_).x509svid_serial_number
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=server.id('/spire/agent/tpm/' + hash_)))
    assert eventually(lambda: attested(server, hash_).x509svid_serial_number != first, wait=60)
    server.agents.BanAgent(stubs.agent.BanAgentRequest(id=server.id('/spire/agent/tpm/' + hash_)))
    assert eventually(lambda: agent.has_logged('banned'), wait=60)
    assert attested(server, hash_).banned


def test_a_removed_device_of_a_trusted_maker_is_kept_out_by_a_ban(make, folder, tpm, maker):
    tpm.certify_ek(maker)
    server = server_with(make, ca_path=ca_dir(folder, maker))
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    agent = agent_with(make, server, tpm)
    first = attested(server, hash_).x509svid_serial_number
    done = server.cli('tpm', 'remove', '-hash', hash_)
    assert 'trusts its maker (ca_path without require_enrollment)' in done.stdout, done.stdout
    agent_id = '/spire/agent/tpm/' + hash_
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=server.id(agent_id)))
    assert eventually(lambda: attested(server, hash_).x509svid_serial_number != first, wait=60)
    done = server.cli('agent', 'ban', '-spiffeID', 'spiffe://example.org' + agent_id)
    assert done.returncode == 0, done.stderr
    assert eventually(lambda: agent.has_logged('banned'), wait=60)


@pytest.mark.parametrize('trouble', ['reset', 'clear'])
def test_a_tpm_that_was_reset_or_cleared_is_the_same_device(make, tpm, trouble):
    server = server_with(make)
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    agent_with(make, server, tpm)
    first = attested(server, hash_).x509svid_serial_number
    getattr(tpm, trouble)()
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=server.id('/spire/agent/tpm/' + hash_)))
    assert eventually(lambda: attested(server, hash_).x509svid_serial_number != first, wait=60)


def test_another_tpm_is_another_device(make, tpm):
    server = server_with(make)
    enroll(server, '-hash', tpm.ek_hash())
    tpm.change_endorsement()
    agent = spawn(make, server, tpm)
    assert eventually(lambda: agent.has_logged('could not validate EK ' + tpm.ek_hash()))


def test_a_tpm_that_is_away_is_waited_for(make, tpm):
    server = server_with(make)
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    tpm.vanish()
    agent = spawn(make, server, tpm)
    assert eventually(lambda: agent.has_logged('nodeattestor(tpm)'))
    assert agent.running()
    tpm.start()
    attested(server, hash_)


def test_a_tpm_that_does_not_answer_for_a_while_is_waited_for(make, folder, tpm):
    server = server_with(make)
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    way = swtpm.SlowWay(tpm, folder / 'way', 0)
    tpm.pause()
    agent = make(process.Agent, server.port, roots=server.roots(), start=False,
                 attestor=swtpm.table('tpm', 'agent', {'device': folder / 'way'})).spawn()
    assert eventually(lambda: way.commands == 1), 'it asks, and waits for the answer'
    assert agent.running() and not server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents
    tpm.go_on()
    attested(server, hash_)
    assert not agent.has_logged('Node attestation failed'), agent.logs()
    way.close()


# ---- in processes of their own ----
def test_both_halves_attest_from_their_sandboxes(make, folder, tpm, maker):
    """The server half is told of enrolments and reads its files there, the agent half has its device and nothing else."""
    os.makedirs(folder / 'files')
    path = os.path.join(folder / 'files', 'pcrs.json')
    write(path, json.dumps({'policies': [{'name': 'prod', 'pcrs': [7], 'accepted': [digest(bytes(32))]}]}))
    server = make(process.Server, plugins=swtpm.table('tpm', 'server', {'pcr_policy_path': path}, isolation='shim',
                                                      read_paths=[folder / 'files']))
    hash_ = tpm.ek_hash()
    os.chmod(tpm.path, 0o666)
    attestor = swtpm.table('tpm', 'agent', {'device': tpm.path}, isolation='shim', devices=[tpm.path])
    agent = make(process.Agent, server.port, roots=server.roots(), attestor=attestor, start=False).spawn()
    assert eventually(lambda: agent.has_logged('it is not enrolled (limpet tpm enroll -hash ' + hash_ + ')'))
    enroll(server, '-hash', hash_)
    record = attested(server, hash_)
    assert 'pcr_policy:prod' in selectors(record)
    # a file that takes another's place is read, too
    write(path + '.new', json.dumps({'policies': [{'name': 'next', 'pcrs': [7], 'accepted': [digest(bytes(32))]}]}))
    os.rename(path + '.new', path)
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=record.id))
    assert eventually(lambda: 'pcr_policy:next' in selectors(attested(server, hash_)), wait=60)


# ---- PCRs ----
def digest(*values):
    return hashlib.sha256(b''.join(values)).hexdigest()


def test_policies_follow_the_machines_pcrs(make, folder, tpm):
    zero, measured = bytes(32), b'\x11' * 32
    after = hashlib.sha256(zero + measured).digest()
    path = folder / 'pcrs.json'
    policies = [{'name': 'slot', 'pcrs': [0, 7], 'accepted': [digest(zero, zero), digest(zero, after)]},
                {'name': 'plain', 'pcrs': [7], 'accepted': [digest(zero)]},
                {'name': 'seen', 'pcrs': [7], 'mode': 'observe'},
                {'name': 'wide', 'bank': 'sha384', 'pcrs': [0], 'accepted': [hashlib.sha384(bytes(48)).hexdigest()]}]
    write(path, json.dumps({'policies': policies}))
    server = server_with(make, pcr_policy_path=path)
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    agent_with(make, server, tpm)
    record = attested(server, hash_)
    found = selectors(record)
    assert [s for s in found if not s.startswith('fw_version:')] == [
        'pcr_policy:plain', 'pcr_policy:slot', 'pcr_policy:wide', 'pub_hash:' + hash_], found
    assert [s for s in found if s.startswith('fw_version:')], found
    assert server.has_logged('PCR policy seen: digest %s of TPM %s would not be accepted' % (digest(zero), hash_))

    # the next boot: one policy knows it, the other does not, and says which digest it saw
    tpm.extend(7, measured)
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=record.id))
    assert eventually(lambda: 'pcr_policy:plain' not in selectors(attested(server, hash_)), wait=60)
    assert 'pcr_policy:slot' in selectors(attested(server, hash_))
    assert server.has_logged('PCR policy plain: digest %s of TPM %s is not accepted' % (digest(after), hash_))


def test_a_wrong_pcr_keeps_a_machine_out_where_a_policy_is_required(make, folder, tpm):
    path = folder / 'pcrs.json'
    write(path, json.dumps({'policies': [{'name': 'prod', 'pcrs': [7], 'accepted': [digest(bytes(32))]}]}))
    server = server_with(make, pcr_policy_path=path, require_pcr_policy=True)
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    tpm.extend(7, b'\x22' * 32)
    agent = spawn(make, server, tpm)
    seen = digest(hashlib.sha256(bytes(32) + b'\x22' * 32).digest())
    assert eventually(lambda: agent.has_logged("the machine's PCRs match no policy; prod=" + seen))
    # the operator takes the digest over; no restart is needed
    write(path, json.dumps({'policies': [{'name': 'prod', 'pcrs': [7], 'accepted': [seen]}]}))
    assert 'pcr_policy:prod' in selectors(attested(server, hash_))


def test_an_agent_that_keeps_its_pcrs_to_itself_gets_no_policy(make, folder, tpm):
    path = folder / 'pcrs.json'
    write(path, json.dumps({'policies': [{'name': 'prod', 'pcrs': [7], 'accepted': [digest(bytes(32))]}]}))
    server = server_with(make, pcr_policy_path=path)
    enroll(server, '-hash', tpm.ek_hash())
    agent_with(make, server, tpm, quote_pcrs=False)
    assert selectors(attested(server, tpm.ek_hash())) == ['pub_hash:' + tpm.ek_hash()]


def write_policies(path, *policies):
    write(path, json.dumps({'policies': policies}))


WIDE = {'name': 'wide', 'bank': 'sha384', 'pcrs': [0], 'accepted': [hashlib.sha384(bytes(48)).hexdigest()]}


def test_a_policy_on_a_bank_that_is_switched_off_is_not_met_and_keeps_nobody_out(make, folder, tpm):
    tpm.switch_on(0x000B)
    plain = {'name': 'plain', 'pcrs': [7], 'accepted': [digest(bytes(32))]}
    write_policies(folder / 'pcrs.json', WIDE, {'name': 'seen', 'bank': 'sha512', 'pcrs': [7], 'mode': 'observe'}, plain)
    server = server_with(make, pcr_policy_path=folder / 'pcrs.json')
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    agent = agent_with(make, server, tpm)
    record = attested(server, hash_)
    assert [s for s in selectors(record) if s.startswith('pcr_policy')] == ['pcr_policy:plain']
    assert server.has_logged('PCR policy wide is not met by TPM %s: bank sha384 was not quoted' % hash_)
    assert server.has_logged('PCR policy seen is not met by TPM %s: bank sha512 was not quoted' % hash_)
    assert agent.has_logged('bank sha384 is not switched on in this TPM')
    # and where nothing is left to quote
    write_policies(folder / 'pcrs.json', WIDE)
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=record.id))
    assert eventually(lambda: selectors(attested(server, hash_)) == ['pub_hash:' + hash_], wait=60)
    assert server.has_logged('the agent quotes less than it was asked for: bank sha384 is not switched on in this TPM')


def test_a_bank_that_is_switched_off_keeps_a_machine_out_where_a_policy_is_required(make, folder, tpm):
    tpm.switch_on(0x000B)
    write_policies(folder / 'pcrs.json', WIDE)
    server = server_with(make, pcr_policy_path=folder / 'pcrs.json', require_pcr_policy=True)
    enroll(server, '-hash', tpm.ek_hash())
    agent = spawn(make, server, tpm)
    assert eventually(lambda: agent.has_logged("the machine's PCRs match no policy; wide (bank sha384 was not quoted)"))


def test_a_pcr_that_never_stands_still_spoils_its_own_policy_only(make, folder, tpm):
    write_policies(folder / 'pcrs.json', {'name': 'ima', 'pcrs': [7, 10], 'accepted': [digest(bytes(32), bytes(32))]},
                   {'name': 'plain', 'pcrs': [7], 'accepted': [digest(bytes(32))]})
    server = server_with(make, pcr_policy_path=folder / 'pcrs.json')
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    way = swtpm.Measuring(tpm, folder / 'way', 10)
    agent = make(process.Agent, server.port, roots=server.roots(),
                 attestor=swtpm.table('tpm', 'agent', {'device': folder / 'way'}))
    found = selectors(attested(server, hash_))
    way.close()
    assert [s for s in found if s.startswith('pcr_policy')] == ['pcr_policy:plain']
    assert server.has_logged('PCR policy ima is not met by TPM %s: PCR 10 of bank sha256 was not quoted' % hash_)
    assert agent.has_logged('PCR 10 of bank sha256 does not stand still')


# ---- the event log ----
@pytest.mark.parametrize('on', [True, False])
def test_secure_boot_is_told_by_the_event_log(make, folder, tpm, on):
    BootLog(tpm).boot(on).write(folder / 'log')
    server = server_with(make, event_log=True)
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    agent_with(make, server, tpm, event_log_path=folder / 'log')
    record = attested(server, hash_)
    assert {'secureboot:' + ('enabled' if on else 'disabled'), 'eventlog:verified'} <= set(selectors(record))
    if not on:
        return
    # something is measured that the log does not tell of
    tpm.extend(7, b'\x33' * 32)
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=record.id))
    assert eventually(lambda: not {'secureboot:enabled', 'eventlog:verified'} & set(selectors(attested(server, hash_))), wait=60)
    assert server.has_logged('no secureboot selector: event log: it does not lead to the quoted value of PCR 7')


def test_root_cannot_write_secure_boot_into_the_event_log(make, folder, tpm):
    """A machine that was booted without it: its root extends PCR 7 as if it had been booted with it."""
    log = BootLog(tpm).boot(False)
    log.disguise(log.variable('SecureBoot', bytes(1)), 0x80000002)
    log.disguise(bytes(4), 0x80000007)
    log.event(7, 0x80000001, log.variable('SecureBoot', b'\1'))
    log.event(7, 4, bytes(4))
    log.write(folder / 'log')
    server = server_with(make, event_log=True)
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    agent_with(make, server, tpm, event_log_path=folder / 'log')
    assert not [s for s in selectors(attested(server, hash_)) if s.startswith('secureboot')]
    assert server.has_logged('no secureboot selector: event log: PCR 7: the digest of SecureBoot or of a separator '
                             'under type 0x80000002')


@pytest.mark.parametrize('trouble', ['unreadable', 'large', 'none'])
def test_an_event_log_that_cannot_be_sent_is_told_on_both_sides(make, folder, tpm, trouble):
    path = folder / 'log'
    if trouble == 'unreadable':
        os.makedirs(path)  # whoever runs the test: root can read any file
    if trouble == 'large':
        with open(path, 'wb') as out:
            out.truncate((720 << 10) + 1)
    server = server_with(make, event_log=True)
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    agent = agent_with(make, server, tpm, event_log_path=path)
    assert not [s for s in selectors(attested(server, hash_)) if s.startswith('secureboot')]
    why = {'unreadable': path + ': cannot be read: is a directory', 'large': path + ': larger than 737280 bytes'}
    if trouble == 'none':
        assert agent.has_logged('no event log at ' + path)
        assert server.has_logged('no secureboot selector: the machine has no event log')
        return
    assert agent.has_logged('event log: ' + why[trouble])
    assert server.has_logged("no secureboot selector: the machine's event log could not be read: " + why[trouble])


# ---- tpm info ----
def info(tpm, *args):
    done = process.run(['tpm', 'info', '-device', tpm.path, *args])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tpm_info_prints_what_an_operator_enrolls(tpm, maker):
    before = info(tpm)
    assert 'EK hash (rsa)  : ' + tpm.ek_hash() in before and 'EK hash (ecc)  : ' + tpm.ek_hash('ecc') in before
    assert 'EK certificate : none\n' in before and 'PCR 23' in before
    tpm.certify_ek(maker)
    tpm.extend(7, b'\x11' * 32)
    told = json.loads(info(tpm, '-pcrs', '7,0', '-output', 'json'))
    rsa, ecc = told['endorsement_keys']
    assert rsa['hash'] == tpm.ek_hash() and rsa['certificate'] == 'unverified' and rsa['certificate_issuer'] == 'CN=TPM Maker'
    assert ecc['certificate'] == 'none' and 'sha256' in told['pcr_banks'] and len(told['pcrs']) == 24
    after = hashlib.sha256(bytes(32) + b'\x11' * 32).digest()
    assert told['pcrs'][7] == after.hex() and told['digest'] == digest(bytes(32), after)
    assert 'PCR digest     : %s (sha256 0,7)' % digest(bytes(32), after) in info(tpm, '-pcrs', '0,7')


def test_tpm_info_names_the_key_that_the_agent_attests_with(make, tpm, maker):
    kept = tpm.keep_ek()
    assert swtpm.hash_of(kept) != tpm.ek_hash()
    tpm.certify_ek(maker, key=kept)
    told = json.loads(info(tpm, '-output', 'json'))['endorsement_keys'][0]
    assert told['hash'] == swtpm.hash_of(kept) and told['handle'] == '0x81010001' and told['certificate'] == 'unverified'
    server = server_with(make)
    enroll(server, '-hash', told['hash'])
    agent_with(make, server, tpm)
    attested(server, told['hash'])


def test_tpm_info_takes_the_endorsement_hierarchys_password(tpm, folder):
    hash_ = tpm.ek_hash()
    tpm.command(0x129, swtpm.sized(b'mine'), (swtpm.ENDORSEMENT,), True)  # TPM2_HierarchyChangeAuth
    assert 'EK (rsa)       : none: ' in info(tpm)
    write(folder / 'password', 'mine\n', 0o600)
    assert 'EK hash (rsa)  : ' + hash_ in info(tpm, '-endorsementAuthFile', folder / 'password')
    done = process.run(['tpm', 'info', '-device', tpm.path, '-endorsementAuthFile', folder / 'none'])
    assert done.returncode == 1 and '-endorsementAuthFile: ' in done.stderr, done.stderr
    write(folder / 'password', 'mine\n', 0o644)
    done = process.run(['tpm', 'info', '-device', tpm.path, '-endorsementAuthFile', folder / 'password'])
    assert done.returncode == 1 and 'every user may read or write it; run chmod o-rw on it' in done.stderr, done.stderr


def test_a_certificate_for_the_owners_eyes_takes_the_owners_password(make, tpm, maker, folder):
    key = tpm.ek()
    tpm.write_nv(swtpm.EK_INDEX['rsa'], maker.certify(key), 0x42030001)  # without AUTHREAD
    tpm.command(0x129, swtpm.sized(b'mine'), (swtpm.OWNER,), True)  # TPM2_HierarchyChangeAuth
    write(folder / 'password', 'mine\n', 0o600)
    assert 'EK certificate : unusable: NV index 0x01c00002: TPM2_NV_Read: TPM_RC_BAD_AUTH' in info(tpm)
    assert 'EK certificate : unverified, until ' in info(tpm, '-ownerAuthFile', folder / 'password')
    done = process.run(['tpm', 'info', '-device', tpm.path, '-ownerAuthFile', folder / 'none'])
    assert done.returncode == 1 and '-ownerAuthFile: ' in done.stderr, done.stderr
    # and the agent, as its README says
    server = server_with(make, ca_path=ca_dir(folder, maker))
    agent_with(make, server, tpm, owner_auth_file=folder / 'password')
    assert 'model:SLB9670' in selectors(attested(server, swtpm.hash_of(key)))


def test_tpm_info_of_a_tpm_without_the_bank_tells_the_rest(tpm):
    tpm.switch_on(0x000C)
    text = info(tpm, '-pcrs', '0,7')
    assert 'EK hash (rsa)  : ' + tpm.ek_hash() in text and 'PCR banks      : sha384\n' in text
    assert 'PCRs (sha256)  : none: ' in text and 'PCR digest' not in text
    told = json.loads(info(tpm, '-output', 'json'))
    assert told['pcrs'] == [] and 'bank' in told['pcr_problem'] and told['pcr_banks'] == ['sha384']
    assert 'PCR digest     : ' in info(tpm, '-pcrs', '0,7', '-bank', 'sha384')


JUNK = [(bytes(900), 0x42070001, 'what is there is no certificate'), (b'\xff' * 900, 0x42070001, 'what is there is no certificate'),
        (bytes(900), 0x42010001, 'TPM2_NV_Read: ')]  # the last one is for the platform only


@pytest.mark.parametrize('data,attributes,text', JUNK)
def test_junk_in_place_of_a_certificate_is_no_certificate(make, tpm, data, attributes, text):
    tpm.write_nv(swtpm.EK_INDEX['rsa'], data, attributes)
    server = server_with(make)
    hash_ = tpm.ek_hash()
    enroll(server, '-hash', hash_)
    agent = agent_with(make, server, tpm)
    first = attested(server, hash_)
    server.agents.DeleteAgent(stubs.agent.DeleteAgentRequest(id=first.id))
    assert eventually(lambda: attested(server, hash_).x509svid_serial_number != first.x509svid_serial_number, wait=60)
    said = "attesting without a certificate of the TPM's endorsement key: NV index 0x01c00002: " + text
    assert agent.logs().count(said) == 1, agent.logs()
    assert 'EK certificate : unusable: NV index 0x01c00002: ' + text in info(tpm)


@pytest.mark.parametrize('args,text', [
    (('-pcrs', '0,24'), '-pcrs: "24" is not a number from 0 to 23'),
    (('-bank', 'sha1'), '-bank: bank "sha1" is not one of sha256, sha384 and sha512'),
    (('-device', 'tabrmd:'), '-device: '),
    (('-device', '/dev/none'), '/dev/none'),
    (('-output', 'xml'), 'xml')])
def test_tpm_info_says_what_is_wrong(args, text):
    done = process.run(['tpm', 'info', *args])
    assert done.returncode == 1 and text in done.stderr, done.stderr

# SPDX-License-Identifier: Apache-2.0
"""x509pop with a key of the agent's key manager: `limpet key csr`, a factory's certificate for it, an agent that proves it."""
from cryptography import x509

from . import pki, process, stubs
from .attestation import certify
from .process import eventually, toml_plugin


def key_csr(agent, *more, env=None):
    process.write(agent.config_path, agent.config())
    return process.run(['key', 'csr', '-config', agent.config_path, '-keyID', 'device', *more], env=env)


def key_of(csr_pem):
    return pki.public_der(x509.load_pem_x509_csr(csr_pem.encode()))


def issue(folder, csr_pem, name='device.pem'):
    """A factory's certificate for the CSR; its root is in factory.pem."""
    root_key = pki.new_key()
    root = certify('factory', root_key, ca=True)
    csr = x509.load_pem_x509_csr(csr_pem.encode())
    assert csr.is_signature_valid
    leaf = certify('device-7', csr, (root, root_key))
    process.write(folder / 'factory.pem', pki.pem_of(root))
    process.write(folder / name, pki.pem_of(leaf))


def attests(make, folder, key_manager, key_type, env=None):
    """Server and agent, the latter attested with a key of this key manager."""
    agent = process.Agent(1, attestor=toml_plugin('NodeAttestor', 'x509pop', {
        'key_id': 'device', 'certificate_path': folder / 'device.pem'}, role='agent'))
    agent.key_manager, agent.env = key_manager, env
    done = key_csr(agent, '-keyType', key_type, '-dns', 'device-7.example.org', env=env)
    assert done.returncode == 0 and not done.stderr, done.stderr
    issue(folder, done.stdout)
    again = key_csr(agent, '-keyType', key_type, env=env)
    assert key_of(again.stdout) == key_of(done.stdout), 'the key stays'
    server = make(process.Server, plugins=toml_plugin('NodeAttestor', 'x509pop', {'ca_bundle_path': folder / 'factory.pem'},
                                                      role='server'))
    agent.server_port, agent.keys['insecure_bootstrap'] = server.port, True
    make(lambda: agent)
    attested = eventually(lambda: server.agents.ListAgents(stubs.agent.ListAgentsRequest()).agents)
    assert attested[0].id.path.startswith('/spire/agent/x509pop/')
    return server, agent

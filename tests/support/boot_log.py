# SPDX-License-Identifier: Apache-2.0
"""The event log of a machine's firmware, written and measured as a boot would."""
import hashlib
import struct


class BootLog:
    """A firmware's event log, and its measurements in the TPM."""

    def __init__(self, tpm):
        self.tpm = tpm
        spec = b'Spec ID Event03\0' + struct.pack('<IBBBBIHHB', 0, 0, 2, 0, 2, 1, 0x000B, 32, 0)
        self.text = struct.pack('<II20sI', 0, 3, bytes(20), len(spec)) + spec

    def event(self, pcr, kind, data):
        hashed = hashlib.sha256(data).digest()
        self.text += struct.pack('<IIIH', pcr, kind, 1, 0x000B) + hashed + struct.pack('<I', len(data)) + data
        self.tpm.extend(pcr, hashed)

    @staticmethod
    def variable(name, value):
        guid = bytes.fromhex('cbb219d73a3d9645a3bcdad00e67656f' if name.startswith('db') else '61dfe48bca93d211aa0d00e098032b8c')
        return guid + struct.pack('<QQ', len(name), len(value)) + name.encode('utf-16-le') + value

    def boot(self, on):
        """What firmware measures until it hands over."""
        self.event(7, 0x80000001, self.variable('SecureBoot', bytes([on])))
        for name in ('PK', 'KEK', 'db', 'dbx'):
            self.event(7, 0x80000001, self.variable(name, b'keys'))
        self.event(4, 0x80000003, bytes(200_000))  # logs of real machines are long
        for pcr in range(8):
            self.event(pcr, 4, bytes(4))
        return self

    def disguise(self, data, kind):
        """The events of PCR 7 with this data get another type, which is in nobody's signature."""
        digest = hashlib.sha256(data).digest()
        for old in (0x80000001, 4):
            self.text = self.text.replace(struct.pack('<IIIH', 7, old, 1, 0x000B) + digest,
                                          struct.pack('<IIIH', 7, kind, 1, 0x000B) + digest)

    def write(self, path):
        with open(path, 'wb') as out:
            out.write(self.text)

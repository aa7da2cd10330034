# SPDX-License-Identifier: Apache-2.0
"""A token of SoftHSM in a folder, and the plugin table for it."""
import hashlib
import os
import shutil
import subprocess

import pytest

from . import process

MODULE = '/usr/lib/softhsm/libsofthsm2.so'
PLUGIN = os.path.join(os.path.dirname(process.BINARY), 'plugins', 'key_manager_pkcs11.so')
TROUBLE = os.path.join(os.path.dirname(process.BINARY), 'plugins', 'key_manager_pkcs11', 'pkcs11_trouble.so')
PIN = 'pin-482913'
NOBODY = 65534

needs_softhsm = pytest.mark.skipif(not os.path.exists(MODULE) or shutil.which('softhsm2-util') is None
                                   or not os.path.exists(PLUGIN), reason='needs softhsm2 and the plugin key_manager_pkcs11')


def with_digest(path):
    with open(path, 'rb') as file:
        return {'path': path, 'sha256': hashlib.sha256(file.read()).hexdigest(),
                'isolation': 'in-process'}


class Token:
    """Roles that use it must be started with its environment: `role.env = token.env`."""

    def __init__(self, folder, label='limpet'):
        self.folder, self.label = folder, label
        self.pin_folder, self.trouble_file, self.log_file = folder / 'hsm', folder / 'trouble', folder / 'calls'
        self.pin_file = os.path.join(self.pin_folder, 'pin')
        os.makedirs(folder / 'tokens')
        os.makedirs(self.pin_folder)
        process.write(folder / 'softhsm2.conf', 'directories.tokendir = %s\nlog.level = ERROR\n' % (folder / 'tokens'))
        self.write_pin(PIN)
        self.env = dict(os.environ, SOFTHSM2_CONF=folder / 'softhsm2.conf', TROUBLE_MODULE=MODULE,
                        TROUBLE_FILE=self.trouble_file, TROUBLE_LOG=self.log_file)
        self.util('--init-token', '--free', '--label', label, '--pin', PIN, '--so-pin', 'so-pin-1')

    def util(self, *args):
        subprocess.run(['softhsm2-util', *args], check=True, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def write_pin(self, pin, file=None):
        file = file or self.pin_file
        process.write(file, pin + '\n')
        os.chmod(file, 0o600)

    def move_pin(self, pin):
        """A new file in place of the old one, of the same owner: what editors do."""
        new, old = os.path.join(self.pin_folder, 'pin.new'), os.stat(self.pin_file)
        self.write_pin(pin, new)
        os.chown(new, old.st_uid, old.st_gid)
        os.rename(new, self.pin_file)

    def give_away(self):
        """A daemon that is root gives the plugin's process a user, whose the files must be. Returns whose."""
        if os.geteuid() != 0:
            return {}
        for top in (self.folder / 'tokens', self.pin_folder):
            for place, _, names in os.walk(top):
                for path in [place, *(os.path.join(place, name) for name in names)]:
                    os.chown(path, NOBODY, NOBODY)
        return {'user': 'nobody'}

    def trouble(self, text):
        """What the module TROUBLE does from now on; see plugins/key_manager_pkcs11/trouble_module.c."""
        process.write(self.trouble_file, text)

    def calls(self, name):
        try:
            with open(self.log_file) as file:
                return file.read().split().count(name)
        except OSError:
            return 0

    def shim_table(self, kind, role, namespace, **data):
        """The plugin in a process of its own, with what the sandbox has to open for SoftHSM."""
        plugin = {**with_digest(PLUGIN), 'isolation': 'shim', **self.give_away(),
                  'read_paths': [self.folder / 'softhsm2.conf', self.pin_folder], 'write_paths': [self.folder / 'tokens']}
        return process.toml_plugin(kind, 'pkcs11', {'module': MODULE, 'token': self.label, 'pin_file': self.pin_file,
                                                    'namespace': namespace, **data}, role=role, **plugin)

    def table(self, kind, role, namespace, module=MODULE, **more):
        data = {'module': module, 'token': self.label, 'pin_file': self.pin_file, 'namespace': namespace, **more}
        return process.toml_plugin(kind, 'pkcs11', data, role=role, **with_digest(PLUGIN))

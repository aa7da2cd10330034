# SPDX-License-Identifier: Apache-2.0
"""Commands as spire-server and spire-agent, and what they printed."""
import os
import pty
import subprocess

from . import process

TIME = r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC'


class Cli:
    """Runs commands as spire-server or spire-agent: links to the binary, as scripts written for SPIRE call it."""

    def __init__(self, folder, server):
        self.server_socket, self.folder = server.socket, folder
        for name in ('spire-server', 'spire-agent'):
            os.symlink(process.BINARY, folder / name)

    def server(self, *args, socket=None):
        words = [a for a in args]
        return process.run(words + ['-socketPath', socket or self.server_socket], binary=self.folder / 'spire-server')

    def bare(self, name, *args):
        return process.run(list(args), binary=self.folder / name)

    def server_on_a_terminal(self, *args):
        """The same with standard error on a terminal: (exit code, standard output, what the terminal got)."""
        ours, theirs = pty.openpty()
        running = subprocess.Popen([self.folder / 'spire-server', *args, '-socketPath', self.server_socket],
                                   stdout=subprocess.PIPE, stderr=theirs, stdin=subprocess.DEVNULL)
        os.close(theirs)
        out = running.communicate(timeout=120)[0].decode()
        shown = b''
        try:  # a terminal nobody else holds any more ends with EIO
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:
            pass
        os.close(ours)
        return running.returncode, out, shown.decode()


def check(done, code, out=None, err=None):
    """Exact text where a str is given, a pattern for the whole text where it is compiled."""
    told = 'stdout:\n%s\nstderr:\n%s' % (done.stdout, done.stderr)
    assert done.returncode == code, told
    for given, want in ((done.stdout, out), (done.stderr, err)):
        if want is None:
            continue
        if isinstance(want, str):
            assert given == want, told
        else:
            assert want.fullmatch(given), told

# SPDX-License-Identifier: Apache-2.0
"""Connections opened by other users: a child with their uid and gid connects, hands the socket over and stays alive, since
the agent looks at the process that connected."""
import array
import os
import socket
import subprocess
import sys

from . import h2grpc, process

UIDS = {'web': 61001, 'db': 61002, 'nobody': 61003}

_CHILD = '''
import array, os, socket, sys
back = socket.socket(fileno=int(sys.argv[1]))
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[2])
back.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
s.close()
program = back.recv(4096)
if program:  # becomes another program
    os.execv(program, [program, b"60"])
'''


class As:
    """Workload clients of one uid (and gid, equal unless said)."""

    def __init__(self, uid, gid=None, groups=()):
        self.uid, self.gid, self.groups = uid, uid if gid is None else gid, list(groups)
        self.children = []
        self.others = []  # those that run another program by now

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child, here in self.children:
            here.close()
            if child in self.others:
                child.kill()
            child.wait(30)

    def become(self, program):
        """The process that connected last runs this file from now on, with the argument 60."""
        child, here = self.children[-1]
        self.others.append(child)
        here.sendall(program.encode())
        process.eventually(lambda: os.path.realpath('/proc/%d/exe' % child.pid) == os.path.realpath(program), what='the other program')

    def connect(self, path, **more):
        here, there = socket.socketpair()
        child = subprocess.Popen([sys.executable, '-c', _CHILD, str(there.fileno()), path], pass_fds=[there.fileno()],
                                 user=self.uid, group=self.gid, extra_groups=self.groups)
        there.close()
        here.settimeout(30)
        _, ancillary, _, _ = here.recvmsg(1, socket.CMSG_SPACE(4))
        fds = array.array('i')
        fds.frombytes(ancillary[0][2][:4])
        self.children.append((child, here))
        sock = socket.socket(fileno=fds[0])
        sock.settimeout(h2grpc.WAIT)
        return h2grpc.Connection(sock, 'localhost', **more)

    def workload(self, agent, **more):
        return process.Workload(self.connect(agent.socket, **more))

    def run(self, args, **more):
        """A command of the binary as this user."""
        return process.run(args, user=self.uid, group=self.gid, extra_groups=self.groups,
                           env={**os.environ, 'ASAN_OPTIONS': 'detect_leaks=0'}, **more)

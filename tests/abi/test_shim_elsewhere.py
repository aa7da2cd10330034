# SPDX-License-Identifier: Apache-2.0
"""What of limpet-shim depends on the processor, the list of system calls above all, compiles for those we do not run on."""
import glob
import os
import shutil
import subprocess

import pytest

ROOT = os.environ['LIMPET_ROOT']
SOURCES = ['seccomp.cc', 'sandbox.cc', 'landlock.cc', 'link.cc']
# clang's name, the folder of its C library's headers, and a system call that it does not have
TARGETS = {'aarch64': ('aarch64-linux-gnu', 'aarch64-linux-gnu', 'open'),
           'armv7': ('armv7-linux-gnueabihf', 'arm-linux-gnueabihf', 'arch_prctl'),
           'i386': ('i686-linux-gnu', 'i686-linux-gnu', 'riscv_flush_icache'),
           'riscv64': ('riscv64-linux-gnu', 'riscv64-linux-gnu', 'open')}


def compiled(target, source):
    triple, folder, _ = TARGETS[target]
    headers = '/usr/%s/include' % folder
    if not shutil.which('clang-19') or not os.path.exists(headers + '/stdio.h'):
        pytest.skip('clang-19 or the headers for %s are missing: run tools/setup test' % target)
    # the C++ library's headers of this machine: they hardly know what they are compiled for
    cpp = sorted(glob.glob('/usr/include/c++/*'))[-1]
    own = glob.glob('/usr/include/*/c++/' + os.path.basename(cpp))
    system = [word for folder in [cpp, *own, headers] for word in ('-isystem', folder)]
    ours = ['-I' + folder for folder in os.environ['LIMPET_SHIM_INCLUDES'].split(':')]
    done = subprocess.run(['clang-19', '--target=' + triple, '-std=c++23', '-fno-exceptions', '-fno-rtti', '-fsyntax-only', '-Wall',
                           '-Wextra', '-Wconversion', '-Wno-unused-parameter', '-Werror', '-D_FILE_OFFSET_BITS=64',
                           '-D_TIME_BITS=64', '-nostdinc++', *system, *ours, str(source)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, text=True)
    return done.returncode == 0, done.stdout


@pytest.mark.parametrize('source', SOURCES)
@pytest.mark.parametrize('target', sorted(TARGETS))
def test_the_shim_compiles_for(target, source):
    good, said = compiled(target, os.path.join(ROOT, 'shim/host', source))
    assert good, said


@pytest.mark.parametrize('target', sorted(TARGETS))
def test_a_call_that_is_not_there_is_found(target, tmp_path):
    folder = os.path.join(ROOT, 'shim/host')
    with open(os.path.join(folder, 'seccomp.cc')) as text:
        source = tmp_path / 'seccomp.cc'
        source.write_text(text.read().replace('#include "allowed_calls.inc"',
                                              'CALL(%s)\n#include "allowed_calls.inc"' % TARGETS[target][2], 1))
    good, said = compiled(target, source)
    assert not good and '__NR_' + TARGETS[target][2] in said, said

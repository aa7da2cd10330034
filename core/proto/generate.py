# SPDX-License-Identifier: Apache-2.0
"""generate.py HEADER COMMAND...: runs nanopb's generator, then mends HEADER.

nanopb 0.4.9 gives each message's C++ descriptor a `size` even where the size is only known under an #if that is false here;
nothing of ours uses it, so those lines are taken out. Earlier versions write none for such messages.
"""
import re
import subprocess
import sys


def main(header, command):
    status = subprocess.call(command)
    if status:
        return status
    with open(header, encoding='utf-8') as file:
        text = file.read()
    with open(header, 'w', encoding='utf-8') as file:
        file.write(re.sub(r'\n *static PB_INLINE_CONSTEXPR const pb_size_t size = \w+;', '', text))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1], sys.argv[2:]))

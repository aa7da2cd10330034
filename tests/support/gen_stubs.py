# SPDX-License-Identifier: Apache-2.0
"""Makes python stubs of core/proto's messages: gen_stubs.py PROTO_DIR OUT_DIR. The build runs it; so does support.stubs
when a test is started by hand."""
import os
import subprocess
import sys

PROTOS = ['spire_types', 'spire_agent', 'spire_entry', 'spire_bundle', 'spire_svid', 'spire_trustdomain',
          'spire_localauthority', 'spire_logger', 'spire_debug', 'agent_debug', 'agent_logger', 'agent_delegated',
          'workload', 'health', 'google_rpc_status', 'envoy_sds']


def generate(proto_dir, out_dir):
    os.makedirs(out_dir, exist_ok=True)
    subprocess.run(['protoc', '-I' + proto_dir, '-I/usr/include', '--python_out=' + out_dir,
                    '--grpc_python_out=' + out_dir, '--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin']
                   + [name + '.proto' for name in PROTOS], check=True)


if __name__ == '__main__':
    generate(sys.argv[1], sys.argv[2])

# SPDX-License-Identifier: Apache-2.0
"""The generated message classes and grpcio stubs, under short names. LIMPET_STUBS names their folder."""
import os
import sys
import tempfile

from . import gen_stubs

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_dir = os.environ.get('LIMPET_STUBS')
if not _dir or not os.path.exists(os.path.join(_dir, 'workload_pb2_grpc.py')):
    _holder = tempfile.TemporaryDirectory(prefix='limpet-stubs-')
    _dir = _holder.name
    gen_stubs.generate(os.path.join(_ROOT, 'core', 'proto'), _dir)
sys.path.insert(0, _dir)

import agent_debug_pb2 as agent_debug  # noqa: E402,F401
import agent_delegated_pb2 as delegated  # noqa: E402,F401
import agent_delegated_pb2_grpc as delegated_grpc  # noqa: E402,F401
import envoy_sds_pb2 as sds  # noqa: E402,F401
import google_rpc_status_pb2 as rpc_status  # noqa: E402,F401
import health_pb2 as health  # noqa: E402,F401
import health_pb2_grpc as health_grpc  # noqa: E402,F401
import spire_agent_pb2 as agent  # noqa: E402,F401
import spire_agent_pb2_grpc as agent_grpc  # noqa: E402,F401
import spire_bundle_pb2 as bundle  # noqa: E402,F401
import spire_bundle_pb2_grpc as bundle_grpc  # noqa: E402,F401
import spire_debug_pb2 as debug  # noqa: E402,F401
import spire_debug_pb2_grpc as debug_grpc  # noqa: E402,F401
import spire_entry_pb2 as entry  # noqa: E402,F401
import spire_entry_pb2_grpc as entry_grpc  # noqa: E402,F401
import spire_localauthority_pb2 as localauthority  # noqa: E402,F401
import spire_localauthority_pb2_grpc as localauthority_grpc  # noqa: E402,F401
import spire_logger_pb2 as logger  # noqa: E402,F401
import spire_logger_pb2_grpc as logger_grpc  # noqa: E402,F401
import spire_svid_pb2 as svid  # noqa: E402,F401
import spire_svid_pb2_grpc as svid_grpc  # noqa: E402,F401
import spire_trustdomain_pb2 as trustdomain  # noqa: E402,F401
import spire_trustdomain_pb2_grpc as trustdomain_grpc  # noqa: E402,F401
import spire_types_pb2 as types  # noqa: E402,F401
import workload_pb2 as workload  # noqa: E402,F401
import workload_pb2_grpc as workload_grpc  # noqa: E402,F401
from google.protobuf.empty_pb2 import Empty  # noqa: E402,F401
from google.protobuf.wrappers_pb2 import BoolValue, StringValue  # noqa: E402,F401

"""What the tests of gRPC share: stubs made of proto/ by gRPC's own generator, daemons, tensors, golden cases."""

import atexit
import importlib
import json
import math
import os
import pathlib
import sys
import tempfile

# Daemons are started while calls go on: gRPC would start its threads anew in the child, before the daemon's program.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

import grpc  # noqa: E402
import grpc_tools  # noqa: E402
from grpc_tools import protoc  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "Tests" / "System"))

from daemon import KEPT_WHEN_FREED as KEPT  # noqa: E402, F401
from daemon import Daemon, program  # noqa: E402, F401
from wire import Connection, Response  # noqa: E402, F401

_stubs = tempfile.TemporaryDirectory(prefix="lossd-stubs-")
atexit.register(_stubs.cleanup)


def _generate(name):
    """What a user of the file would do."""
    arguments = ["protoc", f"-I{ROOT / 'proto'}", f"-I{pathlib.Path(grpc_tools.__file__).parent / '_proto'}",
                 f"--python_out={_stubs.name}", f"--grpc_python_out={_stubs.name}", name]
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"protoc fails on {name}")


_generate("lossd.proto")
sys.path.insert(0, _stubs.name)
pb = importlib.import_module("lossd_pb2")
rpc = importlib.import_module("lossd_pb2_grpc")

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
SIZES = {1: 4, 2: 8, 3: 2, 4: 2, 5: 8, 6: 4, 7: 2, 8: 1, 9: 1, 10: 1}


def channel(address, *options):
    """A connection of its own."""
    return grpc.insecure_channel(address, options=[*UNLIMITED, ("grpc.use_local_subchannel_pool", 1), *options])


def of_tcp(daemon):
    """As gRPC names the daemon's port."""
    return daemon.tcp.removeprefix("tcp:")


def tensor(name, data, shape, data_type=1):
    return pb.Tensor(name=name, data_type=data_type, shape=shape, data=data)


def value(item):
    if isinstance(item, bool):
        return pb.Value(bool_value=item)
    if isinstance(item, int):
        return pb.Value(int_value=item)
    if isinstance(item, float):
        return pb.Value(float_value=item)
    return pb.Value(string_value=item)


def request(function, inputs, attributes=None, outputs=(), id=0):
    """`inputs`: Tensors."""
    made = pb.EvaluateRequest(function=function, inputs=inputs, outputs=[pb.Output(name=name) for name in outputs], id=id)
    for name, item in (attributes or {}).items():
        made.attributes[name].CopyFrom(value(item))
    return made


def to_payload(message):
    """The request as lossd's own wire has it: message and payload."""
    own, payload = pb.EvaluateRequest(), bytearray()
    own.CopyFrom(message)
    for item in own.inputs:
        payload += bytes(-len(payload) % 64)
        data = item.data
        item.payload.offset, item.payload.length = len(payload), len(data)
        payload += data
    return own.SerializeToString(), bytes(payload)


def to_inline(message, payload):
    """A response of lossd's own wire as gRPC has it."""
    response = pb.EvaluateResponse.FromString(message)
    for item in response.outputs:
        offset, length = item.payload.offset, item.payload.length
        item.data = payload[offset:offset + length]
    return response


def ended(daemon):
    """Ends a daemon, well."""
    status = daemon.stop()
    assert status == 0, daemon.log()
    daemon.folder.cleanup()


class Golden:
    """The cases of Tests/Golden/NAME.json, as requests."""

    def __init__(self, name):
        folder = ROOT / "Tests" / "Golden"
        index = json.loads((folder / f"{name}.json").read_text())
        self.cases, self.places = index["cases"], index["tensors"]
        self.data = (folder / f"{name}.bin").read_bytes()

    def tensor(self, name, number):
        kind, offset, *shape = self.places[number]
        return tensor(name, self.data[offset:offset + SIZES[kind] * math.prod(shape)], shape, kind)

    def requests(self):
        for case in self.cases:
            attributes = {name: float(item) if item in ("inf", "-inf") else item
                          for name, item in case.get("a", {}).items()}
            yield request(case["f"], [self.tensor(*item) for item in case["i"].items()], attributes,
                          sorted(case.get("o", {})))

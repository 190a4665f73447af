"""Writes src/lossd/_schema.py from proto/lossd.proto, or prints it (--print); needs protoc-c, which the daemon needs."""

import base64
import pathlib
import subprocess
import sys
import tempfile
import textwrap

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

with tempfile.NamedTemporaryFile() as file:
    subprocess.run(
        ["protoc-c", f"--proto_path={ROOT / 'proto'}", f"--descriptor_set_out={file.name}",
         "lossd.proto"], check=True)
    data = base64.b64encode(pathlib.Path(file.name).read_bytes()).decode()
lines = "\n".join(f'    "{line}"' for line in textwrap.wrap(data, 92))
text = f'''"""The messages of proto/lossd.proto, made from its descriptor, so that any protobuf will do.

Made by make_schema.py; not to be edited.
"""

import base64
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_DATA = (
{lines}
)

_pool = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(base64.b64decode(_DATA)).file:
    _pool.Add(_file) if not hasattr(_pool, "AddSerializedFile") else _pool.AddSerializedFile(
        _file.SerializeToString())


def message(name: str) -> Any:
    """The class of a message of the package lossd.v1."""
    descriptor = _pool.FindMessageTypeByName("lossd.v1." + name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    factory: Any = message_factory.MessageFactory(_pool)  # protobuf before 4.22
    return factory.GetPrototype(descriptor)
'''
if "--print" in sys.argv:
    sys.stdout.write(text)
else:
    (HERE / "src" / "lossd" / "_schema.py").write_text(text)

"""cross_entropy by torch behind gRPC, in Python: what lossd is compared with. One process.

    python grpc_service.py threads|asyncio ADDRESS TORCH-THREADS [SERVER-THREADS]

ADDRESS is gRPC's: unix:/path or 127.0.0.1:port. Prints "ready" once it listens, and ends with its standard input.
"""

import asyncio
import concurrent.futures
import sys
import warnings

import grpc
import numpy as np
import torch
import torch.nn.functional as F
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

METHOD = "/loss.Loss/CrossEntropy"
# Messages of 51 MB: without limits, and with windows that do not make the sender wait.
OPTIONS = [
    ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0),
    ("grpc.http2.lookahead_bytes", 64 << 20), ("grpc.http2.max_frame_size", (1 << 24) - 1),
    ("grpc.http2.bdp_probe", 1)]


def messages():
    """Request {input = 1, target = 2: bytes; shape = 3: sizes; gradient = 4: bool}, Reply {loss = 1; gradient = 2}."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="loss.proto", package="loss", syntax="proto3")
    for name, fields in (
            ("Request", (("input", kinds.TYPE_BYTES, 1), ("target", kinds.TYPE_BYTES, 1), ("shape", kinds.TYPE_INT64, 3),
                         ("gradient", kinds.TYPE_BOOL, 1))),
            ("Reply", (("loss", kinds.TYPE_FLOAT, 1), ("gradient", kinds.TYPE_BYTES, 1)))):
        message = file.message_type.add(name=name)
        for number, (field, kind, label) in enumerate(fields, 1):
            message.field.add(name=field, number=number, type=kind, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"loss.{name}")) for name in ("Request", "Reply")]


Request, Reply = messages()


def evaluate(request):
    # The arrays lie in the message: nothing is copied on the way to torch.
    logits = torch.from_numpy(np.frombuffer(request.input, np.float32).reshape(tuple(request.shape)))
    target = torch.from_numpy(np.frombuffer(request.target, np.int64))
    if not request.gradient:
        with torch.inference_mode():
            return Reply(loss=F.cross_entropy(logits, target).item())
    logits.requires_grad_(True)
    loss = F.cross_entropy(logits, target)
    gradient, = torch.autograd.grad(loss, logits)
    return Reply(loss=loss.item(), gradient=gradient.numpy().tobytes())


def handler(function):
    return grpc.method_handlers_generic_handler("loss.Loss", {"CrossEntropy": grpc.unary_unary_rpc_method_handler(
        function, request_deserializer=Request.FromString, response_serializer=Reply.SerializeToString)})


def wait_for_end():
    print("ready", flush=True)
    sys.stdin.read()


def serve_by_threads(address, count):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(count), options=OPTIONS)
    server.add_generic_rpc_handlers((handler(lambda request, context: evaluate(request)),))
    server.add_insecure_port(address)
    server.start()
    wait_for_end()
    server.stop(None)


async def serve_by_asyncio(address):
    async def answer(request, context):
        return evaluate(request)

    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((handler(answer),))
    server.add_insecure_port(address)
    await server.start()
    await asyncio.get_running_loop().run_in_executor(None, wait_for_end)
    await server.stop(None)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*not writable.*")
    torch.set_num_threads(int(sys.argv[3]))
    if sys.argv[1] == "threads":
        serve_by_threads(sys.argv[2], int(sys.argv[4]))
    else:
        asyncio.run(serve_by_asyncio(sys.argv[2]))

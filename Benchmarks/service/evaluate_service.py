"""lossd's Evaluate by torch behind gRPC, in Python, for cross_entropy alone: it takes the same requests and gives the same
outputs as the daemon. One process, and what Python's gRPC does by itself; `ADDRESS call FILE N` is its client instead, which
sends a request of these bytes N times, prints each time, in milliseconds, and decodes nothing.

    python evaluate_service.py ADDRESS [call FILE N]

Prints "ready" once it listens, and ends with its standard input.
"""

import asyncio
import importlib
import pathlib
import sys
import tempfile
import time
import warnings

import grpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
METHOD = "/lossd.v1.Evaluator/Evaluate"
# Messages of 51 MB: without limits, and with windows that do not make the sender wait.
OPTIONS = [
    ("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0),
    ("grpc.http2.lookahead_bytes", 64 << 20), ("grpc.http2.max_frame_size", (1 << 24) - 1), ("grpc.http2.bdp_probe", 1)]


def messages():
    from grpc_tools import protoc
    with tempfile.TemporaryDirectory() as folder:
        if protoc.main(["protoc", f"-I{ROOT / 'proto'}", f"--python_out={folder}", "lossd.proto"]) != 0:
            raise RuntimeError("protoc fails")
        sys.path.insert(0, folder)
        return importlib.import_module("lossd_pb2")


def evaluator():
    import numpy as np
    import torch
    import torch.nn.functional as F
    warnings.filterwarnings("ignore", message=".*not writable.*")
    pb = messages()
    types = {pb.FLOAT32: np.float32, pb.INT64: np.int64}

    def evaluate(request):
        # The arrays lie in the message: nothing is copied on the way to torch.
        inputs = {item.name: torch.from_numpy(np.frombuffer(item.data, types[item.data_type]).reshape(tuple(item.shape)))
                  for item in request.inputs}
        wanted = [output.name for output in request.outputs] or ["loss"]
        logits = inputs["input"].requires_grad_("grad.input" in wanted)
        results = {"loss": F.cross_entropy(logits, inputs["target"])}
        if "grad.input" in wanted:
            results["grad.input"], = torch.autograd.grad(results["loss"], logits)
        response = pb.EvaluateResponse(id=request.id)
        for name in wanted:
            array = results[name].detach().numpy()
            response.outputs.add(name=name, data_type=pb.FLOAT32, shape=array.shape, data=array.tobytes())
        return response

    return pb, evaluate


async def serve(address):
    pb, evaluate = evaluator()

    async def answer(request, context):
        return evaluate(request)

    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("lossd.v1.Evaluator", {
        "Evaluate": grpc.unary_unary_rpc_method_handler(
            answer, pb.EvaluateRequest.FromString, pb.EvaluateResponse.SerializeToString)}),))
    server.add_insecure_port(address)
    await server.start()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


def call(address, file, count):
    data = pathlib.Path(file).read_bytes()[5:]
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        evaluate = channel.unary_unary(METHOD)
        for _ in range(count):
            begin = time.perf_counter()
            evaluate(data)
            print(f"{1000 * (time.perf_counter() - begin):.3f}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        call(sys.argv[1], sys.argv[3], int(sys.argv[4]))
    else:
        asyncio.run(serve(sys.argv[1]))

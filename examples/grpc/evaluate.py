"""A loss and its gradient by gRPC, then the exact loss of a data set in batches. With pip:

    pip install grpcio grpcio-tools numpy
    python3 -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. lossd.proto
    python3 evaluate.py 127.0.0.1:5677        (or unix:/run/lossd/lossd.sock)
"""

import sys

import grpc
import numpy as np

import lossd_pb2 as pb
import lossd_pb2_grpc

LOGITS = np.array([[2, 1, 0], [0, 1, 2]], np.float32)
LABELS = np.array([0, 1])


def tensors(logits, labels):
    return [pb.Tensor(name="input", data_type=pb.FLOAT32, shape=logits.shape, data=logits.tobytes()),
            pb.Tensor(name="target", data_type=pb.INT64, shape=labels.shape, data=labels.tobytes())]


def batches():
    # The first names the function; each brings a row.
    for row in range(2):
        yield pb.EvaluateRequest(function="cross_entropy" if row == 0 else "",
                                 inputs=tensors(LOGITS[row:row + 1], LABELS[row:row + 1]))


# Messages of any size, where gRPC's own limit would be 4 MiB.
with grpc.insecure_channel(sys.argv[1], options=[("grpc.max_receive_message_length", -1)]) as channel:
    evaluator = lossd_pb2_grpc.EvaluatorStub(channel)
    response = evaluator.Evaluate(
        pb.EvaluateRequest(function="cross_entropy", inputs=tensors(LOGITS, LABELS),
                           outputs=[pb.Output(name="loss"), pb.Output(name="grad.input")]), timeout=5)
    loss, gradient = (np.frombuffer(output.data, np.float32) for output in response.outputs)
    print(f"loss {loss[0]:.6f}")
    print("gradient", *(f"{value:.6f}" for value in gradient))
    for response in evaluator.EvaluateStream(batches(), timeout=5):
        pass
    print(f"of {response.summary.rows} rows {response.summary.values['loss']:.6f}")
    try:
        evaluator.Evaluate(pb.EvaluateRequest(function="cross_entropi"), timeout=5)
    except grpc.RpcError as error:
        print(error.code().name, error.details())

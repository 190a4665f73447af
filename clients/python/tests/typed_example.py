"""What a typed program does with the client: test_edges.py has mypy check it."""

import asyncio
from typing import Any, Dict, List, Optional

import lossd
import numpy as np
from numpy.typing import NDArray


def evaluate(client: lossd.Client, reduction: lossd.Reduction, with_grad: bool) -> float:
    logits: NDArray[np.float32] = np.zeros((2, 3), np.float32)
    loss: NDArray[Any] = client.cross_entropy(logits, [0, 2], reduction="sum")
    loss, grad = client.cross_entropy(logits, [0, 2], reduction=reduction, with_grad=True, timeout=5)
    pair: lossd.WithGrad = client.sigmoid(logits, with_grad=True)
    shape: "tuple[int, ...]" = pair.grad.shape
    several: lossd.WithGrads = client.mse_loss(logits, logits, with_grad=("input", "target"))
    of_target: lossd.WithGrad = client.kl_div(logits, logits, log_target=True, with_grad="target")
    print(client.function("my_loss")(logits, beta=2.0), client.gelu(logits, "tanh").dtype, several.grads[1], of_target.grad)
    either = client.softmax(logits, dim=1, dtype=np.float64, with_grad=with_grad)
    output = either.result if isinstance(either, lossd.WithGrad) else either
    results: Dict[str, NDArray[Any]] = client.evaluate("sigmoid", {"input": logits}, outputs="output")
    pending: List[lossd.Pending] = [client.submit("sigmoid", {"input": row}) for row in logits]
    rows = [item.result()["output"] for item in pending]
    function: lossd.FunctionDescription = client.functions("cross_entropy")[0]
    status: lossd.Status = client.status()
    print(shape, output, results, rows, [item.kept for item in function.inputs], status.version, grad)
    return float(loss)


def summarize(client: lossd.Client) -> Optional[float]:
    with client.stream("cross_entropy", [{"input": np.zeros((2, 3)), "target": [0, 1]}], {"reduction": "mean"}) as stream:
        for result in stream:
            print(result["loss"].dtype)
    summary: Optional[lossd.Summary] = stream.summary
    return None if summary is None else summary.loss


async def main() -> None:
    async with lossd.connect_async(retry=10) as client:
        loss: NDArray[Any] = await client.nll_loss(np.zeros((2, 3)), [0, 1])
        loss, grad = await client.nll_loss(np.zeros((2, 3)), [0, 1], with_grad=True)
        async for result in client.stream("sigmoid", [{"input": grad}]):
            print(result["output"], loss)


if __name__ == "__main__":
    with lossd.connect(retry=float("inf")) as client:
        print(evaluate(client, "none", False), summarize(client))
    try:
        asyncio.run(main())
    except lossd.InvalidArgument as error:
        print(error.code, error.message)

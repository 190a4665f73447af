"""The clients against a private daemon; no torch."""

import asyncio
import os
import pathlib
import signal
import subprocess
import threading
import time

import numpy as np
import pytest

import lossd
import lossd.testing

X = np.array([[1, 2, 3], [1, 2, 0], [0, 2, 1]], np.float32)
Y = np.array([2, 0, 1])


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_loss_and_gradient(client):
    loss, grad = client.cross_entropy(X, Y, with_grad=True)
    assert loss.shape == () and loss.dtype == np.float32 and grad.shape == X.shape
    np.testing.assert_allclose(loss, -log_softmax(X)[np.arange(3), Y].mean(), rtol=1e-6)
    truth = (np.exp(log_softmax(X)) - np.eye(3)[Y]) / 3
    np.testing.assert_allclose(grad, truth, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        client.cross_entropy(X, Y, with_grad=True, grad=np.float32(2))[1], 2 * truth, rtol=1e-5,
        atol=1e-7)
    none = client.cross_entropy(X, Y, reduction="none")
    np.testing.assert_allclose(none, -log_softmax(X)[np.arange(3), Y], rtol=1e-6)


def test_every_function_answers(client):
    p = np.array([0.2, 0.9], np.float32)
    y = np.array([0.0, 1.0], np.float32)
    assert client.sigmoid(np.zeros(2, np.float32)).tolist() == [0.5, 0.5]
    np.testing.assert_allclose(client.softmax(X, dim=0).sum(0), 1, rtol=1e-6)
    np.testing.assert_allclose(client.log_softmax(X), log_softmax(X), rtol=1e-5)
    np.testing.assert_allclose(
        client.binary_cross_entropy(p, y), -np.log([0.8, 0.9]).mean(), rtol=1e-5)
    np.testing.assert_allclose(
        client.binary_cross_entropy_with_logits(np.log(p / (1 - p)), y, pos_weight=np.ones(2, np.float32)),
        -np.log([0.8, 0.9]).mean(), rtol=1e-5)
    np.testing.assert_allclose(
        client.nll_loss(log_softmax(X), Y), -log_softmax(X)[np.arange(3), Y].mean())
    assert client.multilabel_soft_margin_loss(X, (X > 1).astype(np.float32), reduction="sum") > 0


def test_types_shapes_and_layouts(client):
    for dtype in (np.float16, np.float32, np.float64):
        assert client.sigmoid(np.zeros((2, 0, 3), dtype)).dtype == dtype
    assert client.sigmoid(np.float32(0)).shape == ()
    assert client.sigmoid(np.array([1, 2])).dtype == np.float32
    turned = np.asfortranarray(X)
    np.testing.assert_array_equal(client.softmax(turned), client.softmax(X))
    np.testing.assert_array_equal(client.softmax(X.astype(">f4")), client.softmax(X))
    np.testing.assert_array_equal(client.softmax(X[::2, ::-1]), client.softmax(X[::2, ::-1].copy()))
    assert client.sigmoid([0.0, 0.0]).tolist() == [0.5, 0.5]
    assert client.sigmoid(memoryview(np.zeros(3, np.float32))).shape == (3,)
    with pytest.raises(lossd.InvalidArgument, match="complex"):
        client.sigmoid(np.zeros(2, complex))


def test_bfloat16_with_and_without_ml_dtypes(client):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.array([0.0, 1.0], ml_dtypes.bfloat16)
    result = client.sigmoid(x)
    assert result.dtype == ml_dtypes.bfloat16 and float(result[0]) == 0.5
    bits = lossd.BFloat16Array(np.array([0, 0x3F80], np.uint16))
    assert client.sigmoid(bits).tolist() == result.tolist()


def test_errors_have_codes_and_the_connection_goes_on(client):
    with pytest.raises(lossd.InvalidArgument, match=r"target\[1\] is 7, outside \[0, 3\)") as caught:
        client.cross_entropy(X, np.array([0, 7, 1]))
    assert caught.value.code == 3 and isinstance(caught.value, ValueError)
    with pytest.raises(lossd.NotFound):
        client.evaluate("nope", {})
    with pytest.raises(lossd.Unimplemented):
        client.evaluate("cross_entropy", {"input": X, "target": Y}, outputs=["grad.weight"])
    with pytest.raises(lossd.DeadlineExceeded):
        client.softmax(np.zeros((400, 50_000)), timeout=0.01)
    assert client.sigmoid(np.float32(0)) == 0.5


def test_nobody_there():
    with pytest.raises(lossd.Unavailable, match="/nonexistent"):
        lossd.connect("unix:/nonexistent/lossd.sock").ping()
    with pytest.raises(ValueError, match="expected unix:PATH"):
        lossd.connect("udp:1")


def test_descriptions_status_and_ping(client):
    names = [item.name for item in client.functions()]
    assert "cross_entropy" in names and names == sorted(names)
    assert client.functions("nll_loss")[0].kind == "loss"
    assert client.status().version.startswith("lossd/")
    assert 0 < client.ping() < 5


def test_a_stream_and_its_summary(client):
    source = np.random.default_rng(3)
    x = source.normal(size=(1000, 5)).astype(np.float32)
    y = source.integers(0, 5, 1000)
    y[::7] = -100
    w = source.uniform(0.5, 2, 5).astype(np.float32)
    batches = [{"weight": w}] + [
        {"input": x[i:i + 30], "target": y[i:i + 30]} for i in range(0, 1000, 30)]
    stream = client.stream("cross_entropy", batches, outputs=["loss", "grad.input"])
    results = list(stream)
    assert len(results) == 34 and results[0]["grad.input"].shape == (30, 5)
    kept = y != -100
    logs = log_softmax(x)[kept, y[kept]]
    truth = -(w[y[kept]].astype(np.float64) * logs).sum() / w[y[kept]].astype(np.float64).sum()
    assert stream.summary.rows == 1000 and stream.summary.batches == 34
    np.testing.assert_allclose(stream.summary.loss, truth, rtol=1e-7)


def test_streams_by_hand_bad_batches_and_sources_that_fail(client):
    stream = client.stream("sigmoid")
    stream.send({"input": np.zeros(2, np.float32)})
    assert next(stream)["output"].tolist() == [0.5, 0.5]
    stream.finish()
    assert list(stream) == [] and stream.summary.batches == 1
    with pytest.raises(lossd.InvalidArgument, match="batch 1") as caught:
        list(client.stream("nll_loss", [{"input": X, "target": Y}, {"input": X, "target": Y + 5}]))
    assert caught.value.metadata["lossd-batch-id"] == b"1"

    def source():
        yield {"input": X}
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(client.stream("sigmoid", source()))


def test_many_threads_share_one_client(client):
    failures = []

    def work(number):
        for step in range(50):
            x = np.full(10, number + step, np.float32)
            if not np.allclose(client.sigmoid(x), 1 / (1 + np.exp(-x.astype(float))), rtol=1e-6):
                failures.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_after_a_fork_parent_and_child_go_on(client):
    assert client.sigmoid(np.float32(0)) == 0.5
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if client.sigmoid(np.float32(0)) == 0.5 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert client.sigmoid(np.float32(0)) == 0.5


def test_a_restart_between_calls_is_not_noticed(tmp_path):
    address = f"unix:{tmp_path}/lossd.sock"

    def start():
        process = subprocess.Popen(
            [lossd.testing.binary(), "--listen", address], stderr=subprocess.DEVNULL)
        while not (tmp_path / "lossd.sock").exists():
            time.sleep(0.01)
        return process

    first = start()
    time.sleep(0.1)
    with lossd.connect(address) as client:
        assert client.sigmoid(np.float32(0)) == 0.5
        first.send_signal(signal.SIGTERM)
        first.wait()
        second = start()
        try:
            time.sleep(0.1)
            assert client.sigmoid(np.float32(0)) == 0.5
        finally:
            second.terminate()
            second.wait()


def test_a_thousand_calls_at_once_in_asyncio(address):
    async def main():
        async with lossd.connect_async(address) as client:
            results = await asyncio.gather(*(
                client.sigmoid(np.float32(n / 100)) for n in range(1000)))
            np.testing.assert_allclose(
                results, 1 / (1 + np.exp(-np.arange(1000) / 100)), rtol=1e-6)
            with pytest.raises(lossd.InvalidArgument):
                await client.cross_entropy(X, Y + 9)
            slow = asyncio.ensure_future(client.softmax(np.zeros((400, 50_000))))
            await asyncio.sleep(0.05)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            loss, grad = await client.cross_entropy(X, Y, with_grad=True)
            assert grad.shape == X.shape
            assert (await client.status()).version.startswith("lossd/")
            assert len(await client.functions("sigmoid")) == 1

    asyncio.run(main())


def test_the_committed_torch_values(client):
    import json
    data = next(folder / "examples" / "data" for folder in pathlib.Path(__file__).resolve().parents
                if (folder / "examples" / "data").exists())
    for row in json.loads((data / "torch_values.json").read_text())["rows"]:
        if row["data_type"] == "bfloat16":
            continue
        inputs = {name: np.load(data / file) for name, file in row["inputs"].items()}
        result = client.evaluate(row["function"], inputs, row["attributes"], [row["output"]])
        array = result[row["output"]]
        assert array.dtype == row["data_type"] and list(array.shape) == row["shape"]
        np.testing.assert_allclose(
            array.astype(float).ravel(), row["torch_float64"],
            rtol=4 * np.finfo(array.dtype).eps)

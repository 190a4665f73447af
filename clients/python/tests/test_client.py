"""The clients against a private daemon; no torch."""

import os
import pathlib
import signal
import subprocess
import threading
import time

import numpy as np
import pytest

import lossd
import lossd._driver
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


def test_calls_are_pipelined_from_one_thread(client):
    pending = [client.submit("sigmoid", {"input": np.float64(n / 100)}) for n in range(1000)]
    results = [item.result()["output"] for item in reversed(pending)]
    np.testing.assert_allclose(results[::-1], 1 / (1 + np.exp(-np.arange(1000) / 100)), rtol=1e-14)
    assert all(item.done() for item in pending)
    assert pending[0].result() is pending[0].result()
    bad = client.submit("nll_loss", {"input": X, "target": Y + 5})
    for _ in range(2):
        with pytest.raises(lossd.InvalidArgument):
            bad.result()


def test_a_pending_call_is_cancelled(client):
    for _ in range(50):  # the daemon may be quicker
        slow = client.submit("softmax", {"input": np.zeros((400, 20_000))})
        slow.cancel()
        try:
            slow.result()
        except lossd.Cancelled:
            break
    else:
        pytest.fail("never cancelled")
    assert client.sigmoid(np.float32(0)) == 0.5


def test_big_tensors_both_ways_from_many_threads_do_not_block_each_other(client):
    x = np.linspace(-5, 5, 3_000_000).astype(np.float32)
    results = []
    threads = [threading.Thread(target=lambda: results.append(client.sigmoid(x, timeout=60))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert len(results) == 6
    for result in results:
        np.testing.assert_allclose(result[::9973], 1 / (1 + np.exp(-x[::9973].astype(float))), rtol=1e-6)


@pytest.fixture
def process(tmp_path):
    """A daemon at unix:{tmp_path}/lossd.sock that a test may stop."""
    process = subprocess.Popen(
        [lossd.testing.binary(), "--listen", f"unix:{tmp_path}/lossd.sock"], stderr=subprocess.DEVNULL)
    while not (tmp_path / "lossd.sock").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    yield process
    process.kill()
    process.wait()


def stop(process):
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


def test_a_daemon_that_hangs_before_its_hello_is_left_at_the_deadline(both, process, tmp_path):
    stop(process)
    began = time.monotonic()
    with pytest.raises(lossd.DeadlineExceeded):
        both.evaluate(f"unix:{tmp_path}/lossd.sock", "sigmoid", {"input": X}, timeout=0.2)
    assert time.monotonic() - began < 5


def test_a_hung_daemons_calls_end_while_the_connection_stays(process, tmp_path):
    with lossd.connect(f"unix:{tmp_path}/lossd.sock") as client:
        assert client.sigmoid(np.float32(0)) == 0.5
        stop(process)
        began = time.monotonic()
        with pytest.raises(lossd.DeadlineExceeded):
            client.sigmoid(X, timeout=0.1)
        with pytest.raises(lossd.DeadlineExceeded):  # cut off in the middle of its frame
            client.sigmoid(np.zeros(4_000_000, np.float32), timeout=0.1)
        with pytest.raises(lossd.DeadlineExceeded):
            client.sigmoid(X, timeout=0.1)
        assert time.monotonic() - began < 5
        process.send_signal(signal.SIGCONT)
        np.testing.assert_allclose(client.sigmoid(X), 1 / (1 + np.exp(-X)), rtol=1e-6)


def test_what_arrays_may_be_made_of(client):
    import array

    class Wrapped:
        """DLPack and nothing else."""

        def __init__(self, inner):
            self.inner = inner

        def __dlpack__(self, **options):
            return self.inner.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.inner.__dlpack_device__()

    class Arrayed:
        def __array__(self, dtype=None, copy=None):
            return np.zeros(2, np.float32)

    class Elsewhere(Wrapped):
        def __dlpack__(self, **options):
            raise BufferError("it is on another device")

    if hasattr(np, "from_dlpack"):
        assert client.sigmoid(Wrapped(np.zeros(2, np.float32))).tolist() == [0.5, 0.5]
        with pytest.raises(lossd.InvalidArgument, match="input: .*another device"):
            client.sigmoid(Elsewhere(np.zeros(2)))
    assert client.sigmoid(Arrayed()).tolist() == [0.5, 0.5]
    assert client.sigmoid(array.array("d", [0, 0])).dtype == np.float64
    assert client.sigmoid(memoryview(bytes(4)).cast("f")).tolist() == [0.5]
    assert client.sigmoid(np.float64(0)).shape == ()
    with pytest.raises(lossd.InvalidArgument, match="attribute dim: list"):
        client.softmax(X, dim=[1])
    with pytest.raises(lossd.InvalidArgument, match="input: the type is"):
        client.sigmoid(np.array(["a"]))


def test_a_payload_over_the_limit_is_refused_before_it_is_sent(monkeypatch):
    monkeypatch.setattr(lossd._driver, "SHARED_MIN", 1 << 60)  # in shared memory there is no payload
    with lossd.testing.serve(["--set", "limits.payload_bytes=1MiB"]) as address:
        with lossd.connect(address) as client:
            with pytest.raises(lossd.ResourceExhausted, match="the daemon takes payloads up to 1048576"):
                client.sigmoid(np.zeros(1 << 20))
            assert client.sigmoid(np.float32(0)) == 0.5


def test_more_calls_than_the_daemon_takes_at_once_wait_for_their_turn():
    """That asyncio's do is test_asyncio's."""
    outcomes = []
    with lossd.testing.serve(["--set", "limits.streams=8"]) as address, lossd.connect(address) as client:
        threads = [threading.Thread(target=lambda: outcomes.append(client.sigmoid(X))) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(outcomes) == 100
    np.testing.assert_allclose(outcomes, [1 / (1 + np.exp(-X))] * 100, rtol=1e-6)


def test_nothing_is_left_behind(address):
    """Neither threads nor descriptors, however a client is left."""
    def count():
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def use():
        with lossd.connect(address) as client:
            client.sigmoid(X)
        forgotten = lossd.connect(address)
        forgotten.sigmoid(X)

    use()
    deadline = time.monotonic() + 10
    time.sleep(0.2)
    before = count()
    for _ in range(20):
        use()
    while count() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count() <= before


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

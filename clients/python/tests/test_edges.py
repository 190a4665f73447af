"""Odd timeouts, arguments and arrays: they work where their meaning is clear, else the text names them."""

import asyncio
import copy
import inspect
import multiprocessing
import pickle
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

import lossd
import lossd._clock
import lossd._driver
import lossd.testing
from conftest import ROOT
from fakes import HI, answer, serving, tensor
from wire import ACK, MESSAGE, PING, frame

X = np.array([[1, 2, 3], [1, 2, 0], [0, 2, 1]], np.float32)
Y = np.array([2, 0, 1])
ZERO = {"input": np.float32(0)}


# ---- Timeouts

@pytest.mark.parametrize("timeout", [float("inf"), 1e10, 1e300, 10**400, np.float64(1e12), 3e7, 2147484, 9223372037])
def test_a_long_timeout_is_none(both, address, timeout):
    assert both.evaluate(address, "sigmoid", ZERO, timeout=timeout)["output"] == 0.5
    results, summary = both.stream(address, "sigmoid", [ZERO] * 3, timeout=timeout)
    assert len(results) == summary.batches == 3


def test_a_long_timeout_waits_while_the_daemon_takes_nothing(both):
    """poll's milliseconds are an int."""
    def serve(fake):
        fake.send(HI)
        fake.frame()
        time.sleep(0.3)

    with serving(serve) as address, pytest.raises(lossd.Unavailable):
        both.evaluate(address, "sigmoid", {"input": np.zeros(3_000_000, np.float32)}, timeout=3e8)


@pytest.mark.parametrize("timeout", [float("nan"), -1, -1e-9, float("-inf"), -10**400])
def test_a_timeout_that_is_none_is_refused(both, address, timeout):
    for call in (lambda: both.evaluate(address, "sigmoid", ZERO, timeout=timeout),
                 lambda: both.stream(address, "sigmoid", [ZERO], timeout=timeout)):
        with pytest.raises(ValueError, match="timeout is .*expected seconds"):
            call()
    for timeout in ("5", [1], object()):
        with pytest.raises(TypeError, match="timeout is .*expected seconds or None"):
            both.evaluate(address, "sigmoid", ZERO, timeout=timeout)
    for retry in (float("nan"), -1):
        with pytest.raises(ValueError, match="retry is .*expected seconds"):
            lossd.connect(address, retry=retry)


def test_no_place_is_lost_by_what_is_refused():
    def wrong(call):
        with pytest.raises((ValueError, TypeError, lossd.LossdError)):
            call()

    calls = [dict(timeout=float("nan")), dict(timeout="x"), dict(attributes={"dim": object()}),
             dict(attributes={"a": 2**70}), dict(outputs=[3]), dict(attributes=[1])]
    with lossd.testing.serve(["--set", "limits.streams=8"]) as address, lossd.connect(address) as client:
        for options in calls * 3:
            wrong(lambda: client.evaluate("softmax", {"input": X}, **options))
            wrong(lambda: client.submit("softmax", {"input": X}, **options))
        for inputs in ({"input": object()}, {"input": [[1], [2, 3]]}, [1], {"input": np.zeros(2, "U3")}):
            wrong(lambda: client.evaluate("softmax", inputs))
        assert client.sigmoid(np.float32(0), timeout=5) == 0.5

        # A bad batch is refused before it is sent: the stream goes on.
        with client.stream("sigmoid", window=2, timeout=20) as stream:
            for _ in range(5):
                wrong(lambda: stream.send({"input": [[1], [2, 3]]}))
                stream.send(ZERO)
                assert next(stream)["output"] == 0.5
            stream.finish()
            assert list(stream) == [] and stream.summary.batches == 5

    async def main(address):
        async with lossd.connect_async(address) as client:
            for options in calls * 3:
                with pytest.raises((ValueError, TypeError)):
                    await client.evaluate("softmax", {"input": X}, **options)
            assert await client.sigmoid(np.float32(0), timeout=5) == 0.5
            async with client.stream("sigmoid", window=2, timeout=20) as stream:
                for _ in range(5):
                    with pytest.raises(lossd.InvalidArgument):
                        await stream.send({"input": [[1], [2, 3]]})
                    await stream.send(ZERO)
                    assert (await stream.__anext__())["output"] == 0.5
                await stream.finish()
                assert [item async for item in stream] == [] and stream.summary.batches == 5

    with lossd.testing.serve(["--set", "limits.streams=8"]) as address:
        asyncio.run(main(address))


# ---- Arguments

def test_an_argument_that_is_none_is_named(client):
    for call, name in ((lambda: client.cross_entropy(X, Y, reduction=None), "reduction"),
                       (lambda: client.cross_entropy(X, Y, ignore_index=None), "ignore_index"),
                       (lambda: client.cross_entropy(X, Y, label_smoothing=None), "label_smoothing"),
                       (lambda: client.nll_loss(X, Y, reduction=None), "reduction"),
                       (lambda: client.nll_loss(X, Y, ignore_index=None), "ignore_index"),
                       (lambda: client.binary_cross_entropy(X, X, reduction=None), "reduction"),
                       (lambda: client.binary_cross_entropy_with_logits(X, X, reduction=None), "reduction"),
                       (lambda: client.multilabel_soft_margin_loss(X, X, reduction=None), "reduction"),
                       (lambda: client.softmax(X, dim=None), "dim"), (lambda: client.log_softmax(X, dim=None), "dim"),
                       (lambda: client.evaluate("softmax", {"input": X}, {"dim": None}), "attribute dim"),
                       (lambda: client.stream("softmax", [], {"dim": None}), "attribute dim")):
        with pytest.raises(lossd.InvalidArgument, match=name):
            call()
    np.testing.assert_array_equal(client.softmax(X, dtype=None), client.softmax(X))


def test_data_types_and_single_outputs_are_taken_as_they_are_meant(both, client, address):
    for dtype in (np.float64, np.dtype("float64"), "float64", np.dtype(">f8")):
        assert client.softmax(X, dtype=dtype).dtype == np.float64
        assert both.evaluate(address, "softmax", {"input": X}, {"dtype": dtype})["output"].dtype == np.float64
    with pytest.raises(lossd.InvalidArgument, match="dtype"):
        client.softmax(X, dtype=np.int32)
    with pytest.raises(lossd.InvalidArgument, match="attribute dtype: .*not a bool"):
        client.softmax(X, dtype=object())
    assert set(both.evaluate(address, "cross_entropy", {"input": X, "target": Y}, outputs="loss")) == {"loss"}
    results, _ = both.stream(address, "sigmoid", [ZERO], outputs="output")
    assert set(results[0]) == {"output"}
    np.testing.assert_array_equal(
        client.softmax(X, dim=np.array(0)), client.softmax(X, dim=np.int64(0)))
    for call, text in ((lambda: client.evaluate(5, {}), "function is 5"),
                       (lambda: client.evaluate("sigmoid", X), "inputs is ndarray"),
                       (lambda: client.evaluate("sigmoid", ZERO, "x"), "attributes is str"),
                       (lambda: client.evaluate("sigmoid", ZERO, outputs=[5]), "outputs has 5"),
                       (lambda: client.evaluate("sigmoid", ZERO, {"dim": 2**63}), "attribute dim: .*int64")):
        with pytest.raises(lossd.InvalidArgument, match=text):
            call()


# ---- Arrays

def test_matrices_and_masked_arrays(client):
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(X)
    for given in (matrix, matrix.T.T, np.ma.array(X), np.ma.array(X, mask=np.zeros_like(X, bool)),
                  X.view(np.memmap)):
        np.testing.assert_array_equal(client.softmax(given), client.softmax(X))
        assert type(client.softmax(given)) is np.ndarray
    with pytest.raises(lossd.InvalidArgument, match=r"input: 3 elements are masked.*filled"):
        client.softmax(np.ma.masked_greater(X, 1.5)[:, :2])
    with pytest.raises(lossd.InvalidArgument, match=r"target: 1 elements are masked"):
        client.cross_entropy(X, np.ma.array(Y, mask=[True, False, False]))


def test_what_is_no_array_is_named_with_what_to_do(client):
    class Wrong:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("not today")

    for value, text in (([[1], [2, 3]], "input: "), (Wrong(), "input: Wrong gives no array: not today"),
                        (X.astype(complex), r"input: the type is complex128.*take input.real"),
                        (X.astype(np.uint32), r"input: the type is uint32.*input.astype\(np.float32\)"),
                        (X.astype(np.longdouble), r"input: the type is .*input.astype\(np.float32\)"),
                        (object(), "input: the type is object"), ({1: 2}, "input: the type is object"),
                        (np.zeros(2, "f4,i4"), "input: the type is")):
        with pytest.raises(lossd.InvalidArgument, match=text):
            client.sigmoid(value)


def test_torchs_tensors(client):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(X)
    np.testing.assert_array_equal(client.softmax(x), client.softmax(X))
    narrow = x.bfloat16()
    loss, grad = client.cross_entropy(narrow, torch.from_numpy(Y), with_grad=True)
    exact = torch.nn.functional.cross_entropy(narrow.double(), torch.from_numpy(Y))
    assert float(loss) == pytest.approx(float(exact), rel=1e-2) and grad.shape == X.shape
    assert client.softmax(x, dtype=torch.float64).dtype == np.float64
    negative = (x + 1j * x).conj().imag
    np.testing.assert_array_equal(client.sigmoid(negative), client.sigmoid(-X))
    np.testing.assert_array_equal(client.softmax(x.t()), client.softmax(X.T))
    for tensor, text in ((x.clone().requires_grad_(), r"input: the tensor requires grad.*input.detach\(\)"),
                         (x.to(torch.float8_e5m2), "input is torch.float8_e5m2; .*call .to"),
                         (x.to(torch.complex64), "input is torch.complex64"), (x.to_sparse(), "input is .*to_dense"),
                         (x.to("meta"), "input is on meta.*call .cpu"), (x.to(torch.uint16), "input is torch.uint16")):
        with pytest.raises(lossd.InvalidArgument, match=text):
            client.sigmoid(tensor)


def test_a_payload_over_the_limit_is_refused_with_its_settings_name(monkeypatch):
    """Where there is no shared memory; with it there is no such limit."""
    with lossd.testing.serve(["--set", "limits.payload_bytes=1MiB"]) as address:
        with lossd.connect(address) as client:
            assert client.sigmoid(np.zeros(1 << 20)).shape == (1 << 20,)
        monkeypatch.setattr(lossd._driver, "SHARED_MIN", 1 << 60)
        with lossd.connect(address) as client:
            with pytest.raises(lossd.ResourceExhausted, match=r"8388608 bytes.*1048576 \(limits.payload_bytes\); shared"):
                client.sigmoid(np.zeros(1 << 20))
    with lossd.testing.serve(["--set", "limits.message_bytes=64KiB"]) as address, lossd.connect(address) as client:
        with pytest.raises(lossd.ResourceExhausted, match=r"message takes .*\(limits.message_bytes\)"):
            client.evaluate("sigmoid", ZERO, {"a": "x" * (1 << 17)})


MEMORY = """
import resource, sys
import numpy as np
import lossd
with lossd.connect(sys.argv[1]) as client:
    client.ping(5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        client.sigmoid(np.zeros(3, np.float32))
    except lossd.LossdError:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("message", [b"", tensor(shape=((1 << 30) - 1,), length=2**32 - 4)])
def test_a_header_that_claims_4_gib_costs_what_has_come(message):
    def serve(fake):
        fake.send(HI)
        ping = fake.frame()
        while ping[0] != PING:
            ping = fake.frame()
        fake.send(frame(PING, 0, ping[3], flags=ACK))
        fake.request()
        fake.send(struct.pack("<IIIBBH", 2**32 - 1, len(message), 1, MESSAGE, 1, 0) + message + bytes(5 << 20))

    with serving(serve) as address:
        result = subprocess.run([sys.executable, "-c", MEMORY, address], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 64 << 10  # KiB


@pytest.mark.parametrize("piece", [1000, 65536, 300_019])
def test_payloads_arrive_whole_in_whatever_pieces(both, piece):
    payload = bytes(range(250)) * 1200

    def serve(fake):
        fake.send(HI)
        for stream in (1, 2):
            fake.request()
            fake.send(answer(tensor(data_type=9, shape=(300_000,), length=300_000), payload, stream), piece=piece)
        fake.until_closed()

    with serving(serve) as address:
        for outcome in both.evaluate_in_turn(address, 2, "sigmoid", ZERO, outputs=["output"]):
            assert outcome["output"].tobytes() == payload


# ---- Copies of a client

def evaluate_in_child(client, queue):
    try:
        queue.put(float(client.sigmoid(np.float32(0))))
    except BaseException as error:
        queue.put(repr(error))


def evaluate_in_childs_loop(client, queue):
    async def main():
        async with client:
            return float(await client.sigmoid(np.float32(0)))

    try:
        queue.put(asyncio.run(main()))
    except BaseException as error:
        queue.put(repr(error))


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_client_in_another_process_connects_anew(address, method):
    context = multiprocessing.get_context(method)
    client = lossd.connect(address, retry=3)
    assert client.sigmoid(np.float32(0)) == 0.5
    for target, given in ((evaluate_in_child, client), (evaluate_in_childs_loop, lossd.connect_async(address))):
        queue = context.Queue()
        process = context.Process(target=target, args=(given, queue))
        process.start()
        assert queue.get(timeout=60) == 0.5
        process.join(60)
    assert client.sigmoid(np.float32(0)) == 0.5
    client.close()


def test_copies_and_pickles_of_a_client(address):
    with lossd.connect(address, retry=2.5) as client:
        client.sigmoid(np.float32(0))
        for other in (copy.copy(client), copy.deepcopy(client), pickle.loads(pickle.dumps(client))):
            with other:
                assert (other.address, other.retry) == (address, 2.5) and other is not client
                assert other.sigmoid(np.float32(0)) == 0.5
        assert client.sigmoid(np.float32(0)) == 0.5
    other = pickle.loads(pickle.dumps(lossd.connect_async(address, retry=1)))
    assert (other.address, other.retry) == (address, 1)


# ---- Types and help

def test_the_example_passes_mypy_strict(tmp_path):
    pytest.importorskip("mypy")
    file = ROOT / "clients" / "python" / "tests" / "typed_example.py"

    def check(file):
        return subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), str(file)],
            capture_output=True, text=True, cwd=tmp_path)

    result = check(file)
    assert result.returncode == 0, result.stdout + result.stderr
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import lossd\nclient = lossd.connect()\n"
        "client.cross_entropy([1.0], 0, reduction='average')\n"
        "client.cross_entropy([1.0], 0, with_grad=True).gradient\n")
    result = check(wrong)
    assert "wrong.py:3: error: No overload" in result.stdout, result.stdout
    assert 'wrong.py:4: error: "WithGrad" has no attribute "gradient"' in result.stdout, result.stdout


@pytest.mark.parametrize("kind", [lossd.Client, lossd.AsyncClient])
def test_help_says_what_arguments_results_and_errors_are(kind):
    for name in ("sigmoid", "softmax", "log_softmax", "binary_cross_entropy", "binary_cross_entropy_with_logits",
                 "cross_entropy", "nll_loss", "multilabel_soft_margin_loss"):
        method = getattr(kind, name)
        text = inspect.getdoc(method)
        for parameter in inspect.signature(method).parameters:
            assert parameter == "self" or f"{parameter}: " in text, (name, parameter)
        for word in ("Arguments:", "Returns", "Example:", "Raises:", "InvalidArgument", "DeadlineExceeded", "shape"):
            assert word in text, (name, word)


def test_a_result_with_its_gradient_is_a_pair_with_names(client):
    pair = client.cross_entropy(X, Y, with_grad=True)
    loss, grad = pair
    assert isinstance(pair, tuple) and pair.result is loss and pair.grad is grad and grad.shape == X.shape

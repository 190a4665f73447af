"""The part in C: small calls, prepared ones, whatever is given to them, from threads, forks and signals."""

import gc
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import lossd
from conftest import segments
from fakes import HI, serving
from lossd import _core, _driver

X = np.array([[2.0, 0.5, -1.0], [0.1, 1.5, 0.3]], np.float32)
Y = np.array([0, 1])


def truth(x, y):
    return np.mean(np.log(np.exp(x.astype(float)).sum(1)) - x[np.arange(len(y)), y])


def test_calls_of_every_kind_share_one_connection(client):
    before = client.status().connections
    client.cross_entropy(X, Y)
    client.sigmoid(np.zeros(200_000, np.float32))
    array = client.empty(200_000)
    assert len(list(client.stream("sigmoid", [{"input": X}, {"input": array}]))) == 2
    assert client.ping() > 0 and client.functions("sigmoid")
    assert client.status().connections == before


# ---- Prepared calls

def test_a_prepared_call_reads_its_arrays_anew_and_writes_to_the_same_results(client):
    x = X.copy()
    step = client.prepare("cross_entropy", x, Y, with_grad=True)
    loss, grad = step()
    assert loss == pytest.approx(truth(x, Y), rel=1e-6)
    np.testing.assert_array_equal(grad, client.cross_entropy(x, Y, with_grad=True).grad)
    x *= 3
    again = step()
    assert again.result is loss and again.grad is grad and loss == pytest.approx(truth(x, Y), rel=1e-6)
    np.testing.assert_array_equal(grad, client.cross_entropy(x, Y, with_grad=True).grad)


@pytest.mark.parametrize("name, arguments, options", [
    ("sigmoid", (X,), {}), ("sigmoid", (X.astype(">f8"),), {}), ("softmax", ([[1.0, 2.0]],), {"dim": 0}),
    ("cross_entropy", (X[:, ::-1], Y), {"reduction": "none", "label_smoothing": 0.1}),
    ("mse_loss", (X, X + 1), {"with_grad": ("input", "target")}),
    ("cross_entropy", (X, Y), {"weight": np.ones(3, np.float32)}),
    ("sigmoid", (np.zeros((0, 3), np.float32),), {}),
    ("sigmoid", (lossd.BFloat16Array(np.array([16256], np.uint16)),), {}),
    ("sigmoid", (np.zeros(100_000, np.float32),), {"with_grad": True}), ("relu", (np.array(3),), {}),
    ("gelu", (X,), {"approximate": "tanh", "timeout": 20}),
])
def test_a_prepared_call_gives_what_the_method_gives(client, name, arguments, options):
    expected = getattr(client, name)(*arguments, **options)
    step = client.prepare(name, *arguments, **options)
    for _ in range(3):
        found = step()
        assert type(found) is type(expected)
        for one, other in zip(flat(found), flat(expected)):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype and one.shape == other.shape


def flat(value):
    if isinstance(value, tuple):
        return [array for item in value for array in flat(item)]
    return [value.bits if isinstance(value, lossd.BFloat16Array) else value]


def test_what_is_wrong_with_a_prepared_call_is_said_as_of_any_other(client):
    with pytest.raises(TypeError):
        client.prepare("cross_entropy", X)
    with pytest.raises(lossd.NotFound):
        client.prepare("no_such_function", X)
    for _ in range(2):
        with pytest.raises(lossd.InvalidArgument, match="outside"):
            client.prepare("cross_entropy", X, Y + 7)()
    y = Y.copy()
    step = client.prepare("cross_entropy", X, y)
    assert step() == pytest.approx(truth(X, Y), rel=1e-6)
    y[:] = 9
    with pytest.raises(lossd.InvalidArgument):
        step()
    y[:] = Y
    assert step() == pytest.approx(truth(X, Y), rel=1e-6)


def test_a_prepared_call_lives_through_close_and_fork(client):
    step = client.prepare("cross_entropy", X, Y)
    first = step()
    client.close()
    assert step() == first
    child = os.fork()
    if child == 0:
        os._exit(0 if step() == first else 1)
    assert os.waitpid(child, 0)[1] == 0 and step() == first


BIG = np.random.default_rng(2).normal(size=(100, 1000)).astype(np.float32)


def test_a_big_prepared_call_writes_to_the_same_memory_also_after_a_fork_and_another_connection(client):
    x = client.empty(BIG.shape)
    x[...] = BIG
    step = client.prepare("sigmoid", x, with_grad=True)
    output, grad = step()
    own = segments()
    for factor in (1, -2):
        x[...] = BIG * factor
        again = step()
        assert again.result is output and again.grad is grad and segments() == own
        np.testing.assert_allclose(output, 1 / (1 + np.exp(-x)), rtol=1e-5)
        np.testing.assert_allclose(grad, output * (1 - output), rtol=1e-3, atol=1e-6)
    child = os.fork()
    if child == 0:
        x[...] = 0
        os._exit(0 if (step().result == 0.5).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_allclose(output, 1 / (1 + np.exp(-x)), rtol=1e-5)  # the child wrote to its own
    x[...] = BIG
    assert step().result is output
    np.testing.assert_allclose(output, 1 / (1 + np.exp(-BIG)), rtol=1e-5)
    client.close()
    before = output.copy()
    np.testing.assert_array_equal(step().result, before)


def test_threads_that_run_prepared_calls_while_another_one_forks(client):
    problems = []
    is_over = threading.Event()

    def work(factor):
        x = BIG * factor
        expected = 1 / (1 + np.exp(-x))
        step = client.prepare("sigmoid", x)
        try:
            while not is_over.is_set():
                np.testing.assert_allclose(step(), expected, rtol=1e-5)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(factor,)) for factor in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    is_over.set()
    for thread in threads:
        thread.join(30)
    assert not problems


# ---- Calls that are like the last ones

def test_calls_that_differ_in_little_are_not_taken_for_one_another(client):
    for _ in range(3):
        for shape in ((2, 3), (3, 2), (6,), (1, 6)):
            x = np.arange(6, dtype=np.float32).reshape(shape)
            assert client.sigmoid(x).shape == shape
            assert client.sigmoid(x.astype(np.float64)).dtype == np.float64
        for slope in (0.5, 0.25, -0.0, 0.0, 1):
            found = client.evaluate("leaky_relu", {"input": -X}, {"negative_slope": slope})["output"]
            expected = np.where(-X > 0, -X, -X * np.float32(slope))
            assert found.tobytes() == np.asarray(expected, np.float32).tobytes() or slope == 0
        for reduction in ("mean", "sum", "none"):
            assert client.cross_entropy(X, Y, reduction=reduction).shape == ((2,) if reduction == "none" else ())
        for outputs in (["loss"], ["grad.input"], ["loss", "grad.input"], ["grad.input", "loss"], "loss", ()):
            found = client.evaluate("cross_entropy", {"input": X, "target": Y}, None, outputs)
            assert set(found) == set(["loss"] if outputs in ("loss", ()) else outputs)


def test_results_are_each_calls_own(client):
    first = client.sigmoid(X)
    kept = first.copy()
    for _ in range(100):
        client.sigmoid(-X)
    np.testing.assert_array_equal(first, kept)
    first[:] = 7  # they can be written to
    assert client.sigmoid(X).max() < 1


# ---- Whatever is given

class Odd:
    """Whose every attribute raises."""

    def __getattr__(self, name):
        raise RuntimeError(name)


OBJECTS = [None, True, 0, -1, 2**63, 2**70, 0.5, float("nan"), 1j, "", "input", "a\0b", "\ud800", b"x", (), (1,), [], {},
           set(), Odd(),
           X, Y, X.T, X.astype(">f4"), X.astype(complex), np.array("text"), np.array([None]), np.zeros((0,), np.float32),
           np.ma.masked_array(X), memoryview(X), (X, "float32"), (X, "bfloat16"), (X.astype(np.float16), "bfloat16"),
           (X, 5), {"input": X}, {"input": (X, None)}, {5: X}, {"a\0b": X}, {"input": Odd()}, {"input": X, "target": Y},
           ["loss"], ("loss", 3),
           lossd, type, np.float32, np.dtype("float32"), iter([]), object(), 10**400, np.zeros([1] * 64, np.float32),
           np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (1 << 20, 1 << 20), (0, 0))]


def others(driver, chance, values):
    """What the driver has beside evaluations, with any arguments."""
    kind = chance.randrange(6)
    if kind == 0:
        call = driver.part(*values, chance.choice([0, 1, 2**64 - 1, -1, "x"]), chance.choice([b"", b"\xff", b"2\2\10\3", 5]))
        if call is not None:
            chance.choice([call.wait, call.answer, call.cancel])()
    elif kind == 1:
        call = driver.raw(chance.choice(["/lossd.v1.Daemon/GetStatus", "/x", values[0]]), chance.choice([b"", b"\xff", values[1]]),
                          10**6, 0)
        chance.choice([call.wait, call.answer, call.run])()
    elif kind == 2:
        driver.ping(chance.choice([1, 10**6, values[4]]), 0).wait()
    elif kind == 3:
        memory = driver.share(chance.choice([0, -1, 1, 100_000, 2**62, values[0]]), 0)
        if memory is not None:
            chance.choice([lambda: memoryview(memory), memory.wait, memory.is_settled, memory.is_there])()
            memory.wait()
            if memory.is_there():
                memoryview(memory)[-1] = 1
    else:
        stream = driver.stream(values[0], values[2], values[3], 10**6, 0, chance.choice([0, 1, 7, -1]))
        for _ in range(5 if stream is not None else 0):
            chance.choice([
                lambda: stream.wait(chance.choice([0, 1, 3, 9, -1, None])), lambda: stream.holds(chance.choice(OBJECTS)),
                lambda: stream.add(values[1], chance.choice([0, 1, -1, 2**64, "x"])), stream.take, stream.keeps, stream.check,
                stream.summary, lambda: stream.fail(chance.choice([1, 0, 99, "x"]), chance.choice(["no", None])),
                lambda: (stream.finish(), stream.wait(_core.ANSWERED))])()


def test_no_object_ends_the_process(address):
    seed = int(os.environ.get("LOSSD_SEED", "0")) or random.randrange(1 << 30)
    chance = random.Random(seed)
    print("LOSSD_SEED =", seed)
    driver = _driver.driver(address)
    begun = 0
    for _ in range(10_000):
        values = [chance.choice(OBJECTS) for _ in range(6)]
        if chance.random() < 0.7:
            values[0] = chance.choice(["sigmoid", "cross_entropy", "softmax"])
            values[1] = chance.choice(OBJECTS[-15:] + [{"input": X}])
            if chance.random() < 0.5:
                values[2] = chance.choice([None, {}, {"reduction": "sum"}])
                values[3] = chance.choice([(), "output", ["loss"], ("loss", "grad.input")])
            values[4:] = [chance.choice([0, 1, 10**6]), chance.choice([0, 1])]
        try:
            call = chance.choice([driver.begin, driver.prepare])(*values[:chance.choice([6, 6, 6, 5])])
            if call is not None:
                begun += 1
                chance.choice([call.wait, call.run, call.done, call.cancel, call.abandon, call.answer, call.seconds])()
        except (TypeError, ValueError, OverflowError, RuntimeError, lossd.LossdError):
            pass
        try:
            others(driver, chance, values)
        except (TypeError, ValueError, OverflowError, BufferError, RuntimeError, lossd.LossdError):
            pass
        for make in (lambda: _core.Driver(*values[:4]), lambda: _core.setup(*values[:5]), lambda: _core.Call()):
            if chance.random() < 0.05:
                with pytest.raises((TypeError, ValueError, OverflowError, UnicodeEncodeError)):
                    found = make()
                    raise TypeError(found)
    assert begun > 100
    driver.close()
    with lossd.connect(address) as client:
        assert client.sigmoid(np.float32(0)) == 0.5


def test_inputs_and_names_of_any_kind_are_refused_or_taken_as_before(client):
    for value in OBJECTS:
        for call in (lambda: client.evaluate("sigmoid", {"input": value}), lambda: client.evaluate(value, {"input": X}),
                     lambda: client.evaluate("sigmoid", value), lambda: client.evaluate("sigmoid", {"input": X}, value),
                     lambda: client.evaluate("sigmoid", {"input": X}, None, value),
                     lambda: client.evaluate("leaky_relu", {"input": X}, {"negative_slope": value})):
            if isinstance(value, np.ndarray) and value.nbytes > 1 << 30:
                continue
            try:
                call()
            except Exception as error:
                assert not isinstance(error, SystemError), (value, error)
    assert client.sigmoid(np.float32(0)) == 0.5


# ---- Threads, signals, forks

def test_many_threads_share_a_connection_and_each_gets_its_own_results(client):
    errors = []

    def work(number):
        try:
            for step in range(300):
                value = np.full((2, 3), number * 1000 + step, np.float32)
                if step % 3:
                    np.testing.assert_array_equal(client.relu(value), value)
                else:
                    waiting = [client.submit("relu", {"input": value + offset}) for offset in range(5)]
                    for offset, item in reversed(list(enumerate(waiting))):
                        np.testing.assert_array_equal(item.result()["output"], value + offset)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors and not any(thread.is_alive() for thread in threads)


def silent(fake):
    fake.send(HI)
    fake.until_closed()


def test_ctrl_c_ends_a_call_that_waits_also_where_another_thread_reads():
    # Where the machine is slow, the signal comes while the client connects, which it then does again.
    with serving(*[silent] * 4) as address, lossd.connect(address) as client:
        other = threading.Thread(target=lambda: pytest.raises(lossd.Unavailable, client.sigmoid, X), daemon=True)
        for has_leader in (False, True):
            if has_leader:
                other.start()
                time.sleep(0.2)
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
            began = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                client.sigmoid(X)
            assert 0.1 < time.monotonic() - began < 2
        client.close()
        other.join(5)
        assert not other.is_alive()


def test_close_ends_calls_of_other_threads():
    with serving(silent) as address:
        client = lossd.connect(address)
        caught = []

        def work():
            try:
                client.sigmoid(X)
            except lossd.Unavailable as error:
                caught.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        client.close()
        for thread in threads:
            thread.join(5)
        assert len(caught) == 4 and all("closed" in str(error) for error in caught)


def test_a_timeout_holds_while_another_call_waits_without_one():
    with serving(silent) as address, lossd.connect(address) as client:
        waiting = client.submit("sigmoid", {"input": X})
        began = time.monotonic()
        with pytest.raises(lossd.DeadlineExceeded):
            client.sigmoid(X, timeout=0.2)
        assert 0.15 < time.monotonic() - began < 2 and not waiting.done()


def test_a_fork_while_calls_are_under_way_leaves_them_to_the_parent(client):
    for _ in range(20):
        waiting = [client.submit("sigmoid", {"input": X}) for _ in range(10)]
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with pytest.raises(lossd.Unavailable, match="forked"):
                    waiting[0].result()
                del waiting
                gc.collect()
                code = 0 if client.sigmoid(np.float32(0)) == 0.5 else 2
            finally:
                os._exit(code)
        for item in waiting:
            assert item.result()["output"].shape == X.shape
        assert os.waitpid(child, 0)[1] == 0


LEAVING = """
import sys, threading, itertools
import numpy as np
import lossd
client = lossd.connect(sys.argv[1])
x = client.empty((300, 1000))
x[...] = 0
kept = client.softmax(x)
stream = client.stream("sigmoid", ({"input": x} for _ in itertools.count()))
next(stream)
pending = [client.submit("sigmoid", {"input": x}, outputs=["output"]) for _ in range(20)]
step = client.prepare("sigmoid", x)
step()
for _ in range(4):
    threading.Thread(target=lambda: [client.softmax(x) for _ in itertools.count()], daemon=True).start()
print(round(float(kept[0, 0]), 6))
"""


def test_a_process_ends_whatever_it_leaves_under_way(address):
    for _ in range(5):
        result = subprocess.run([sys.executable, "-c", LEAVING, address], capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stdout, result.stderr) == (0, "0.001\n", "")


def test_another_interpreter_is_refused():
    program = """
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
one = interpreters.create()
try:
    error = interpreters.run_string(one, "import lossd._core")
except Exception as caught:
    error = caught
print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    if "No module named" in result.stderr:
        pytest.skip("this Python shows no subinterpreters")
    assert "interpreter" in result.stdout + result.stderr, result


def test_nothing_is_kept_of_calls_that_are_over(client):
    """Objects and resident memory, over calls that end well, badly, and unseen."""
    step = client.prepare("cross_entropy", X, Y, with_grad=True)
    big = np.zeros((100, 1000), np.float32)
    big_step = client.prepare("sigmoid", big, with_grad=True)

    def work(count):
        for number in range(count):
            client.cross_entropy(X, Y, with_grad=True)
            step()
            if number % 20 == 0:
                client.softmax(client.sigmoid(big))
                big_step()
                client.empty(big.shape)[:] = 1
                client.submit("sigmoid", {"input": big})
            if number % 100 == 0:
                with client.stream("cross_entropy", [{"weight": np.ones(3, np.float32)}, {"input": X, "target": Y}] * 3) as stream:
                    next(stream)
                assert len(list(client.stream("sigmoid", [{"input": big}] * 2))) == 2
            client.submit("sigmoid", {"input": X[:, :1 + number % 3].copy()})
            if number % 10 == 0:
                with pytest.raises(lossd.InvalidArgument):
                    client.cross_entropy(X, Y + 9)
                client.submit("sigmoid", {"input": X}).cancel()

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    work(3000)
    big_step = client.prepare("sigmoid", big, with_grad=True)
    gc.collect()
    objects, bytes_before = len(gc.get_objects()), resident()
    work(int(os.environ.get("LOSSD_LEAK_CALLS", "20000")))
    gc.collect()
    assert len(gc.get_objects()) - objects < 200
    assert resident() - bytes_before < 3 << 20

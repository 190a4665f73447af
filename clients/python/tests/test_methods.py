"""Functions as methods, which are made from the daemon's declarations, and functions by name, for both clients."""

import asyncio
import inspect
import re
import subprocess
import sys
import time

import numpy as np
import pytest

import lossd
from conftest import ROOT
from lossd._functions import Functions

SOURCE = ROOT / "clients" / "python"
sys.path[:0] = [str(ROOT / "Benchmarks"), str(SOURCE)]
import make_functions  # noqa: E402
from function_benchmark import catalogue  # noqa: E402

NAMES = sorted(name for name in vars(Functions) if not name.startswith("_"))
SHAPES = {"ctc_loss": (8, 2, 5)}


def inputs_of(name, dtype=np.float32, shape=None):
    """Inputs that the function takes, in its order."""
    generator = np.random.default_rng(11)
    found = {}
    for item in catalogue.operands(name, shape or SHAPES.get(name, (4, 6))):
        if item.signs:
            array = generator.choice([-1, 1], item.shape).astype(dtype)
        elif item.kind == catalogue.INT:
            array = generator.integers(item.low, item.high, item.shape)
        else:
            array = generator.uniform(item.low, item.high, item.shape).astype(dtype)
        found[item.name] = array
    return found


def attributes_of(name):
    """The attributes that have no default."""
    return {"dim": 1} if name == "logsumexp" else catalogue.function(name)[1]


def test_the_methods_are_those_of_the_declarations(address):
    """What make_functions.py makes of the built daemon's declarations is what is committed."""
    program = lossd.testing.binary()
    if not program.endswith("/lossd"):
        pytest.skip("no lossctl beside it")
    made = subprocess.run([sys.executable, SOURCE / "make_functions.py", "--print", "bash", "-c",
                           'exec -a lossctl "$0" "$@"', program], capture_output=True, text=True, check=True).stdout
    assert made == (SOURCE / "src" / "lossd" / "_functions.py").read_text(), "make client-functions"


def test_every_function_of_the_daemon_is_a_method_and_nothing_hides_one(client):
    assert NAMES == sorted(item.name for item in client.functions())
    for kind in (lossd.Client, lossd.AsyncClient):
        for name in NAMES:
            assert getattr(kind, name) is getattr(Functions, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_method_gives_what_evaluate_gives(client, name):
    inputs, attributes = inputs_of(name), attributes_of(name)
    method = getattr(client, name)
    description, = client.functions(name)
    result, = (item.name for item in description.outputs if item.default)
    # Class indices and lengths have none.
    gradients = [item.name for item in description.outputs if item.name.startswith("grad.") and
                 inputs.get(item.name[len("grad."):], np.zeros(0, int)).dtype.kind == "f"]
    names = tuple(gradient[len("grad."):] for gradient in gradients)

    def expected(*outputs, **upstream):
        return list(client.evaluate(name, {**inputs, **upstream}, attributes, outputs).values())

    # The inputs that a method must have come first, by position.
    positional = list(inputs.values())
    alone = expected(result)
    np.testing.assert_array_equal(method(*positional, **attributes), alone[0])
    found = method(*positional, **attributes, with_grad=True, timeout=60)
    assert type(found) is lossd.WithGrad
    for mine, its in zip(found, expected(result, gradients[0])):
        np.testing.assert_array_equal(mine, its)
    several = method(**inputs, **attributes, with_grad=names[::-1])
    assert type(several) is lossd.WithGrads and len(several.grads) == len(names)
    for mine, its in zip((several.result, *several.grads), expected(result, *gradients[::-1])):
        np.testing.assert_array_equal(mine, its)
    last = method(**inputs, **attributes, with_grad=names[-1])
    np.testing.assert_array_equal(last.grad, expected(result, gradients[-1])[1])
    upstream = np.linspace(0.25, 0.75, found.result.size, dtype=np.float32).reshape(found.result.shape)
    scaled = method(**inputs, **attributes, with_grad=True, grad=upstream)
    np.testing.assert_array_equal(scaled.grad, expected(result, gradients[0], **{f"grad.{result}": upstream})[1])
    assert not np.array_equal(scaled.grad, found.grad)
    # The same by its name.
    by_name = client.function(name, timeout=60)
    np.testing.assert_array_equal(by_name(*positional, **attributes), alone[0])
    assert by_name.__name__ == name and description.summary in by_name.__doc__


def test_the_methods_of_asyncio(address):
    async def main():
        async with lossd.connect_async(address) as client:
            for name in NAMES:
                inputs, attributes = inputs_of(name), attributes_of(name)
                found = await getattr(client, name)(**inputs, **attributes, with_grad=True)
                by_name = await client.function(name)
                assert type(found) is lossd.WithGrad
                again = await by_name(**inputs, **attributes, with_grad=True)
                with lossd.connect(address) as other:
                    expected = getattr(other, name)(**inputs, **attributes, with_grad=True)
                for mine in (found, again):
                    np.testing.assert_array_equal(mine.result, expected.result)
                    np.testing.assert_array_equal(mine.grad, expected.grad)
            x = np.ones((2, 3), np.float32)
            loss, (a, b) = await client.mse_loss(x, x * 2, with_grad=("target", "input"))
            assert loss == 1 and a[0, 0] == -b[0, 0] and a[0, 0] > 0
            with pytest.raises(lossd.NotFound, match="no_such_loss"):
                await client.function("no_such_loss")

    asyncio.run(main())


def test_defaults_are_the_daemons(client):
    """Values that make_functions.py writes are those that the daemon takes where none is given."""
    for name in NAMES:
        inputs, attributes = inputs_of(name), attributes_of(name)
        result = getattr(client, name)(**inputs, **attributes)
        of_daemon, = client.evaluate(name, inputs, attributes).values()
        np.testing.assert_array_equal(result, of_daemon, err_msg=name)


def test_what_a_method_refuses(client):
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(lossd.InvalidArgument, match="dim"):
        client.softmax(x, dim=None)
    with pytest.raises(lossd.InvalidArgument, match="reduction"):
        client.mse_loss(x, x, None)
    with pytest.raises(TypeError, match="positional"):
        client.cross_entropy(x, [0, 1], None, -100, "mean", 0.0, 30.0)  # what is not torch's goes by name
    with pytest.raises(lossd.InvalidArgument, match="grad.no_input"):
        client.mse_loss(x, x, with_grad="no_input")
    with pytest.raises(lossd.InvalidArgument, match="with_grad has 1"):
        client.mse_loss(x, x, with_grad=("input", 1))
    by_name = client.function("mse_loss")
    with pytest.raises(TypeError, match="mse_loss takes 3 inputs .input, target, weight. by position, 4 were given"):
        by_name(x, x, x, x)
    with pytest.raises(TypeError, match="input was given twice"):
        by_name(x, input=x)
    with pytest.raises(TypeError, match="mse_loss has no argument betta, expected one of input, target, weight, reduction"):
        by_name(x, x, betta=1)
    with pytest.raises(lossd.InvalidArgument, match="target"):
        by_name(x)
    for name in ("", None, 3, b"mse_loss"):
        with pytest.raises((lossd.InvalidArgument, TypeError)):
            client.function(name)


def test_a_function_without_inputs_default_or_gradient_by_its_name():
    """What a plugin may declare, and what then is asked for."""
    from types import SimpleNamespace

    from lossd._named import Named, function

    class Client:
        def _evaluate(self, *asked):
            return asked

    for outputs, result in (([], ""), ([SimpleNamespace(name="total", default=False)], "total")):
        description = SimpleNamespace(name="odd", summary="odd", inputs=[], outputs=outputs, attributes=[])
        odd = function(Client(), Named("odd", [description]))
        assert odd(timeout=3) == ("odd", result, {}, {}, "", False, None, 3) and odd.__name__ == "odd"
        with pytest.raises(TypeError, match="odd takes 0 inputs"):
            odd(1)


def test_a_plugins_function_by_its_name(tmp_path):
    subprocess.run(["gcc", "-std=c99", "-O2", "-shared", "-fPIC", "-I", str(ROOT / "sdk" / "include"), "-o",
                    str(tmp_path / "hinge.so"), str(ROOT / "Plugins" / "Examples" / "hinge.c")], check=True)
    x, y = np.array([[0.5, -2.0]], np.float32), np.array([[1.0, 1.0]], np.float32)
    with lossd.testing.serve(["--plugin-dir", str(tmp_path)]) as address:
        with lossd.connect(address) as client:
            deadline = time.monotonic() + 20
            while not any(item.name == "hinge" for item in client.functions()) and time.monotonic() < deadline:
                time.sleep(0.01)
            hinge = client.function("hinge")
            loss, grad = hinge(x, target=y, reduction="sum", with_grad=True)
            assert loss == 3.5 and grad.tolist() == [[-1, -1]]
            assert not hasattr(client, "hinge") and "target" in hinge.__doc__

        async def main():
            async with lossd.connect_async(address) as client:
                return await (await client.function("hinge"))(x, y, reduction="sum")

        assert asyncio.run(main()) == 3.5


def test_a_signature_is_torchs(client):
    """tests/test_torch_methods.py compares all; here without torch the most used one."""
    names = list(inspect.signature(lossd.Client.cross_entropy).parameters)
    assert names == ["self", "input", "target", "weight", "ignore_index", "reduction", "label_smoothing", "softcap",
                     "lse_square_scale", "with_grad", "grad", "timeout"]
    kinds = inspect.signature(lossd.Client.cross_entropy).parameters
    assert kinds["softcap"].kind is kinds["with_grad"].kind is inspect.Parameter.KEYWORD_ONLY


def test_every_method_says_what_it_takes():
    for name in NAMES:
        text = getattr(Functions, name).__doc__
        arguments = [item for item in inspect.signature(getattr(Functions, name)).parameters if item != "self"]
        for argument in arguments:
            assert re.search(rf"^ +{argument}: \S", text, re.M), f"{name}: {argument}"


def test_the_orders_are_of_functions_that_are_there():
    assert set(make_functions.ORDERS) | set(make_functions.EXAMPLES) <= set(NAMES)

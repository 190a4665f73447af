"""The order of the methods' arguments is torch's."""

import inspect
import re
import sys

import pytest

torch = pytest.importorskip("torch")

import lossd  # noqa: E402
from conftest import ROOT  # noqa: E402

sys.path.insert(0, str(ROOT / "clients" / "python"))
import make_functions  # noqa: E402

#: What a daemon has no use for.
LEFT_OUT = {"inplace", "size_average", "reduce", "_stacklevel", "out", "training", "self"}
#: torch's names where lossd has others.
NAMES = {"logit": {"self": "input"}}


def parameters(name):
    """Of torch's function: names and defaults."""
    function = next(getattr(place, name) for place in (torch.nn.functional, torch, torch.special) if hasattr(place, name))
    try:
        found = inspect.signature(function).parameters
        return [(item.name, item.default) for item in found.values()]
    except ValueError:  # written in C: the docstring has it
        text = re.search(rf"{name}\((.*?)\)", function.__doc__, re.S)[1]
        parts = [part.strip() for part in text.replace("*", "").split(",") if part.strip()]
        return [(part.split("=")[0].strip().split(" ")[-1], inspect.Parameter.empty) for part in parts]


@pytest.mark.parametrize("name", sorted(make_functions.ORDERS))
def test_the_order_of_the_arguments_is_torchs(name):
    theirs = [item for item in parameters(name) if item[0] not in LEFT_OUT]
    mine = {item.name: item for item in inspect.signature(getattr(lossd.Client, name)).parameters.values()}
    order = [item.name for item in mine.values() if item.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD][1:]
    assert order == [item for item, _ in theirs]
    for item, default in theirs:
        is_dim = item == "dim" and name in ("softmax", "softmin", "log_softmax")
        if default is not inspect.Parameter.empty and not is_dim:
            assert mine[item].default == default, item


def test_every_function_of_torchs_with_more_than_an_input_has_an_order():
    for name, method in vars(lossd._functions.Functions).items():
        if name.startswith("_") or not any(hasattr(place, name) for place in (torch.nn.functional, torch.special, torch)):
            continue
        mine = [item.name for item in inspect.signature(method).parameters.values()
                if item.name not in ("self", "with_grad", "grad", "timeout")]
        if len(mine) > 1:
            assert name in make_functions.ORDERS, name

"""lossd.torch's elementwise functionals and modules beside torch's own: values, gradients, types, broadcasting."""

import inspect
import itertools

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

import lossd  # noqa: E402
import lossd.torch as lt  # noqa: E402
from lossd import _elements  # noqa: E402


@pytest.fixture(autouse=True)
def daemon(address):
    lt.use(address)


ARGUMENTS = {
    "hardtanh": [(), (-0.5, 2.0)], "threshold": [(0.25, -3.0)], "leaky_relu": [(), (0.5,)],
    "rrelu": [(), (0.25, 0.5)],
    "elu": [(), (0.5,)], "celu": [(), (0.5,)], "gelu": [()], "softplus": [(), (2.0, 3.0)], "hardshrink": [(), (1.5,)],
    "softshrink": [(), (1.25,)],
}
LOSS_ARGUMENTS = {
    "huber_loss": [{}, {"delta": 0.25}], "smooth_l1_loss": [{}, {"beta": 0.0}, {"beta": 3.5}],
    "kl_div": [{}, {"log_target": True}], "hinge_embedding_loss": [{}, {"margin": 0.25}],
    "poisson_nll_loss": [{}, {"full": True}, {"log_input": False, "eps": 0.5}],
}


def torchs(name):
    return torch.tanh if name == "tanh" else getattr(F, name)


@pytest.mark.parametrize("name", _elements.ACTIVATIONS)
def test_activations_are_torchs(name):
    torch.manual_seed(1)
    for arguments, dtype in itertools.product(ARGUMENTS.get(name, [()]), (torch.float32, torch.float64)):
        x = (torch.randn(4, 5, dtype=dtype) * 3).requires_grad_()
        g = torch.randn(4, 5, dtype=dtype)
        ours, theirs = getattr(lt, name)(x, *arguments), torchs(name)(x, *arguments)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(torch.autograd.grad(ours, x, g), torch.autograd.grad(theirs, x, g))


def has_signature(name):
    """Not where torch's is a function of C."""
    try:
        return len(inspect.signature(torchs(name)).parameters) > 0
    except ValueError:
        return False


@pytest.mark.parametrize("name", list(filter(has_signature, _elements.ACTIVATIONS + _elements.LOSSES)))
def test_arguments_are_torchs_in_its_order(name):
    theirs = inspect.signature(torchs(name)).parameters
    ours = inspect.signature(getattr(lt, name)).parameters
    assert [(item.name, item.default) for item in ours.values()] == [(item.name, item.default) for item in theirs.values()]


def pair(name, shape, target_shape, dtype, other, attributes):
    x, y = torch.randn(shape, dtype=dtype), torch.randn(target_shape, dtype=other)
    if name in ("soft_margin_loss", "hinge_embedding_loss"):
        y = y.sign()
    elif name == "kl_div" and not attributes:
        y = y.abs() + 0.01
    elif name == "poisson_nll_loss":
        y = y.abs() * 2
        x = x if attributes.get("log_input", True) else x.abs()
    return x, y


@pytest.mark.filterwarnings("ignore:Using a target size", "ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("name", _elements.LOSSES)
def test_losses_are_torchs_with_types_and_broadcasting(name):
    torch.manual_seed(2)
    is_signed = name in ("soft_margin_loss", "hinge_embedding_loss")
    types = ((torch.float32, torch.float32), (torch.float64, torch.float64), (torch.float32, torch.float64))
    shapes = (((4, 5), (4, 5)), ((), ()), ((4, 5), (5,)), ((4, 5), (4, 1)))
    if not is_signed:
        shapes += (((5,), (4, 5)), ((4, 1), (1, 5)))
    for attributes, (dtype, other), (shape, target_shape), reduction in itertools.product(
            LOSS_ARGUMENTS.get(name, [{}]), types, shapes, ("mean", "sum", "none")):
        x, y = pair(name, shape, target_shape, dtype, other, attributes)
        is_mixed = dtype != other
        tensors = (x.requires_grad_(),) if is_signed or is_mixed else (x.requires_grad_(), y.requires_grad_())
        if name == "huber_loss" and is_mixed:
            tensors = ()  # torch has no backward there.
        ours = getattr(lt, name)(x, y, reduction=reduction, **attributes)
        theirs = getattr(F, name)(x, y, reduction=reduction, **attributes)
        text = f"{name} {attributes} {dtype} {other} {shape} {target_shape} {reduction}"
        assert ours.dtype == theirs.dtype, text
        # torch takes the logarithm in the input's type, lossd in the promoted one.
        near = {"rtol": 1e-5, "atol": 1e-5} if name == "poisson_nll_loss" and is_mixed else {}
        torch.testing.assert_close(ours, theirs, msg=lambda m: f"{text}: {m}", **near)
        if tensors:
            for a, b in zip(torch.autograd.grad(ours.sum(), tensors), torch.autograd.grad(theirs.sum(), tensors)):
                torch.testing.assert_close(a, b, msg=lambda m: f"{text}: gradient: {m}", **near)


def test_batchmean_divides_by_rows():
    x, y = torch.randn(4, 5).log_softmax(1), torch.rand(4, 5)
    torch.testing.assert_close(lt.kl_div(x, y, reduction="batchmean"), F.kl_div(x, y, reduction="batchmean"))
    torch.testing.assert_close(
        lt.kl_div(x[0, 0], y[0, 0], reduction="batchmean"), F.kl_div(x[0, 0], y[0, 0], reduction="batchmean"))


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("name", _elements.MODULES)
def test_modules_are_torchs(name):
    arguments = {"Threshold": (0.5, -1.0), "RReLU": (0.25, 0.5), "Hardtanh": (-0.5, 2.0)}.get(name, ())
    ours, theirs = getattr(lt, name)(*arguments).eval(), getattr(torch.nn, name)(*arguments).eval()
    assert isinstance(ours, getattr(torch.nn, name)) and repr(ours) == repr(theirs)
    x = torch.randn(3, 4)
    tensors = (x, torch.rand(3, 4)) if name.endswith("Loss") else (x,)
    torch.testing.assert_close(ours(*tensors), theirs(*tensors))


def test_what_is_not_computed_is_refused():
    x = torch.randn(3)
    with pytest.raises(NotImplementedError, match="rrelu in training"):
        lt.rrelu(x, training=True)
    with pytest.raises(NotImplementedError, match="l1_loss has no weight"):
        lt.l1_loss(x, x, weight=x)
    with pytest.raises(lossd.InvalidArgument, match="delta is -1"):
        lt.huber_loss(x, x, delta=-1.0)
    with pytest.raises(lossd.LossdError, match="grad.target"):
        lt.hinge_embedding_loss(x, x.clone().requires_grad_()).backward()

"""lossd.torch's elementwise functionals and modules beside torch's own: values, gradients, types, broadcasting."""

import inspect
import itertools
import math

import numpy as np
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


@pytest.mark.parametrize("dtype", (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8))
def test_rectifiers_leave_integers_what_they_are(dtype):
    x = torch.tensor([-3, 0, 1, 5, 100, 7, 2**62]).to(dtype)
    for name, arguments in (
            ("relu", ()), ("relu6", ()), ("hardtanh", (0.0, 5.9)), ("hardtanh", (-2.5, 3.5)), ("hardtanh", (0.0, 300.0)),
            ("threshold", (1.9, 2.7)), ("threshold", (1.0, 300.0)), ("threshold", (-4.0, 1.0))):
        try:
            expected = getattr(F, name)(x, *arguments)
        except RuntimeError:
            with pytest.raises(lossd.InvalidArgument, match="which input's type .* does not hold"):
                getattr(lt, name)(x, *arguments)
            continue
        same(getattr(lt, name)(x, *arguments), expected, f"{name} {arguments}")


@pytest.mark.parametrize("name", (
    "mse_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss", "soft_margin_loss", "hinge_embedding_loss"))
def test_truth_values_are_targets_where_torch_takes_them(name):
    target = torch.tensor([True, False, True, True, False])
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.tensor([0.5, 1.5, -2.0, 0.0, 3.0], dtype=dtype)
        torch.testing.assert_close(getattr(lt, name)(x, target), getattr(F, name)(x, target))


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
        torch.testing.assert_close(ours, theirs, msg=lambda m: f"{text}: {m}", equal_nan=True, **near)
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
    count = {"GaussianNLLLoss": 3, "MarginRankingLoss": 3}.get(name, 2 if name.endswith("Loss") else 1)
    tensors = (x, *[torch.rand(3, 4) for _ in range(count - 1)])
    torch.testing.assert_close(ours(*tensors), theirs(*tensors))


def test_what_is_not_computed_is_refused():
    x = torch.randn(3)
    with pytest.raises(NotImplementedError, match="rrelu in training"):
        lt.rrelu(x, training=True)
    with pytest.raises(lossd.InvalidArgument, match="delta is -1"):
        lt.huber_loss(x, x, delta=-1.0)
    with pytest.raises(RuntimeError, match="input's type, which is torch.int64"):
        lt.huber_loss(torch.tensor([3]), torch.tensor([1.5]))
    with pytest.raises(RuntimeError, match="target torch.int64, expected floating-point"):
        lt.kl_div(torch.tensor([0.5]), torch.tensor([1]))
    with pytest.raises(lossd.LossdError, match="grad.target"):
        lt.function("hinge_embedding_loss")(x, x.clone().requires_grad_()).backward()


# ---- The daemon's own broadcasting and promotion, by its functions' names ----

def same(ours, theirs, text, **near):
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, text
    torch.testing.assert_close(ours, theirs, msg=lambda m: f"{text}: {m}", equal_nan=True, **near)


def both(name, theirs, tensors, attributes, text, **near):
    """Values, and gradients of all inputs that require them, of the daemon's function and of torch's."""
    ours, theirs = lt.function(name)(*tensors, **attributes), theirs(*tensors)
    same(ours, theirs, text, **near)
    wanted = [tensor for tensor in tensors if tensor.requires_grad]
    if wanted:
        g = torch.randn(theirs.shape, dtype=torch.float64).to(theirs.dtype)
        for a, b in zip(torch.autograd.grad(ours, wanted, g), torch.autograd.grad(theirs, wanted, g)):
            same(a, b, f"{text}: gradient", **near)


SHAPES = (((4, 5), (4, 5)), ((4, 5), (5,)), ((4, 5), (4, 1)), ((5,), (4, 5)), ((4, 1), (1, 5)), ((3, 1, 5), (4, 1)), ((), (3,)),
          ((3,), ()), ((2, 1, 4), (2, 3, 1)), ((0, 3), (3,)), ((2000, 3), (3,)), ((700, 1), (1, 40)), ((3, 5000), (3, 1)),
          ((20000,), ()), ((1,), (40000,)), ((30, 1, 30), (30, 30, 1)))


@pytest.mark.filterwarnings("ignore:Using a target size", "ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("name", [name for name in _elements.LOSSES if name != "soft_margin_loss"])
def test_the_daemon_broadcasts_both_ways_and_sums_gradients(name):
    torch.manual_seed(3)
    for (shape, target_shape), reduction, dtype in itertools.product(
            SHAPES, ("mean", "sum", "none"), (torch.float32, torch.float64)):
        x, y = pair(name, shape, target_shape, dtype, dtype, {})
        x.requires_grad_()
        if name != "hinge_embedding_loss":
            y.requires_grad_()
        # A sum of thousands in float32 is torch's own to round.
        near = {"rtol": 3e-5, "atol": 3e-4} if dtype == torch.float32 and max(x.numel(), y.numel()) > 500 else {}
        both(name, lambda a, b: getattr(F, name)(a, b, reduction=reduction), (x, y), {"reduction": reduction},
             f"{name} {shape} {target_shape} {reduction} {dtype}", **near)


@pytest.mark.parametrize("name", ["xlogy", "xlog1py"])
def test_activations_of_two_operands(name):
    torch.manual_seed(4)
    for (shape, other_shape), dtype in itertools.product(SHAPES, (torch.float32, torch.float64)):
        x, y = torch.randn(shape, dtype=dtype).requires_grad_(), (torch.rand(other_shape, dtype=dtype) + 0.1).requires_grad_()
        near = {"rtol": 3e-5, "atol": 3e-4} if dtype == torch.float32 else {}
        both(name, getattr(torch.special, name), (x, y), {}, f"{name} {shape} {other_shape}", **near)
    zero = torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0])
    other = torch.tensor([0.0, -1.0, float("nan"), 0.0, -3.0])
    same(lt.function(name)(zero, other), getattr(torch.special, name)(zero, other), name)


def test_prelu_and_glu_are_torchs():
    torch.manual_seed(5)
    for shape, weights in (((4, 5), 5), ((4, 5), 1), ((4, 3, 6), 3), ((7,), 1), ((), 1), ((30, 3, 20, 20), 3), ((0, 3), 3)):
        for dtype in (torch.float32, torch.float64):
            x = torch.randn(shape, dtype=dtype).requires_grad_()
            weight = torch.randn(weights, dtype=dtype).requires_grad_()
            both("prelu", F.prelu, (x, weight), {}, f"{shape} {weights}", rtol=3e-5, atol=3e-4)
    with pytest.raises(lossd.InvalidArgument, match="weight has 4 numbers, expected 1 or as many"):
        lt.prelu(torch.randn(4, 5), torch.randn(4))
    for shape, dim in (((4, 6), -1), ((4, 6), 0), ((6,), 0), ((2, 6, 3), 1), ((0, 4), 1), ((4, 0), 1), ((3, 6000), 1)):
        x = torch.randn(shape, dtype=torch.float64).requires_grad_()
        both("glu", lambda a: F.glu(a, dim), (x,), {"dim": dim}, f"{shape} {dim}")
    for shape, dim, text in (((5,), 0, "size 5 along dim 0"), ((), 0, "scalar"), ((2, 2), 2, "dim is 2")):
        with pytest.raises(lossd.InvalidArgument, match=text):
            lt.glu(torch.randn(shape), dim)


def test_gaussian_nll_and_margin_ranking_are_torchs():
    torch.manual_seed(6)
    shapes = (((4, 5), (4, 5), (4, 5)), ((4, 5), (4, 5), (4,)), ((4, 5), (5,), (4, 1)), ((4, 5), (5,), (1, 5)), ((4, 4), (4, 4), (4,)),
              ((2, 3, 4), (2, 3, 4), (2, 3)), ((2, 3, 4), (2, 3, 4), (2, 1, 4)), ((5,), (5,), ()), ((3, 1), (3, 5), (3, 1)))
    for (shape, target, var), full, reduction in itertools.product(shapes, (False, True), ("mean", "sum", "none")):
        tensors = [torch.randn(shape, dtype=torch.float64), torch.randn(target, dtype=torch.float64),
                   torch.rand(var, dtype=torch.float64) + 0.1]
        tensors = tuple(tensor.requires_grad_() for tensor in tensors)
        attributes = {"full": full, "reduction": reduction}
        both("gaussian_nll_loss", lambda *t: F.gaussian_nll_loss(*t, **attributes), tensors, attributes, f"{shape} {var}")
        same(lt.gaussian_nll_loss(*tensors, **attributes), F.gaussian_nll_loss(*tensors, **attributes), "lossd.torch")
    x = torch.randn(4, 5)
    for var in ((5,), (1, 1), (4, 5, 1)):
        with pytest.raises(lossd.InvalidArgument, match="var is"):
            lt.function("gaussian_nll_loss")(x, x, torch.ones(var))
    with pytest.raises(lossd.InvalidArgument, match="var is -0.5 at element 0, expected at least 0"):
        lt.gaussian_nll_loss(x, x, torch.full((4, 5), -0.5))
    for (a, b, c), margin in itertools.product((((5,),) * 3, ((4, 5), (4, 1), (1, 5)), ((1, 5), (4, 5), (4, 1))), (0.0, 0.5)):
        tensors = tuple(torch.randn(s, dtype=torch.float64).requires_grad_() for s in (a, b, c))
        both("margin_ranking_loss", lambda *t: F.margin_ranking_loss(*t, margin=margin), tensors, {"margin": margin}, f"{a} {b}")
        same(lt.margin_ranking_loss(*tensors, margin=margin), F.margin_ranking_loss(*tensors, margin=margin), "lossd.torch")
    with pytest.raises(lossd.InvalidArgument, match="as many dimensions as input1"):
        lt.function("margin_ranking_loss")(x, x[0], x)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("name", ["l1_loss", "mse_loss", "huber_loss"])
def test_weights_of_elements_are_torchs(name):
    torch.manual_seed(7)
    for reduction, dtype in itertools.product(("mean", "sum", "none"), (torch.float32, torch.float64)):
        x, y, w = (torch.rand(30, 50, dtype=dtype) for _ in range(3))
        for other in (y, y[:1]):
            tensors = x.clone().requires_grad_(), other.clone().requires_grad_()
            theirs = getattr(F, name)(*tensors, reduction=reduction, weight=w)
            g = torch.randn(theirs.shape, dtype=torch.float64).to(dtype)
            ours = getattr(lt, name)(*tensors, reduction=reduction, weight=w)
            same(ours, theirs, name, rtol=1e-5, atol=1e-6)
            for a, b in zip(torch.autograd.grad(ours, tensors, g), torch.autograd.grad(theirs, tensors, g)):
                same(a, b, f"{name} gradient", rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="same size"):
        getattr(lt, name)(x, y, weight=w[:1])


def test_the_daemon_weighs_and_divides_as_torch(address):
    torch.manual_seed(8)
    x, y, w = (torch.rand(30, 50, dtype=torch.float64) for _ in range(3))
    with lossd.connect(address) as client:
        for name, reduction in itertools.product(("l1_loss", "mse_loss", "huber_loss"), ("mean", "sum", "none")):
            tensors = x.clone().requires_grad_(), y.clone().requires_grad_()
            theirs = getattr(F, name)(*tensors, reduction=reduction, weight=w)
            gradients = torch.autograd.grad(theirs.sum(), tensors)
            ours = client.evaluate(
                name, {"input": x.numpy(), "target": y.numpy(), "weight": w.numpy()}, {"reduction": reduction},
                ["loss", "grad.input", "grad.target"])
            same(torch.tensor(ours["loss"]), theirs.detach(), name)
            same(torch.tensor(ours["grad.input"]), gradients[0], name)
            same(torch.tensor(ours["grad.target"]), gradients[1], name)


def focal(x, y, alpha, gamma):
    p = torch.sigmoid(x)
    pt = p * y + (1 - p) * (1 - y)
    loss = F.binary_cross_entropy_with_logits(x, y, reduction="none") * (1 - pt) ** gamma
    return loss * (alpha * y + (1 - alpha) * (1 - y)) if alpha >= 0 else loss


def asymmetric(x, y, gamma_neg, gamma_pos, clip, eps):
    p = torch.sigmoid(x)
    q = (1 - p + clip).clamp(max=1)
    loss = y * torch.log(p.clamp(min=eps)) + (1 - y) * torch.log(q.clamp(min=eps))
    return -loss * torch.pow(1 - (p * y + q * (1 - y)), gamma_pos * y + gamma_neg * (1 - y))


def reduced(losses, reduction):
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def test_focal_losses_are_what_their_sources_compute():
    torch.manual_seed(9)
    x = (torch.randn(20, 30, dtype=torch.float64) * 3).requires_grad_()
    hard, soft = (torch.rand(20, 30) > 0.5).double(), torch.rand(20, 30, dtype=torch.float64)
    for reduction in ("none", "mean", "sum"):
        for (alpha, gamma), y in itertools.product(
                ((0.25, 2.0), (-1.0, 2.0), (0.5, 0.0), (0.25, 1.0), (0.3, 3.5)), (hard, soft)):
            both("sigmoid_focal_loss", lambda a, b: reduced(focal(a, b, alpha, gamma), reduction), (x, y.clone().requires_grad_()),
                 {"alpha": alpha, "gamma": gamma, "reduction": reduction}, f"focal {alpha} {gamma}", rtol=1e-9, atol=1e-11)
        for gamma_neg, gamma_pos, clip in ((4.0, 1.0, 0.05), (4.0, 1.0, 0.0), (2.0, 2.0, 0.2), (4.0, 0.0, 0.05)):
            attributes = {"gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "clip": clip, "reduction": reduction}
            both("asymmetric_loss", lambda a, b: reduced(asymmetric(a, b, gamma_neg, gamma_pos, clip, 1e-8), reduction), (x, hard),
                 attributes, f"asymmetric {attributes}", rtol=1e-9, atol=1e-11)
        z = hard * 2 - 1
        both("siglip_loss", lambda a, b: reduced(-F.logsigmoid(b * (10 * a - 10)), reduction), (x, z),
             {"scale": 10.0, "bias": -10.0, "reduction": reduction}, "siglip", rtol=1e-9, atol=1e-11)


def test_a_function_by_its_name_reduces_as_its_source_does():
    x, y = torch.randn(3, 4), torch.ones(3, 4)
    assert lt.function("sigmoid_focal_loss")(x, y).shape == (3, 4)
    torch.testing.assert_close(
        lt.function("asymmetric_loss")(x, y), lt.function("asymmetric_loss")(x, y, reduction="none").sum())
    torch.testing.assert_close(lt.function("mse_loss")(x, y), F.mse_loss(x, y))


def test_log_ndtr_and_sinc_are_torchs():
    x = torch.tensor([-300.0, -40, -16, -5, -1, -0.1, 0, 0.1, 1, 5, 16, 300, float("inf"), float("-inf"), float("nan")],
                     dtype=torch.float64)
    both("log_ndtr", torch.special.log_ndtr, (x.clone().requires_grad_(),), {}, "log_ndtr", rtol=1e-7, atol=0)
    both("sinc", torch.sinc, (x[x.abs() < 20].clone().requires_grad_(),), {}, "sinc", rtol=1e-9, atol=1e-9)


# ---- Where formulas are easily wrong

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("gamma", [0.001, 0.5, 0.9, 0.99, 1.0, 1.25, 1.999, 2.0, 2.5, 3.7])
def test_focal_factors_of_certain_elements_neither_underflow_nor_overflow_on_the_way(gamma, dtype):
    edge = 100 if dtype == torch.float32 else 740
    x = torch.cat([torch.linspace(-edge, edge, 401), torch.tensor([-54.5, 54.5, -0.25, 0.25])]).to(dtype)
    y = (torch.arange(x.numel()) % 2).to(dtype)
    wide = x.double().requires_grad_()
    wrong = torch.where(y == 1, -wide, wide)  # log(1 - p_t) is its logsigmoid
    truth = torch.exp(gamma * F.logsigmoid(wrong)) * -F.logsigmoid(-wrong)
    slopes, = torch.autograd.grad(truth.sum(), wide)
    for name, attributes in (("sigmoid_focal_loss", {"alpha": -1.0, "gamma": gamma}),
                             ("asymmetric_loss", {"gamma_pos": gamma, "gamma_neg": gamma, "clip": 0.0, "eps": 0.0})):
        leaf = x.clone().requires_grad_()
        loss = lt.function(name)(leaf, y, reduction="none", **attributes)
        slope, = torch.autograd.grad(loss.sum(), leaf)
        smallest = torch.finfo(dtype).tiny * 2 ** 24
        for mine, its in ((loss, truth), (slope, slopes)):
            its = torch.where(its.abs() < smallest, 0, its)
            mine = torch.where((mine.abs() < 2 * smallest) & (its == 0), 0, mine).double()
            rtol = 4e-5 if dtype == torch.float32 else 2e-12  # gamma log(u) is rounded
            torch.testing.assert_close(mine, its, rtol=rtol, atol=smallest, msg=lambda m: f"{name} {gamma} {dtype}: {m}")


def test_what_is_taken_from_one_is_not_rounded_before():
    for q in (0.999, 0.99999, 0.9999999):
        x = torch.tensor(1.0, requires_grad=True)
        loss = lt.function("quantile_loss")(x, torch.tensor(0.0), q=q)
        loss.backward()
        torch.testing.assert_close(loss.detach(), torch.tensor(1 - q), rtol=2e-7, atol=0)
        torch.testing.assert_close(x.grad, torch.tensor(1 - q), rtol=2e-7, atol=0)
        loss = lt.function("sigmoid_focal_loss")(torch.tensor(0.0), torch.tensor(0.0), alpha=q, gamma=0.0)
        torch.testing.assert_close(loss, torch.tensor((1 - q) * math.log(2)), rtol=4e-7, atol=0)


def test_infinite_differences_have_the_slopes_of_their_side():
    x = torch.tensor([0.0, 0.0, math.inf, math.nan], requires_grad=True)
    lt.function("quantile_loss")(x, torch.tensor([math.inf, -math.inf, 0, 0]), q=0.25, reduction="sum").backward()
    torch.testing.assert_close(x.grad, torch.tensor([-0.25, 0.75, 0.75, math.nan]), equal_nan=True)


def gradients_of(function, *tensors, **attributes):
    leaves = [item.clone().requires_grad_() for item in tensors]
    result = function(*leaves, **attributes)
    return [result.detach(), *torch.autograd.grad(result.sum(), leaves, allow_unused=True)]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nan_and_infinities_are_torchs_in_losses_of_three_tensors(dtype):
    inf, nan = math.inf, math.nan
    numbers = torch.tensor([nan, inf, -inf, 0.0, 1.0, -2.0], dtype=dtype)
    a, b, c = (item.flatten() for item in torch.meshgrid(numbers, numbers, torch.tensor([1.0, -1.0], dtype=dtype), indexing="ij"))
    for margin in (0.0, 0.5, nan):
        for mine, its in zip(gradients_of(lt.margin_ranking_loss, a, b, c, margin=margin, reduction="none"),
                             gradients_of(F.margin_ranking_loss, a, b, c, margin=margin, reduction="none")):
            torch.testing.assert_close(mine, its, equal_nan=True, msg=lambda m: f"margin {margin}: {m}")
        for mine, its in zip(gradients_of(lambda x: lt.hinge_embedding_loss(x, c, margin=margin, reduction="none"), a),
                             gradients_of(lambda x: F.hinge_embedding_loss(x, c, margin=margin, reduction="none"), a)):
            torch.testing.assert_close(mine, its, equal_nan=True, msg=lambda m: f"hinge, margin {margin}: {m}")
    x, y, var = torch.tensor([0.0, 1.0], dtype=dtype), torch.tensor([1.0, 3.0], dtype=dtype), torch.tensor([nan, 2.0], dtype=dtype)
    for mine, its in zip(gradients_of(lt.gaussian_nll_loss, x, y, var, reduction="none"),
                         gradients_of(F.gaussian_nll_loss, x, y, var, reduction="none")):
        torch.testing.assert_close(mine, its, equal_nan=True)


@pytest.mark.parametrize("eps", [0.0, 0.25, 0.5, 0.6, 1.0])
def test_bounds_of_logit_count_in_torchs_order(eps):
    x = torch.tensor([0.0, 0.3, 0.5, 0.9, 1.0, -1.0, 2.0])
    torch.testing.assert_close(lt.function("logit")(x, eps=eps), torch.logit(x, eps=eps), equal_nan=True)


def test_a_focal_loss_of_an_infinite_logit_is_infinite_and_of_a_huge_one_has_a_slope():
    x = torch.tensor([math.inf, 2e38, -2e38], requires_grad=True)
    loss = lt.function("sigmoid_focal_loss")(x, torch.tensor([0.0, 0.0, 1.0]))
    assert loss[0] == math.inf
    loss[1:].sum().backward()
    torch.testing.assert_close(x.grad[1:], torch.tensor([0.75, -0.25]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_gradients_that_are_added_up_over_repetitions_are_rounded_once(dtype):
    torch.manual_seed(7)
    x, other = torch.tensor([1.0], dtype=dtype), (torch.rand(1000, dtype=torch.float64) + 0.5).to(dtype)
    for name in ("xlogy", "xlog1py"):
        mine = gradients_of(lt.function(name), x, other)
        truth = gradients_of(getattr(torch.special, name), x.double(), other.double())
        for a, b in zip(mine, truth):
            torch.testing.assert_close(a, b.to(dtype), rtol=torch.finfo(dtype).eps, atol=0)
    x, y = torch.rand(1, dtype=torch.float64).to(dtype), torch.rand(500, dtype=torch.float64).to(dtype)
    for name in ("mse_loss", "huber_loss", "smooth_l1_loss", "log_cosh_loss", "siglip_loss"):
        function = lt.function(name)
        mine, truth = gradients_of(function, x, y), gradients_of(function, x.double(), y.double())
        torch.testing.assert_close(mine[1], truth[1].to(dtype), rtol=torch.finfo(dtype).eps, atol=0, msg=lambda m: f"{name}: {m}")


def test_targets_without_a_gradient_may_require_one():
    x, y = torch.randn(5, requires_grad=True), torch.ones(5, requires_grad=True)
    lt.hinge_embedding_loss(x, y).backward()
    assert x.grad is not None and y.grad is None
    a, b = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3)
    lt.cosine_embedding_loss(a, b, y).backward()
    assert a.grad is not None and y.grad is None


@pytest.mark.parametrize("name", ["l1_loss", "mse_loss", "huber_loss"])
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_the_type_of_a_weight_is_promoted_with_the_others(address, name, shape):
    types = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
    torch.manual_seed(8)
    with lossd.connect(address) as client:
        for of_input, of_target, of_weight in itertools.product(types, repeat=3):
            x, y, w = (torch.rand(shape).to(kind) for kind in (of_input, of_target, of_weight))
            for reduction in ("none", "mean", "sum"):
                try:
                    theirs = getattr(F, name)(x, y, weight=w, reduction=reduction)
                except RuntimeError:  # huber_loss wants a target of the input's type
                    continue
                ours, grad = getattr(client, name)(x, y, weight=w, reduction=reduction, with_grad=True)
                kind = "bfloat16" if "bfloat16" in str(getattr(ours, "dtype", "bfloat16")) else ours.dtype.name
                case = (of_input, of_target, of_weight, reduction)
                assert f"torch.{kind}" == str(theirs.dtype), case
                tolerance = 2e-2 if torch.bfloat16 in case else 3e-3 if torch.float16 in case else 1e-5
                np.testing.assert_allclose(
                    np.asarray(ours, np.float64), theirs.double().numpy(), rtol=tolerance, atol=tolerance)

"""Second derivatives, torch.func's transforms, forward mode and checkpoints of lossd.torch, beside torch's own."""

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from torch.autograd import forward_ad  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

import lossd  # noqa: E402
import lossd.torch as lt  # noqa: E402

REDUCTIONS = ("none", "mean", "sum")


@pytest.fixture(autouse=True)
def daemon(address):
    lt.use(address)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


torch.manual_seed(7)
WEIGHT = torch.rand(4, dtype=torch.float64) + 0.1
LABELS, PIXELS = torch.tensor([0, 3, -100]), torch.tensor([[1, 0], [3, -100], [2, 2]])
SHARES = torch.rand(3, 4, dtype=torch.float64)


def probabilities(x):
    """Inside of (0, 1), away from the ends."""
    return 0.1 + 0.8 * torch.sigmoid(x)


#: name: (function of library and input, shape of the input)
CASES = {
    "sigmoid": (lambda f, x: (torch.sigmoid if f is F else f.sigmoid)(x), (3, 4)),
    "softmax": (lambda f, x: f.softmax(x, 0), (3, 4)),
    "softmax of a scalar": (lambda f, x: f.softmax(x, 0), ()),
    "log_softmax": (lambda f, x: f.log_softmax(x, -1), (3, 4)),
    "cross_entropy of pixels": (lambda f, x: f.cross_entropy(x, PIXELS, WEIGHT), (3, 4, 2)),
    "cross_entropy of one row": (lambda f, x: f.cross_entropy(x, torch.tensor(2), label_smoothing=0.1), (4,)),
}
for _reduction in REDUCTIONS:
    CASES.update({
        f"cross_entropy {_reduction}": (lambda f, x, r=_reduction: f.cross_entropy(x, LABELS, reduction=r), (3, 4)),
        f"cross_entropy of all arguments {_reduction}": (lambda f, x, r=_reduction: f.cross_entropy(
            x, LABELS.clamp(min=0), WEIGHT, ignore_index=3, label_smoothing=0.2, reduction=r), (3, 4)),
        f"cross_entropy of probabilities {_reduction}": (lambda f, x, r=_reduction: f.cross_entropy(
            x, SHARES, WEIGHT, label_smoothing=0.1, reduction=r), (3, 4)),
        f"nll_loss {_reduction}": (lambda f, x, r=_reduction: f.nll_loss(x, LABELS, WEIGHT, reduction=r), (3, 4)),
        f"binary_cross_entropy {_reduction}": (lambda f, x, r=_reduction: f.binary_cross_entropy(
            probabilities(x), SHARES, WEIGHT, reduction=r), (3, 4)),
        f"binary_cross_entropy_with_logits {_reduction}": (
            lambda f, x, r=_reduction: f.binary_cross_entropy_with_logits(
                x, SHARES, WEIGHT, pos_weight=WEIGHT + 1, reduction=r), (3, 4)),
        f"multilabel_soft_margin_loss {_reduction}": (lambda f, x, r=_reduction: f.multilabel_soft_margin_loss(
            x, SHARES, WEIGHT, reduction=r), (3, 4)),
    })


@pytest.fixture(params=CASES)
def case(request):
    function, shape = CASES[request.param]
    torch.manual_seed(3)
    return function, torch.randn(shape, dtype=torch.float64)


def test_first_and_second_derivatives_are_those_of_differences(case):
    function, x = case
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: function(lt, x), (x,))
    # Also by the upstream gradient, and in batches of them.
    assert torch.autograd.gradgradcheck(lambda x: function(lt, x), (x,))


def test_second_derivatives_by_the_target():
    torch.manual_seed(4)
    x, y, p = randn(3, 4).requires_grad_(), SHARES.clone().requires_grad_(), torch.rand(3, 4, dtype=torch.float64)
    p = (0.1 + 0.8 * p).requires_grad_()
    for reduction in REDUCTIONS:
        for call in (lambda x, y: lt.binary_cross_entropy(x, y, reduction=reduction),
                     lambda x, y: lt.binary_cross_entropy_with_logits(x, y, reduction=reduction),
                     lambda x, y: lt.cross_entropy(x, y, WEIGHT, label_smoothing=0.1, reduction=reduction),
                     lambda x, y: lt.multilabel_soft_margin_loss(x, y, reduction=reduction)):
            assert torch.autograd.gradgradcheck(call, (p, y))
    # One tensor as both.
    assert torch.autograd.gradgradcheck(lambda p: lt.binary_cross_entropy(p, p), (p,))
    assert torch.autograd.gradgradcheck(lambda x: lt.cross_entropy(x, x), (x,))


def test_hessians_products_and_third_derivatives_are_torchs(case):
    function, x = case
    hessians, thirds, products = [], [], []
    direction = torch.linspace(-1, 1, max(x.numel(), 1), dtype=torch.float64)[:x.numel()].reshape(x.shape)
    for library in (lt, F):
        def total(x):
            return (function(library, x) ** 2).sum()

        hessians.append(torch.autograd.functional.hessian(total, x))
        products.append(torch.autograd.functional.hvp(total, x, direction)[1])
        leaf = x.clone().requires_grad_()
        first, = torch.autograd.grad(total(leaf), leaf, create_graph=True)
        second, = torch.autograd.grad((first * direction).sum(), leaf, create_graph=True)
        thirds.append(torch.autograd.grad((second * direction).sum(), leaf)[0])
    for ours, theirs in (hessians, products, thirds):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert hessians[0].abs().sum() > 0 or x.dim() == 0
    vectorized = torch.autograd.functional.hessian(lambda x: (function(lt, x) ** 2).sum(), x, vectorize=True)
    torch.testing.assert_close(vectorized, hessians[1], rtol=1e-9, atol=1e-12)


def test_a_gradient_penalty_trains_as_torchs():
    def train(library):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)).double()
        x, optimizer = randn(16, 4).requires_grad_(), torch.optim.SGD(model.parameters(), 0.3)
        for _ in range(10):
            loss = library.cross_entropy(model(x), torch.arange(16) % 4)
            gradient, = torch.autograd.grad(loss, x, create_graph=True)
            optimizer.zero_grad()
            (loss + 10 * (gradient.norm(dim=1) - 0.05).square().mean()).backward()
            optimizer.step()
        return torch.cat([item.detach().flatten() for item in model.parameters()])

    torch.testing.assert_close(train(lt), train(F), rtol=1e-8, atol=1e-10)


def test_functions_transforms_are_torchs(case):
    function, x = case
    batch = torch.stack([x, x.flip(0) if x.dim() else -x, x * 2 - 0.3])

    def transforms(library):
        def f(x):
            return function(library, x)

        def total(x):
            return (function(library, x) ** 2).sum()

        yield torch.func.grad(total)(x)
        yield torch.func.grad(lambda x: torch.func.grad(total)(x).square().sum())(x)
        yield torch.func.vjp(f, x)[1](torch.ones_like(f(x)) * 1.5)[0]
        yield torch.func.jvp(f, (x,), (x.cos(),))[1]
        yield torch.func.jacrev(f)(x)
        yield torch.func.jacfwd(f)(x)
        yield torch.func.hessian(total)(x)
        yield torch.func.jacrev(torch.func.jacrev(total))(x)
        yield torch.vmap(f)(batch)
        yield torch.vmap(f, in_dims=-1, out_dims=-1)(batch.movedim(0, -1))
        yield torch.vmap(torch.func.grad(total))(batch)
        yield torch.func.grad(lambda batch: torch.vmap(total)(batch).square().sum())(batch)
        yield torch.vmap(torch.vmap(f))(torch.stack([batch, batch + 0.1]))
        yield torch.vmap(torch.func.hessian(total))(batch)

    for index, (ours, theirs) in enumerate(zip(transforms(lt), transforms(F))):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11, msg=lambda text: f"{index}: {text}")
        assert not ours.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_vmap_has_a_denominator_for_each_slice(dtype):
    torch.manual_seed(6)
    x = torch.randn(5, 6, 4).to(dtype)
    y = torch.randint(0, 4, (5, 6))
    y[torch.rand(5, 6) < 0.4] = -100
    y[4] = -100  # no target of the last slice counts
    weights = torch.rand(5, 4).to(dtype) + 0.1
    for reduction in REDUCTIONS:
        for arguments, in_dims in (((x, y), (0, 0)), ((x, y[0]), (0, None)), ((x[0], y), (None, 0)),
                                   ((x, y, weights[0]), (0, 0, None)), ((x, y, weights), (0, 0, 0)),
                                   ((x[0], y[0], weights), (None, None, 0))):
            for name in ("cross_entropy", "nll_loss"):
                def call(*arguments):
                    return getattr(lt, name)(*arguments, reduction=reduction)

                def total(*arguments):
                    return call(*arguments).float().sum()

                slices = [[item if dim is None else item[index] for item, dim in zip(arguments, in_dims)]
                          for index in range(5)]
                for ours, exact in (
                        (torch.vmap(call, in_dims)(*arguments), torch.stack([call(*item) for item in slices])),
                        (torch.vmap(torch.func.grad(total), in_dims)(*arguments),
                         torch.stack([torch.func.grad(total)(*item) for item in slices]))):
                    torch.testing.assert_close(ours, exact, equal_nan=True, rtol=1e-5, atol=1e-6)


def test_vmap_of_broadcast_weights_and_targets():
    torch.manual_seed(6)
    x, y = randn(5, 3, 4), torch.rand(5, 3, 4, dtype=torch.float64)
    for shape in ((), (1,), (4,), (3, 1), (3, 4)):
        weight = torch.rand(5, *shape, dtype=torch.float64)
        for given, dim in ((weight, 0), (weight[0], None)):
            for call in (lambda f, x, y, w: f.binary_cross_entropy_with_logits(x, y, w, pos_weight=w),
                         lambda f, x, y, w: f.binary_cross_entropy(torch.sigmoid(x), y, w, reduction="sum"),
                         lambda f, x, y, w: f.multilabel_soft_margin_loss(x, y, w, reduction="none")):
                for input_dim, target_dim in ((0, 0), (None, 0), (0, None)):
                    if (input_dim, target_dim, dim) == (None, None, None):
                        continue
                    arguments = (x if input_dim == 0 else x[0], y if target_dim == 0 else y[0], given)
                    ours, theirs = (torch.vmap(lambda *a: call(library, *a), (input_dim, target_dim, dim))(*arguments)
                                    for library in (lt, F))
                    torch.testing.assert_close(ours, theirs)


def test_per_sample_gradients_are_a_few_calls(monkeypatch):
    calls = []
    evaluate = lossd.Client.evaluate
    monkeypatch.setattr(lossd.Client, "evaluate", lambda *arguments: calls.append(1) or evaluate(*arguments))
    x, y = torch.randn(300, 10), torch.randint(0, 10, (300,))
    ours = torch.vmap(torch.func.grad(lt.cross_entropy))(x, y)
    assert len(calls) <= 3
    torch.testing.assert_close(ours, torch.vmap(torch.func.grad(F.cross_entropy))(x, y))


def test_forward_mode(case):
    function, x = case
    found = []
    for library in (lt, F):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, x.cos())
            found.append(forward_ad.unpack_dual(function(library, dual)).tangent)
    torch.testing.assert_close(*found)
    assert not found[0].requires_grad
    assert torch.autograd.gradcheck(lambda x: function(lt, x), (x.requires_grad_(),), check_forward_ad=True,
                                    check_batched_grad=True, check_batched_forward_grad=True)


def test_what_has_no_second_derivative_says_so_by_name(monkeypatch):
    from lossd import _autograd
    monkeypatch.delitem(_autograd._TORCHS, "sigmoid")
    x = torch.randn(3, requires_grad=True)
    first, = torch.autograd.grad(lt.sigmoid(x).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="sigmoid has no derivative of its gradient"):
        first.sum().backward()
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="sigmoid"):
        lt.sigmoid(forward_ad.make_dual(x.detach(), x.detach()))


def test_gradients_of_weights_are_refused_by_name_wherever_they_are_asked_for():
    x, y, weight = torch.randn(3, 4), torch.tensor([0, 3, 1]), torch.rand(4)
    for reduction in REDUCTIONS:
        with pytest.raises(lossd.Unimplemented, match="weight"):
            torch.func.grad(lambda w: lt.cross_entropy(x, y, w, reduction=reduction).sum())(weight)
        with pytest.raises(lossd.Unimplemented, match="weight"):
            w = weight.clone().requires_grad_()
            torch.autograd.grad(lt.cross_entropy(x, y, w, reduction=reduction).sum(), w, create_graph=True)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_each_backward_gives_a_gradient_of_its_own(reduction):
    x, y = torch.randn(5, 4, requires_grad=True), torch.tensor([0, 1, 2, 3, 0])
    loss = lt.cross_entropy(x, y, reduction=reduction).sum()
    first, = torch.autograd.grad(loss, x, retain_graph=True)
    kept = first.clone()
    first.numpy()[:] = 77
    second, = torch.autograd.grad(loss, x, retain_graph=True)
    torch.testing.assert_close(second, kept, rtol=0, atol=0)
    second.add_(5)
    loss.backward(retain_graph=True)
    x.grad.data.zero_()
    x.grad.add_(1)
    third, = torch.autograd.grad(loss, x)
    torch.testing.assert_close(third, kept, rtol=0, atol=0)
    assert len({item.data_ptr() for item in (first, second, third, x.grad)}) == 4


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoints(case, use_reentrant):
    function, x = case
    found = []
    for library in (lt, F):
        leaf = x.clone().requires_grad_()
        result = checkpoint(lambda x: function(library, x * 2), leaf, use_reentrant=use_reentrant)
        (result ** 2).sum().backward()
        found.append(leaf.grad)
    torch.testing.assert_close(*found)


def test_checkpoints_of_second_derivatives_and_tensors_that_are_saved_elsewhere():
    found = []
    for library in (lt, F):
        torch.manual_seed(2)
        x = randn(3, 4).requires_grad_()
        y = torch.tensor([0, 3, 1])
        with torch.autograd.graph.save_on_cpu():
            loss = checkpoint(lambda x: library.cross_entropy(x * 2, y), x, use_reentrant=False)
            first, = torch.autograd.grad(loss, x, create_graph=True)
            second, = torch.autograd.grad(first.square().sum(), x)
        found.append((first.detach(), second))
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs)


WRONG = [
    ("cross_entropy", dict(reduction=None)), ("cross_entropy", dict(reduction="mea")),
    ("cross_entropy", dict(reduction=1)), ("cross_entropy", dict(ignore_index=None)),
    ("cross_entropy", dict(ignore_index=1.5)), ("cross_entropy", dict(ignore_index="1")),
    ("cross_entropy", dict(label_smoothing=None)), ("cross_entropy", dict(label_smoothing="0.1")),
    ("nll_loss", dict(reduction=None)), ("nll_loss", dict(ignore_index=None)),
    ("binary_cross_entropy_with_logits", dict(reduction=None)),
    ("softmax", dict(dim=1.5)), ("softmax", dict(dim="0")), ("log_softmax", dict(dim=[0])),
    ("softmax", dict(dim=0, dtype="float32")),
]


@pytest.mark.parametrize("name, wrong", WRONG, ids=str)
def test_wrong_arguments_have_torchs_errors(name, wrong):
    x, y = torch.randn(3, 4), torch.rand(3, 4)
    arguments = [x] if "softmax" in name else [x, torch.tensor([0, 1, 2]) if name in ("cross_entropy", "nll_loss") else y]
    errors = []
    for library in (lt, F):
        with pytest.raises((TypeError, ValueError)) as caught:
            getattr(library, name)(*arguments, **wrong)
        errors.append(caught.value)
    ours, theirs = errors
    assert type(ours) is type(theirs)
    value = next(iter(wrong.values()))
    assert next(iter(wrong)) in str(ours) or str(ours) == str(theirs), value
    if name in ("cross_entropy", "binary_cross_entropy_with_logits"):
        assert str(ours).split(" (position")[-1] == str(theirs).split(" (position")[-1]


def test_numbers_of_other_types_are_taken_as_torch_takes_them():
    import numpy as np
    x, y = torch.randn(3, 4), torch.tensor([0, 1, 2])
    for keywords in (dict(ignore_index=np.int64(1)), dict(label_smoothing=np.float64(0.1)), dict(label_smoothing=1),
                     dict(label_smoothing=np.float32(0.25))):
        torch.testing.assert_close(lt.cross_entropy(x, y, **keywords), F.cross_entropy(x, y, **keywords))


def test_what_is_no_tensor_is_named_with_what_to_do():
    x, y = torch.randn(3, 4), torch.tensor([0, 1, 2])
    for call, text in (
            (lambda: lt.cross_entropy(x.numpy(), y), "'input' must be Tensor, not numpy.ndarray: torch.from_numpy"),
            (lambda: lt.cross_entropy(x, y.numpy()), "'target' must be Tensor, not numpy.ndarray"),
            (lambda: lt.cross_entropy(x, y, [1.0, 2.0, 3.0, 4.0]), "'weight' must be Tensor, not list"),
            (lambda: lt.sigmoid(None), "'input' must be Tensor, not NoneType"),
            (lambda: lt.cross_entropy(x, None), "'target' must be Tensor, not NoneType"),
            (lambda: lt.softmax([1.0], 0), "'input' must be Tensor, not list")):
        with pytest.raises(TypeError, match=text):
            call()
    for tensor, text in ((x.to(torch.complex64), "input is torch.complex64"), (x.to_sparse(), "input is .*to_dense"),
                         (x.to(torch.float8_e4m3fn), "input is torch.float8_e4m3fn; .*call .to")):
        with pytest.raises(lossd.InvalidArgument, match=text):
            lt.sigmoid(tensor)


def test_tensors_with_the_negative_bit():
    z = torch.randn(3, 4, dtype=torch.complex64)
    negative = z.conj().imag
    assert negative.is_neg()
    torch.testing.assert_close(lt.sigmoid(negative), torch.sigmoid(negative))
    leaf = z.clone().requires_grad_()
    lt.cross_entropy(leaf.conj().imag, torch.tensor([0, 1, 2])).backward()
    other = z.clone().requires_grad_()
    F.cross_entropy(other.conj().imag, torch.tensor([0, 1, 2])).backward()
    torch.testing.assert_close(leaf.grad, other.grad)


def test_a_target_of_one_for_one_row_is_taken_as_torch_takes_it():
    x = torch.randn(5)
    for reduction in REDUCTIONS:
        for target in (torch.tensor([2]), torch.tensor([-100]), torch.tensor([2], dtype=torch.uint8)):
            for name in ("cross_entropy", "nll_loss"):
                ours, theirs = (getattr(f, name)(x, target, reduction=reduction) for f in (lt, F))
                torch.testing.assert_close(ours, theirs, equal_nan=True)
    torch.testing.assert_close(lt.nll_loss(x[:1], torch.tensor([0])), F.nll_loss(x[:1], torch.tensor([0])))
    for arguments in ((x[:1], torch.tensor([0])), (x, torch.tensor([1, 2])), (x, torch.tensor([[2]]))):
        for library in (lt, F):
            with pytest.raises((ValueError, RuntimeError)):
                library.cross_entropy(*arguments)
    leaf = x.clone().requires_grad_()
    lt.cross_entropy(leaf, torch.tensor([2])).backward()
    other = x.clone().requires_grad_()
    F.cross_entropy(other, torch.tensor(2)).backward()
    torch.testing.assert_close(leaf.grad, other.grad)


@pytest.mark.parametrize("name,arguments", [
    ("gelu", {"approximate": "tanh"}), ("silu", {}), ("softplus", {"beta": 2.0}), ("tanh", {}), ("erf", {}),
    ("mse_loss", {}), ("huber_loss", {"delta": 0.5, "reduction": "sum"}), ("kl_div", {"reduction": "none"}),
    ("log_cosh_loss", {}), ("quantile_loss", {"q": 0.25})])
def test_a_function_by_its_name_has_autograd(daemon, name, arguments):
    torch.manual_seed(5)
    function = lt.function(name)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    tensors = (x,) if not name.endswith(("loss", "div")) else (x, torch.rand(3, 4, dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradcheck(lambda *given: function(*given, **arguments), tensors)
    if name in ("log_cosh_loss", "quantile_loss"):
        with pytest.raises(NotImplementedError, match=name):
            gradient, = torch.autograd.grad(function(*tensors, **arguments), x, create_graph=True)
            gradient.sum().backward()
    else:
        assert torch.autograd.gradgradcheck(lambda *given: function(*given, **arguments), tensors)
    rows = torch.func.vmap(lambda *given: function(*given, **arguments))(*(item.detach() for item in tensors))
    torch.testing.assert_close(
        rows, torch.stack([function(*(item[row] for item in tensors), **arguments) for row in range(3)]).detach())


def test_a_function_by_its_name_refuses_what_it_does_not_take(daemon):
    with pytest.raises(lossd.NotFound, match="no_such_loss"):
        lt.function("no_such_loss")
    x = torch.zeros(2)
    with pytest.raises(TypeError, match="kl_div takes 2 inputs"):
        lt.function("kl_div")(x, x, x)
    with pytest.raises(TypeError, match="target was given twice"):
        lt.function("kl_div")(x, x, target=x)

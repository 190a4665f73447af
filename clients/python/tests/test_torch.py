"""lossd.torch beside torch itself: values, gradients, types, autograd's rules, a training loop."""

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from hypothesis import given, settings, strategies as st  # noqa: E402

import lossd  # noqa: E402
import lossd.torch as lt  # noqa: E402


@pytest.fixture(autouse=True)
def daemon(address):
    lt.use(address)


@pytest.fixture
def asked(monkeypatch):
    """Every call that goes to the daemon: the outputs it asks for."""
    calls = []
    evaluate = lossd.Client.evaluate

    def spy(self, function, inputs, attributes=None, outputs=(), timeout=None):
        calls.append(list(outputs))
        return evaluate(self, function, inputs, attributes, outputs, timeout)

    monkeypatch.setattr(lossd.Client, "evaluate", spy)
    return calls


def close(ours, theirs, dtype):
    scale = {torch.float32: 2e-6, torch.float64: 1e-14, torch.float16: 4e-3, torch.bfloat16: 3e-2}
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=scale[dtype] * 4, atol=scale[dtype] * 4)


def both(name, make, dtype):
    """Result and gradients of ours and of torch's for the same tensors."""
    arguments, keywords = make()
    results = []
    for library in (lt, F):
        copies = [item.detach().clone().requires_grad_(item.requires_grad)
                  if isinstance(item, torch.Tensor) else item for item in arguments]
        function = getattr(library, name, None) or getattr(torch, name)
        result = function(*copies, **keywords)
        torch.manual_seed(2)
        result.backward(torch.rand_like(result) + 0.5)
        results.append((result.detach(), [item.grad for item in copies
                                          if isinstance(item, torch.Tensor) and item.requires_grad]))
    close(results[0][0], results[1][0], dtype)
    for ours, theirs in zip(results[0][1], results[1][1]):
        close(ours, theirs, dtype)


DTYPES = st.sampled_from([torch.float32, torch.float64])
REDUCTIONS = st.sampled_from(["none", "mean", "sum"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_activations(data):
    dtype = data.draw(DTYPES)
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    name = data.draw(st.sampled_from(["sigmoid", "softmax", "log_softmax"]))
    torch.manual_seed(data.draw(st.integers(0, 10**6)))
    x = (torch.randn(shape, dtype=dtype) * 4).requires_grad_()
    keywords = {} if name == "sigmoid" else {"dim": data.draw(st.integers(-len(shape), len(shape) - 1))}
    both(name, lambda: ([x], keywords), dtype)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_class_losses(data):
    dtype, reduction = data.draw(DTYPES), data.draw(REDUCTIONS)
    name = data.draw(st.sampled_from(["cross_entropy", "nll_loss"]))
    rows, classes = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 7))
    rest = data.draw(st.lists(st.integers(1, 3), max_size=2))
    torch.manual_seed(data.draw(st.integers(0, 10**6)))
    x = torch.randn([rows, classes, *rest], dtype=dtype).requires_grad_()
    y = torch.randint(0, classes, [rows, *rest])
    y[torch.rand(y.shape) < 0.2] = -100
    y.view(-1)[0] = 1  # One that counts, or the mean is 0 / 0.
    keywords = {"reduction": reduction}
    if data.draw(st.booleans()):
        keywords["weight"] = torch.rand(classes, dtype=dtype) + 0.1
    if name == "cross_entropy":
        keywords["label_smoothing"] = data.draw(st.sampled_from([0.0, 0.2]))
    both(name, lambda: ([x, y], keywords), dtype)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_binary_and_multilabel_losses(data):
    dtype, reduction = data.draw(DTYPES), data.draw(REDUCTIONS)
    name = data.draw(st.sampled_from([
        "binary_cross_entropy", "binary_cross_entropy_with_logits", "multilabel_soft_margin_loss",
        "cross_entropy"]))
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 7))
    torch.manual_seed(data.draw(st.integers(0, 10**6)))
    x = torch.randn([rows, columns], dtype=dtype) * 3
    if name == "binary_cross_entropy":
        x = torch.sigmoid(x)
    y = torch.rand([rows, columns], dtype=dtype).requires_grad_(data.draw(st.booleans()))
    keywords = {"reduction": reduction}
    if data.draw(st.booleans()):
        keywords["weight"] = torch.rand(columns, dtype=dtype) + 0.1
    if name == "binary_cross_entropy_with_logits" and data.draw(st.booleans()):
        keywords["pos_weight"] = torch.rand(columns, dtype=dtype) + 0.1
    both(name, lambda: ([x.requires_grad_(), y], keywords), dtype)


def test_half_types_and_non_contiguous_tensors():
    torch.manual_seed(5)
    for dtype in (torch.float16, torch.bfloat16):
        x = torch.randn(6, 4).to(dtype).requires_grad_()
        both("cross_entropy", lambda: ([x, torch.tensor([0, 1, 2, 3, 0, 1])], {}), dtype)
        both("softmax", lambda: ([x], {"dim": 0}), dtype)
    y = torch.randn(4, 6).t()
    close(lt.log_softmax(y, 1), F.log_softmax(y, 1), torch.float32)


def test_gradcheck():
    torch.manual_seed(1)
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    p = torch.rand(3, 4, dtype=torch.float64).clamp(0.1, 0.9).requires_grad_()
    y = torch.tensor([0, 3, 1])
    for reduction in ("none", "mean", "sum"):
        assert torch.autograd.gradcheck(
            lambda x: lt.cross_entropy(x, y, reduction=reduction, label_smoothing=0.1), (x,))
        assert torch.autograd.gradcheck(
            lambda x, t: lt.binary_cross_entropy(x, t, reduction=reduction), (p, p.detach().flip(0).requires_grad_()))
    assert torch.autograd.gradcheck(lambda x: lt.softmax(x, 1), (x,))
    assert torch.autograd.gradcheck(lambda x: lt.log_softmax(x, 0), (x,))


def test_autograds_rules():
    x = torch.randn(3, 4, requires_grad=True)
    y = torch.tensor([0, 3, 1])
    with torch.no_grad():
        assert not lt.cross_entropy(x, y).requires_grad
    loss = lt.cross_entropy(x, y)
    assert loss.dim() == 0
    weight = torch.rand(4, requires_grad=True)
    with pytest.raises(lossd.Unimplemented, match="weight"):
        lt.cross_entropy(x, y, weight)
    with pytest.raises(ValueError, match="CPU"):
        lt.sigmoid(torch.empty(3, device="meta"))


def test_only_the_gradients_that_are_needed_are_asked_for(asked):
    x = torch.rand(3, 4, requires_grad=True)
    y = torch.rand(3, 4, requires_grad=True)
    fixed = torch.rand(3, 4)
    lt.binary_cross_entropy(x, fixed).backward()
    lt.binary_cross_entropy(fixed, y).backward()
    lt.binary_cross_entropy(x, y).backward()
    lt.binary_cross_entropy(fixed, fixed)
    with torch.no_grad():
        lt.binary_cross_entropy(x, y)
    with torch.inference_mode():
        lt.binary_cross_entropy(x, y)
    lt.binary_cross_entropy(x.detach(), y.detach())
    assert asked == [["loss", "grad.input"], ["loss", "grad.target"], ["loss", "grad.input", "grad.target"]] + [
        ["loss"]] * 4
    # Of a loss that is not reduced none is computed before the upstream gradient is known.
    asked.clear()
    loss = lt.binary_cross_entropy(fixed, y, reduction="none")
    assert asked == [["loss"]]
    loss.sum().backward()
    assert asked == [["loss"], ["grad.target"]]


def test_gradients_are_exact_for_any_upstream_gradient(asked):
    """Whatever it is, they are the daemon's own for it: rounded once."""
    torch.manual_seed(3)
    y = torch.randint(0, 50, (20,))
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        # Some probabilities are so small that their gradients are denormal, or nothing at all.
        x = (torch.randn(20, 50, dtype=torch.float64) * 20).to(dtype)
        for upstream in (1.0, 0.5, 1024.0, 65536.0, 1 / 3, -3.7, 0.0, 2.0**-20, 1e-30, float("inf"), float("nan")):
            ours = x.clone().requires_grad_()
            loss = lt.cross_entropy(ours, y)
            loss.backward(torch.tensor(upstream).to(dtype))
            exact = lt._tensor(lt._default().evaluate(
                "cross_entropy",
                {"input": lt._array(x, "x"), "target": y.numpy(), "grad.loss": lt._array(
                    torch.tensor(upstream).to(dtype), "g")}, {}, ["grad.input"])["grad.input"])
            torch.testing.assert_close(ours.grad, exact, rtol=0, atol=0, equal_nan=True)
    # One call for a loss and its gradient, where the upstream gradient is 1 or a plain factor.
    asked.clear()
    x = torch.randn(4, 3, requires_grad=True)
    lt.cross_entropy(x, torch.tensor([0, 1, 2, 0])).backward()
    (lt.cross_entropy(x, torch.tensor([0, 1, 2, 0])) / 4).backward()
    assert len(asked) == 2


CALLS = {
    "sigmoid": lambda library, x, y: (getattr(library, "sigmoid", None) or torch.sigmoid)(x),
    "softmax": lambda library, x, y: library.softmax(x, 1),
    "log_softmax": lambda library, x, y: library.log_softmax(x, 1),
    "cross_entropy": lambda library, x, y: library.cross_entropy(x, y),
    "cross_entropy of probabilities": lambda library, x, y: library.cross_entropy(x, torch.full_like(x, 0.25)),
    "nll_loss": lambda library, x, y: library.nll_loss(x, y),
    "binary_cross_entropy": lambda library, x, y: library.binary_cross_entropy(
        x * 0 + 0.5, torch.ones_like(x)),
    "binary_cross_entropy_with_logits": lambda library, x, y: library.binary_cross_entropy_with_logits(
        x, torch.ones_like(x)),
    "mixed types": lambda library, x, y: library.binary_cross_entropy_with_logits(x, torch.ones(3, 4)),
    "multilabel_soft_margin_loss": lambda library, x, y: library.multilabel_soft_margin_loss(
        x, torch.ones_like(x)),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
def test_types_in_and_out_of_autocast_are_torchs(name, autocast):
    import contextlib
    y = torch.tensor([0, 3, 1])
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        torch.manual_seed(7)
        values = torch.randn(3, 4).to(dtype)
        found = []
        for library in (lt, F):
            x = values.clone().requires_grad_()
            with torch.autocast("cpu", autocast) if autocast else contextlib.nullcontext():
                result = CALLS[name](library, x, y)
            result.sum().backward()
            found.append((result, x.grad))
        for ours, theirs in zip(*found):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
            torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.01)


def test_empty_and_zero_dim_tensors():
    empty, scalar = torch.empty(0, 4), torch.tensor(0.3)
    for reduction in ("none", "mean", "sum"):
        for library_results in zip(*(
                [library.cross_entropy(empty, torch.empty(0, dtype=torch.long), reduction=reduction),
                 library.binary_cross_entropy(scalar, torch.tensor(1.0), reduction=reduction),
                 library.binary_cross_entropy_with_logits(scalar, torch.tensor(1.0), reduction=reduction),
                 library.cross_entropy(torch.tensor([0.1, 0.7]), torch.tensor(1), reduction=reduction),
                 library.multilabel_soft_margin_loss(torch.randn(0, 3), torch.empty(0, 3), reduction=reduction)]
                for library in (lt, F))):
            torch.testing.assert_close(*library_results, equal_nan=True)
    assert lt.sigmoid(torch.tensor(0.0)).shape == ()
    torch.testing.assert_close(lt.softmax(scalar, 0), F.softmax(scalar, 0))
    x = torch.tensor(0.5, requires_grad=True)
    lt.sigmoid(x).backward()
    assert x.grad.shape == ()


def test_non_contiguous_tensors_and_their_gradients():
    torch.manual_seed(9)
    base = torch.randn(6, 4, 5)
    for make in (lambda t: t.transpose(0, 1), lambda t: t[::2], lambda t: t[:, :, 1:4], lambda t: t.flip(0),
                 lambda t: t[:1].expand(6, 4, 5), lambda t: t.permute(2, 1, 0)):
        grads = []
        for library in (lt, F):
            x = base.clone().requires_grad_()
            view = make(x)
            target = (torch.arange(view[:, 0].numel()) % view.shape[1]).reshape(view[:, 0].shape)
            library.cross_entropy(view, target).backward(torch.tensor(1.7))
            grads.append(x.grad)
        torch.testing.assert_close(*grads)


def test_modules_are_torchs_in_every_respect_but_the_computing():
    weight = torch.rand(4)
    pairs = [
        (lt.CrossEntropyLoss, torch.nn.CrossEntropyLoss, dict(weight=weight, label_smoothing=0.1, ignore_index=1)),
        (lt.NLLLoss, torch.nn.NLLLoss, dict(weight=weight, reduction="sum")),
        (lt.BCELoss, torch.nn.BCELoss, dict(weight=weight)),
        (lt.BCEWithLogitsLoss, torch.nn.BCEWithLogitsLoss, dict(weight=weight, pos_weight=weight)),
        (lt.MultiLabelSoftMarginLoss, torch.nn.MultiLabelSoftMarginLoss, dict(weight=weight)),
        (lt.Sigmoid, torch.nn.Sigmoid, {}), (lt.Softmax, torch.nn.Softmax, dict(dim=1)),
        (lt.LogSoftmax, torch.nn.LogSoftmax, dict(dim=0))]
    torch.manual_seed(2)
    x, y, p = torch.randn(3, 4), torch.tensor([0, 3, 1]), torch.rand(3, 4)
    for ours, theirs, options in pairs:
        one, other = ours(**options), theirs(**options)
        assert isinstance(one, theirs) and repr(one) == repr(other)
        assert one.state_dict().keys() == other.state_dict().keys()
        arguments = [p if "BCELoss" in theirs.__name__ else x]
        if "Loss" in theirs.__name__:
            arguments.append(y if theirs.__name__ in ("CrossEntropyLoss", "NLLLoss") else p)
        torch.testing.assert_close(one(*arguments), other(*arguments))
        assert one.half().state_dict().keys() == other.half().state_dict().keys()


def test_arguments_in_torchs_order_and_its_old_ones():
    torch.manual_seed(2)
    x, y, w, p = torch.randn(3, 4), torch.tensor([0, 3, 1]), torch.rand(4), torch.rand(3, 4)
    for call in (lambda f: f.cross_entropy(x, y, w, None, 3, None, "sum", 0.1),
                 lambda f: f.nll_loss(x, y, w, None, 3, None, "sum"),
                 lambda f: f.binary_cross_entropy(p, p, w, None, None, "none"),
                 lambda f: f.binary_cross_entropy_with_logits(x, p, w, None, None, "none", w),
                 lambda f: f.multilabel_soft_margin_loss(x, p, w, None, None, "none"),
                 lambda f: f.softmax(x, 1, 3, torch.float64), lambda f: f.log_softmax(x, 1, 3, torch.float64)):
        torch.testing.assert_close(call(lt), call(F))
    with pytest.warns(UserWarning, match="size_average and reduce"):
        torch.testing.assert_close(lt.cross_entropy(x, y, size_average=False), F.cross_entropy(x, y, reduction="sum"))
    for shape in ((), (3,), (3, 4), (2, 3, 4), (2, 3, 4, 5)):
        z = torch.randn(shape)
        with pytest.warns(UserWarning, match="Implicit dimension choice for softmax"):
            torch.testing.assert_close(lt.softmax(z), F.softmax(z))
        with pytest.warns(UserWarning, match="Implicit dimension choice for log_softmax"):
            torch.testing.assert_close(lt.LogSoftmax()(z), torch.nn.LogSoftmax()(z))


def test_what_is_not_supported_is_said_clearly():
    x = torch.randn(3, 4, requires_grad=True)
    with pytest.raises(ValueError, match="input is on meta; lossd takes tensors of the CPU: call .cpu()"):
        lt.cross_entropy(torch.empty(3, 4, device="meta"), torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match="target is on meta"):
        lt.cross_entropy(x, torch.empty(3, dtype=torch.long, device="meta"))
    with pytest.raises(lossd.Unimplemented, match="pos_weight"):
        lt.binary_cross_entropy_with_logits(x, torch.rand(3, 4), pos_weight=torch.rand(4, requires_grad=True))
    y = torch.tensor([0, 1, 2])
    loss = lt.cross_entropy(x, y, reduction="none")
    with torch.no_grad():
        x.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.sum().backward()


def test_many_threads_and_forks_share_the_functionals():
    import os
    import threading
    x, y = torch.randn(30, 4), torch.randint(0, 4, (30,))
    truth = F.cross_entropy(x, y)
    results = []

    def work():
        for _ in range(20):
            mine = x.clone().requires_grad_()
            loss = lt.cross_entropy(mine, y)
            loss.backward()
            results.append(loss.detach())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 160
    torch.testing.assert_close(torch.stack(results), truth.expand(160))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if abs(lt.cross_entropy(x, y) - truth) < 1e-5 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    torch.testing.assert_close(lt.cross_entropy(x, y), truth)


def test_the_program_of_the_documentation(address):
    import os
    import re
    import subprocess
    import sys
    from conftest import ROOT
    (code,) = re.findall(r"```python torch\n(.*?)```", (ROOT / "docs" / "clients.md").read_text(), re.S)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            env={**os.environ, "LOSSD_ADDRESS": address})
    assert result.stdout == "torch.float32 0 True\n", result.stderr


def test_a_training_loop_runs_unchanged():
    def train(loss_function):
        torch.manual_seed(0)
        x = torch.randn(256, 8)
        y = (x[:, 0] + x[:, 1] > 0).long() + (x[:, 2] > 1).long()
        model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
        optimizer = torch.optim.SGD(model.parameters(), 0.5)
        for _ in range(60):
            optimizer.zero_grad()
            loss = loss_function(model(x), y)
            loss.backward()
            optimizer.step()
        return loss.item(), (model(x).argmax(1) == y).float().mean().item()

    ours, theirs = train(lt.CrossEntropyLoss()), train(torch.nn.CrossEntropyLoss())
    assert ours[0] == pytest.approx(theirs[0], rel=1e-4) and ours[1] == theirs[1] > 0.9

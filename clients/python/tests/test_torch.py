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
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad"):
        first.sum().backward()
    weight = torch.rand(4, requires_grad=True)
    with pytest.raises(lossd.Unimplemented, match="weight"):
        lt.cross_entropy(x, y, weight)
    with pytest.raises(ValueError, match="CPU"):
        lt.sigmoid(torch.empty(3, device="meta"))


def test_autocast_is_float32():
    x = torch.randn(3, 4).to(torch.bfloat16)
    y = torch.tensor([0, 3, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert lt.cross_entropy(x, y).dtype == torch.float32


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

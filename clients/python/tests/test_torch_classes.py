"""Losses of classes and sequences beside torch: its own functionals, and formulas written in torch for those it lacks."""

import inspect
import itertools
import math
import pathlib
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

# The formulas of losses that torch lacks, as the golden values have them.
sys.path.append(str(pathlib.Path(__file__).resolve().parents[3] / "Tests" / "Golden"))
import lossd  # noqa: E402
import lossd.torch as lt  # noqa: E402
from lossd import _classes  # noqa: E402
from sources import arcface, cosface, single_label  # noqa: E402

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
REDUCTIONS = ("mean", "sum", "none")


@pytest.fixture(autouse=True)
def daemon(address):
    lt.use(address)


def compare(ours, theirs, tensor, text, upstream=None, of_doubles=1e-13):
    """Values and gradients. `theirs` is in float64 for 16-bit types, whose own arithmetic rounds on the way."""
    near = {torch.float32: 2e-6, torch.float64: of_doubles, torch.float16: 1e-3, torch.bfloat16: 8e-3}[ours.dtype]
    assert ours.dtype == tensor.dtype, text
    assert ours.shape == theirs.shape, text
    g = torch.ones_like(theirs) if upstream is None else upstream.to(theirs.dtype)
    for mine, its in ((ours, theirs), (torch.autograd.grad(ours, tensor, g.to(ours.dtype))[0],
                                       torch.autograd.grad(theirs, tensor, g)[0])):
        scale = its.abs().nan_to_num(0, 0, 0).max().item() if its.numel() else 0
        torch.testing.assert_close(mine.double(), its.double(), rtol=near, atol=near * max(scale, 1e-30), equal_nan=True,
                                   msg=lambda m: f"{text}: {m}")


def wide(x):
    """What torch is to compute in: float64, so that its own rounding is no part of the comparison."""
    return x.double()


# ---- Functions of log p of the target's class


def log_p(x, target):
    return -F.cross_entropy(x, target, reduction="none", ignore_index=-100)


def reduced(losses, target, weight, reduction, ignore=-100):
    """As cross_entropy's: by the sum of the weights of what is kept."""
    w = torch.where(target == ignore, 0, weight[target.clamp(0)])
    losses = torch.where(target == ignore, 0, w * losses)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / w.sum()}[reduction]


FORMULAS = {
    "generalized_cross_entropy": [
        ({}, lambda l: (1 - torch.exp(0.7 * l)) / 0.7), ({"q": 0.25}, lambda l: (1 - torch.exp(0.25 * l)) / 0.25),
        ({"q": 1.0}, lambda l: 1 - l.exp()), ({"q": 0.0}, lambda l: -l)],
    "softmax_focal_loss": [
        ({}, lambda l: -(1 - l.exp()) ** 2 * l), ({"gamma": 0.0}, lambda l: -l),
        ({"gamma": 0.5}, lambda l: -(1 - l.exp()) ** 0.5 * l), ({"gamma": 3.25}, lambda l: -(1 - l.exp()) ** 3.25 * l)],
    "poly1_cross_entropy": [
        ({}, lambda l: -l + (1 - l.exp())), ({"epsilon": -0.5}, lambda l: -l - 0.5 * (1 - l.exp())),
        ({"epsilon": 0.0}, lambda l: -l)],
}
CLASS_SHAPES = ((5,), (4, 5), (300, 3), (7, 40), (3, 5, 6), (2, 7, 3, 5), (2, 70, 33), (1, 1), (0, 4), (3, 2000))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", FORMULAS)
def test_functions_of_the_targets_probability_are_their_formulas(name, dtype):
    torch.manual_seed(1)
    function = lt.function(name)
    for (attributes, formula), shape, reduction, is_weighted in itertools.product(
            FORMULAS[name], CLASS_SHAPES, REDUCTIONS, (False, True)):
        if shape == (1, 1) and attributes.get("gamma") == 0.5:
            continue  # autograd's derivative of 0 ** 0.5 is infinite.
        axis = 0 if len(shape) == 1 else 1
        x = (torch.randn(shape) * 2).to(dtype).requires_grad_()
        target = torch.randint(0, shape[axis], shape[:axis] + shape[axis + 1:])
        if target.numel() > 2:
            target.view(-1)[::3] = -100
        weight = torch.rand(shape[axis]).to(dtype) + 0.25
        more = {"weight": weight} if is_weighted else {}
        ours = function(x, target, reduction=reduction, **attributes, **more)
        w = weight.double() if is_weighted else torch.ones(shape[axis], dtype=torch.float64)
        theirs = reduced(formula(log_p(wide(x), target)), target, w, reduction)
        upstream = torch.randn(theirs.shape).to(dtype)
        compare(ours, theirs, x, f"{name} {attributes} {shape} {reduction} {is_weighted}", upstream)


@pytest.mark.parametrize("name", FORMULAS)
def test_they_keep_their_digits_where_the_target_is_certain(client, name):
    x = np.array([[40.0, 0, 0], [20, 0, 1], [0, 0, 30]])
    target = np.array([0, 0, 2])
    others = np.exp(x.astype(np.longdouble) - x.max(1, keepdims=True)) * (x < x.max(1, keepdims=True))
    l = np.log1p(others.sum(1))
    rest, p = -np.expm1(-l), np.exp(-l)
    truth, slope = {
        "generalized_cross_entropy": (-np.expm1(-np.longdouble(0.7) * l) / np.longdouble(0.7), p ** 0.7),
        "softmax_focal_loss": (rest ** 2 * l, rest ** 2 + 2 * rest * p * l), "poly1_cross_entropy": (l + rest, 1 + p)}[name]
    found = client.evaluate(name, {"input": x, "target": target}, {"reduction": "none"}, ["loss", "grad.input"])
    np.testing.assert_allclose(found["loss"], truth.astype(float), rtol=1e-12)
    np.testing.assert_allclose(
        found["grad.input"][np.arange(3), target], (-slope * rest).astype(float), rtol=1e-12)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_row_longer_than_a_unit_of_work_gives_what_its_formula_says(name):
    torch.manual_seed(2)
    function = lt.function(name)
    attributes, formula = FORMULAS[name][1]
    for shape, dtype in (((3, 70_001), torch.float32), ((2, 66_000, 3), torch.float64), ((2, 66_000), torch.bfloat16)):
        x = torch.randn(shape).to(dtype).requires_grad_()
        target = torch.randint(0, shape[1], shape[:1] + shape[2:])
        target.view(-1)[1] = -100
        for reduction in ("mean", "none"):
            theirs = reduced(formula(log_p(wide(x), target)), target, torch.ones(shape[1], dtype=torch.float64), reduction)
            compare(function(x, target, reduction=reduction, **attributes), theirs, x, f"{name} {shape} {dtype}")


def test_infinite_logits_give_what_the_formula_goes_to(client):
    inf, nan = math.inf, math.nan
    x = np.array([[-inf, 0, 1], [0, -inf, 1], [inf, 0, 0], [nan, 0, 0], [-inf, -inf, -inf]], np.float32)
    target = np.zeros(5, np.int64)
    for name, limit in (("generalized_cross_entropy", 1 / 0.7), ("softmax_focal_loss", inf), ("poly1_cross_entropy", inf)):
        found = client.evaluate(name, {"input": x, "target": target}, {"reduction": "none"}, ["loss", "grad.input"])
        loss, gradient = found["loss"], found["grad.input"]
        assert loss[0] == np.float32(limit) and np.isfinite(gradient[:2]).all() and np.isfinite(loss[1]), (name, loss)
        assert np.isnan(loss[2:]).all() and np.isnan(gradient[2:]).all(), (name, loss, gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("classes", [3, 300, 5000])
def test_certain_targets_keep_their_digits_in_losses_of_rows(classes, dtype):
    for lead in (5.0, 20.0, 34.0, 42.0):
        x = torch.zeros(2, classes, dtype=dtype)
        x[0, 2], x[1, classes - 1] = lead, lead
        target = torch.tensor([2, classes - 1])
        rest = (classes - 1) * math.exp(-lead)
        losses = {"asymmetric_loss_single_label": ({"eps": 0.0, "gamma_pos": 0.0}, math.log1p(rest)),
                  "cosface_loss": ({"margin": 0.0, "scale": 1.0}, math.log1p(rest)),
                  "cross_entropy": ({"softcap": 1e9}, math.log1p(rest))}
        for name, (attributes, truth) in losses.items():
            leaf = x.clone().requires_grad_()
            loss = lt.function(name)(leaf, target, reduction="none", **attributes)
            slopes, = torch.autograd.grad(loss.sum(), leaf)
            near = {torch.float32: 2e-6, torch.float64: 1e-7 if "softcap" in attributes else 1e-13}[dtype]
            text = f"{name} {classes} {lead}"
            assert abs(loss[0].item() / truth - 1) < near and abs(loss[1].item() / truth - 1) < near, text
            assert abs(slopes[0, 2].item() / -(rest / (1 + rest)) - 1) < near, text


def test_smoothed_targets_keep_their_digits_in_asymmetric_loss_single_label():
    x = torch.tensor([0.0, 43.0, 85.0], requires_grad=True)
    loss = lt.function("asymmetric_loss_single_label")(x, torch.tensor(2), gamma_neg=2.0, reduction="sum")
    loss.backward()
    torch.testing.assert_close(loss.item(), 5.37e-19, rtol=1e-3, atol=0)
    torch.testing.assert_close(x.grad[2].item(), -5.4e-19, rtol=1e-2, atol=0)


# ---- cross_entropy with what torch has none of


def capped(x, target, weight, softcap, square, smoothing, ignore, reduction):
    """Capped logits' cross entropy and the squares of their logsumexp, in torch's operations."""
    logits = softcap * torch.tanh(x / softcap) if softcap else x
    loss = F.cross_entropy(logits, target, weight, ignore_index=ignore, label_smoothing=smoothing, reduction=reduction)
    squares = square * torch.logsumexp(logits, 0 if x.dim() == 1 else 1) ** 2
    kept = target != ignore
    squares = torch.where(kept, squares, 0)
    if reduction == "none":
        return loss + squares
    return loss + squares.sum() / (kept.sum() if reduction == "mean" else 1)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_capped_logits_and_the_squares_of_their_logsumexp_are_their_formulas(dtype):
    torch.manual_seed(5)
    function = lt.function("cross_entropy")
    for shape, reduction, (softcap, square, smoothing, is_weighted) in itertools.product(
            CLASS_SHAPES + ((2, 9000), (1, 4100, 2)), REDUCTIONS,
            ((30.0, 0, 0, False), (2.0, 0, 0.25, True), (0, 1e-2, 0, False), (5.0, 1e-4, 0.1, False))):
        x = (torch.randn(shape, dtype=torch.float64) * 8).to(dtype)
        classes = shape[0] if len(shape) == 1 else shape[1]
        target = torch.randint(0, classes, shape[:0] if len(shape) == 1 else shape[:1] + shape[2:])
        if target.numel() > 3:
            target.flatten()[1] = 1 % classes
            target = torch.where(target == target.flatten()[-1], -100 if reduction != "mean" else target, target)
        weight = (torch.rand(classes, dtype=torch.float64) + 0.5).to(dtype) if is_weighted else None
        ours, theirs = x.clone().requires_grad_(), wide(x).requires_grad_()
        attributes = {"softcap": float(softcap), "lse_square_scale": float(square), "label_smoothing": float(smoothing),
                      "reduction": reduction}
        given = {"weight": weight} if is_weighted else {}
        mine = function(ours, target, **given, **attributes)
        its = capped(theirs, target, weight.double() if is_weighted else None, softcap, square, smoothing, -100, reduction)
        g = torch.linspace(0.5, 2, mine.numel(), dtype=torch.float64).reshape(mine.shape).to(dtype)
        text = f"{shape} {attributes} {is_weighted}"
        near = {torch.float32: 2e-6, torch.float64: 1e-13, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
        for a, b in ((mine, its), (torch.autograd.grad(mine, ours, g)[0],
                                   torch.autograd.grad(its, theirs, g.double())[0])):
            assert a.dtype == dtype and a.shape == b.shape, text
            scale = b.abs().nan_to_num(0, 0, 0).max().item() if b.numel() else 0
            torch.testing.assert_close(a.double(), b.double(), rtol=near, atol=near * max(scale, 1e-30), equal_nan=True,
                                       msg=lambda m: f"{text}: {m}")


def test_capped_logits_have_second_derivatives():
    torch.manual_seed(6)
    x, target = torch.randn(3, 4, dtype=torch.float64, requires_grad=True), torch.tensor([1, -100, 3])
    for attributes in ({"softcap": 2.0}, {"lse_square_scale": 0.1}, {"softcap": 2.0, "lse_square_scale": 0.1, "reduction": "sum"}):
        function = lt.function("cross_entropy")
        assert torch.autograd.gradcheck(lambda x: function(x, target, **attributes), x)
        assert torch.autograd.gradgradcheck(lambda x: function(x, target, **attributes), x)


def test_infinite_logits_are_capped_and_spoil_what_is_not(client):
    inf = np.inf
    x = np.array([[inf, 0, 1], [-inf, 0, 1]], np.float32)
    both = client.evaluate("cross_entropy", {"input": x, "target": [0, 1]}, {"softcap": 2.0, "reduction": "none"},
                           ["loss", "grad.input"])
    truth = [-2 + math.log(math.exp(2) + 1 + math.exp(2 * math.tanh(0.5))),
             math.log(math.exp(-2) + 1 + math.exp(2 * math.tanh(0.5)))]
    np.testing.assert_allclose(both["loss"], truth, rtol=1e-6)
    assert np.isfinite(both["grad.input"]).all() and both["grad.input"][0, 0] == 0
    squared = client.evaluate("cross_entropy", {"input": x, "target": [0, 1]}, {"lse_square_scale": 0.5, "reduction": "none"},
                              ["loss"])["loss"]
    assert np.isnan(squared[0])
    np.testing.assert_allclose(squared[1], math.log(1 + math.e) + 0.5 * math.log(1 + math.e) ** 2, rtol=1e-6)


@pytest.mark.parametrize("inputs, attributes, text", [
    ({"target": np.zeros((2, 3), np.float32)}, {"softcap": 1.0}, "softcap and lse_square_scale are for class indices"),
    ({"target": [0, 1], "weight": np.ones(3, np.float32)}, {"lse_square_scale": 0.5}, "expected 0 with a weight"),
    ({"target": [0, 3]}, {"softcap": 1.0}, r"target\[1\] is 3, outside"), ({"target": [0, 1]}, {"softcap": -1.0}, "softcap"),
    ({"target": [0, 1]}, {"lse_square_scale": math.nan}, "lse_square_scale")])
def test_what_caps_nothing_is_refused(client, inputs, attributes, text):
    with pytest.raises(lossd.InvalidArgument, match=text):
        client.evaluate("cross_entropy", {"input": np.zeros((2, 3), np.float32), **inputs}, attributes, ["loss"])


# ---- Rows of cosines and of single labels


ROWS = {
    "arcface_loss": (arcface, [{}, {"margin": 0.3, "scale": 10.0}, {"margin": 3.0, "scale": 5.0}, {"margin": 0.0}]),
    "cosface_loss": (cosface, [{}, {"margin": 0.1, "scale": 16.0}]),
    "asymmetric_loss_single_label": (single_label, [
        {}, {"gamma_neg": 2.5, "gamma_pos": 1.0}, {"eps": 0.0, "gamma_pos": 2.0}, {"gamma_neg": 0.0, "eps": 0.2},
        {"gamma_pos": 0.5, "eps": 1.0}]),
}


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", ROWS)
def test_losses_of_rows_are_their_formulas(name, dtype):
    torch.manual_seed(3)
    formula, variants = ROWS[name]
    function = lt.function(name)
    for attributes, shape, reduction in itertools.product(variants, ((4, 5), (33, 70), (2, 5000), (1, 1), (3, 9001)), REDUCTIONS):
        if attributes.get("margin", 0) == 0.0 and shape == (1, 1):
            continue
        x = (torch.rand(shape) * 1.9 - 0.95 if "face" in name else torch.randn(shape) * 2).to(dtype).requires_grad_()
        target = torch.randint(0, shape[1], shape[:1])
        losses = formula(wide(x), target, **attributes)
        theirs = {"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction]
        upstream = torch.randn(theirs.shape).to(dtype)
        compare(function(x, target, reduction=reduction, **attributes), theirs, x, f"{name} {attributes} {shape} {reduction}",
                upstream)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_arcface_has_a_finite_gradient_at_cosines_of_one_and_beyond(client, dtype):
    for cosine in (1, -1, 1.001, -1.5, np.nextafter(dtype(1), dtype(0))):
        x = np.array([[cosine, 0.25, -0.5], [0.25, cosine, 1]], dtype)
        for margin in (0.0, 0.5, math.pi):
            found = client.evaluate("arcface_loss", {"input": x, "target": np.array([0, 1])}, {"margin": margin, "scale": 8.0},
                                    ["loss", "grad.input"])
            assert np.isfinite(found["loss"]) and np.isfinite(found["grad.input"]).all(), (cosine, margin, found)


# ---- torch's own


@pytest.mark.parametrize("name", _classes.LOSSES)
def test_arguments_are_torchs_in_its_order(name):
    theirs = inspect.signature(getattr(F, name)).parameters
    ours = inspect.signature(getattr(lt, name)).parameters
    assert [(item.name, item.default) for item in ours.values()] == [(item.name, item.default) for item in theirs.values()]


MARGIN_SHAPES = ((), (5,), (4, 5), (37, 12), (3, 5001), (1, 1))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_multi_margin_loss_is_torchs(dtype):
    torch.manual_seed(4)
    for shape, p, margin, is_weighted, reduction in itertools.product(
            MARGIN_SHAPES, (1, 2), (1.0, 0.0, -0.5, 2.5), (False, True), REDUCTIONS):
        x = torch.randn(shape).to(dtype).requires_grad_()
        classes = shape[-1] if shape else 1
        target = torch.randint(0, classes, shape[:1] if len(shape) == 2 else ())
        weight = (torch.rand(classes) + 0.25).to(dtype) if is_weighted else None
        ours = lt.multi_margin_loss(x, target, p, margin, weight, reduction=reduction)
        theirs = F.multi_margin_loss(wide(x), target, p, margin, weight.double() if is_weighted else None, reduction=reduction)
        compare(ours, theirs, x, f"{shape} {p} {margin} {is_weighted} {reduction}", torch.randn(theirs.shape))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_multilabel_margin_loss_is_torchs(dtype):
    torch.manual_seed(5)
    for shape, reduction, count in itertools.product(((), (5,), (4, 5), (17, 40), (3, 700), (2, 5000)), REDUCTIONS, (0, 1, 3, 400)):
        x = torch.randn(shape).to(dtype).requires_grad_()
        classes = shape[-1] if shape else 1
        target = torch.randint(0, classes, shape)
        if shape and count < classes:
            target[..., count] = -1
        ours = lt.multilabel_margin_loss(x, target, reduction=reduction)
        theirs = F.multilabel_margin_loss(wide(x), target, reduction=reduction)
        compare(ours, theirs, x, f"{shape} {reduction} {count}", torch.randn(theirs.shape))


def test_many_labels_give_what_comparing_each_gives():
    """More than 64 labels are compared in sorted order: with equal scores, infinities and NaN among them."""
    torch.manual_seed(6)
    for turn in range(8):
        x = (torch.randn(3, 300, dtype=torch.float64) * 4).round() / 4
        if turn % 2:
            x[:, ::7] = torch.tensor([math.inf, -math.inf, math.nan])[torch.randint(0, 3, (3, 43))]
        x.requires_grad_()
        target = torch.randint(0, 300, (3, 300))
        target[:, 150] = -1
        ours, theirs = lt.multilabel_margin_loss(x, target, reduction="none"), F.multilabel_margin_loss(x, target, reduction="none")
        torch.testing.assert_close(ours, theirs, equal_nan=True)
        torch.testing.assert_close(*(torch.autograd.grad(item, x, torch.ones(3, dtype=torch.float64))[0] for item in (ours, theirs)))


def test_margins_of_infinities_and_nan_are_torchs():
    values = torch.tensor([0.0, 1.0, math.inf, -math.inf, math.nan])
    x = torch.cartesian_prod(values, values, values).requires_grad_()
    target = torch.zeros(len(x), dtype=torch.long)
    lists = torch.tensor([0, -1, 1]).expand(len(x), 3).contiguous()
    for dtype in (torch.float32, torch.float64):
        y = x.detach().to(dtype).requires_grad_()
        for ours, theirs in (
                *((lt.multi_margin_loss(y, target, p, reduction="none"), F.multi_margin_loss(y, target, p, reduction="none"))
                  for p in (1, 2)),
                (lt.multilabel_margin_loss(y, lists, reduction="none"), F.multilabel_margin_loss(y, lists, reduction="none"))):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0, equal_nan=True)


def sequence(times, samples, classes, length, dtype, is_normal=True):
    x = torch.randn(times, samples, classes) * 2
    x = (x.log_softmax(-1) if is_normal else x).to(dtype)
    lengths = torch.randint(0, length + 1, (samples,))
    steps = torch.randint(times // 2, times + 1, (samples,))
    targets = torch.randint(1, classes, (samples, length))
    return x.requires_grad_(), targets, steps, lengths


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_ctc_loss_is_torchs_for_both_forms_of_targets(dtype):
    torch.manual_seed(7)
    for (times, samples, classes, length), reduction, is_padded, is_zeroed, is_normal in itertools.product(
            ((12, 3, 5, 4), (1, 2, 3, 1), (50, 5, 30, 20), (9, 4, 2, 6), (200, 2, 5000, 30)), REDUCTIONS, (True, False),
            (False, True), (True, False)):
        x, targets, steps, lengths = sequence(times, samples, classes, length, dtype, is_normal)
        if not is_padded:
            targets = torch.cat([row[:count] for row, count in zip(targets, lengths)])
        arguments = (targets, steps, lengths, 0, reduction, is_zeroed)
        ours, theirs = lt.ctc_loss(x, *arguments), F.ctc_loss(wide(x), *arguments)
        upstream = torch.rand(theirs.shape) + 0.5
        compare(ours, theirs, x, f"{times} {samples} {classes} {length} {reduction} {is_padded} {is_zeroed}", upstream,
                1e-11)


def test_ctc_loss_takes_one_sample_lists_of_lengths_other_blanks_and_all_types_of_integers():
    torch.manual_seed(8)
    x = torch.randn(6, 4, dtype=torch.float64).log_softmax(-1).requires_grad_()
    two = torch.tensor([1, 2])
    for targets, steps, lengths in (
            (two, torch.tensor(6), torch.tensor(2)), (two, (6,), (2,)), (two, torch.tensor([5]), torch.tensor([2])),
            (torch.tensor([[1, 2, 3]]), (6,), (2,)), (two.byte(), torch.tensor([5]).byte(), torch.tensor([2]).int())):
        for reduction in REDUCTIONS:
            ours = lt.ctc_loss(x, targets, steps, lengths, 0, reduction)
            compare(ours, F.ctc_loss(x, targets.long(), steps, lengths, 0, reduction), x, f"{targets} {reduction}",
                    of_doubles=1e-12)
    y = torch.randn(7, 2, 4, dtype=torch.float64).log_softmax(-1).requires_grad_()
    for blank, targets in ((3, [[0, 1, 1], [2, 2, 2]]), (0, [[1, 0, 1], [0, 0, 2]]), (2, [[2, 0, 1], [1, 2, 3]])):
        arguments = (torch.tensor(targets), (7, 6), (3, 3), blank, "none")
        compare(lt.ctc_loss(y, *arguments), F.ctc_loss(y, *arguments), y, f"blank {blank}",
                of_doubles=1e-12)


def test_ctc_losses_without_an_alignment_are_torchs():
    x = torch.randn(5, 3, 4).log_softmax(-1).requires_grad_()
    targets, steps, lengths = torch.tensor([1, 1, 1, 1, 2]), torch.tensor([3, 5, 0]), torch.tensor([4, 0, 1])
    for reduction, is_zeroed in itertools.product(REDUCTIONS, (False, True)):
        ours, theirs = (f(x, targets, steps, lengths, 0, reduction, is_zeroed) for f in (lt.ctc_loss, F.ctc_loss))
        compare(ours, theirs, x, f"{reduction} {is_zeroed}", torch.ones(theirs.shape))


def test_a_probability_of_nothing_does_not_spoil_a_ctc_loss_that_has_another_way():
    x = torch.randn(8, 1, 4, dtype=torch.float64).log_softmax(-1)
    x[3, 0, 2] = x[5, 0, 3] = -math.inf
    x.requires_grad_()
    arguments = (torch.tensor([[1, 2]]), (8,), (2,), 0, "sum")
    ours, theirs = lt.ctc_loss(x, *arguments), F.ctc_loss(x, *arguments)
    torch.testing.assert_close(ours, theirs)
    gradient, = torch.autograd.grad(ours, x)
    # torch's is NaN where it takes -inf from -inf.
    its, = torch.autograd.grad(theirs, x)
    torch.testing.assert_close(gradient[~its.isnan()], its[~its.isnan()])
    assert gradient.isfinite().all()


def test_extreme_log_probabilities_do_not_under_or_overflow_in_ctc_loss():
    torch.manual_seed(9)
    x = (torch.randn(40, 2, 6, dtype=torch.float64) * 1000).log_softmax(-1).requires_grad_()
    arguments = (torch.randint(1, 6, (2, 9)), (40, 33), (9, 7), 0, "none")
    compare(lt.ctc_loss(x, *arguments), F.ctc_loss(x, *arguments), x, "extreme", of_doubles=1e-10)


@pytest.mark.parametrize("change, text", [
    ({"targets": [[1, 2], [3, 4]]}, r"targets\[1, 0\] is 3, outside \[0, 3\)"),
    ({"targets": [[1, -1], [2, 1]]}, r"targets\[0, 1\] is -1, outside \[0, 3\)"),
    ({"targets": [1, 2, 1, 1_000_000_000]}, r"targets\[3\] is 1000000000, outside"),
    ({"targets": [1, 2, 1]}, r"target_lengths\[1\] is 2, expected 0 to 1, what is left of targets"),
    ({"targets": [1, 2, 1, 2, 1]}, r"targets is \(5,\), expected \(4,\), the sum of target_lengths"),
    ({"targets": [[1, 2]]}, r"targets is \(1, 2\), expected \(2, S\)"),
    ({"input_lengths": [6, 5]}, r"input_lengths\[0\] is 6, expected 0 to 5"),
    ({"input_lengths": [-1, 5]}, r"input_lengths\[0\] is -1, expected 0 to 5"),
    ({"target_lengths": [3, 1]}, r"target_lengths\[0\] is 3, expected 0 to 2"),
    ({"target_lengths": [-1, 1]}, r"target_lengths\[0\] is -1, expected 0 to 2"),
    ({"input_lengths": [5]}, r"input_lengths is \(1,\), expected a length of each sample: \(2,\)"),
    ({"blank": 3}, r"blank is 3, outside \[0, 3\)"), ({"blank": -1}, r"blank is -1"),
    ({"log_probs": np.zeros((5, 0, 3))}, r"expected no dimension of size 0"),
    ({"log_probs": np.zeros(5)}, r"log_probs is \(5,\), expected \(T, N, C\) or \(T, C\)"),
])
def test_ctc_loss_refuses_with_the_place_and_what_was_expected(client, change, text):
    tensors = {"log_probs": np.zeros((5, 2, 3)), "targets": [[1, 2], [2, 1]], "input_lengths": [5, 5],
               "target_lengths": [2, 2]}
    attributes = {key: change.pop(key) for key in list(change) if key == "blank"}
    inputs = {name: np.array(value) for name, value in {**tensors, **change}.items()}
    with pytest.raises(lossd.InvalidArgument, match=text):
        client.evaluate("ctc_loss", inputs, attributes, ["loss", "grad.log_probs"])
    with pytest.raises(lossd.InvalidArgument):
        client.evaluate("ctc_loss", {**inputs, "targets": inputs["targets"].astype(float)}, attributes)


@pytest.mark.parametrize("name, inputs, attributes, text", [
    ("multi_margin_loss", {"target": [0, 3, 1, 0]}, {}, r"target\[1\] is 3, outside \[0, 3\)"),
    ("multi_margin_loss", {"target": [0, -100, 1, 0]}, {}, r"target\[1\] is -100, outside"),
    ("multi_margin_loss", {"target": [0, 1]}, {}, r"target is \(2,\), expected a class index of each row: \(4,\)"),
    ("multi_margin_loss", {"target": [0, 1, 1, 0]}, {"p": 3}, "p is 3"),
    ("multi_margin_loss", {"target": [0, 1, 1, 0], "weight": [1.0, 2]}, {}, r"weight is float64 \(2,\), expected float64 \(3,\)"),
    ("multi_margin_loss", {"input": np.zeros((4, 0)), "target": [0] * 4}, {}, "expected at least one class"),
    ("multi_margin_loss", {"input": np.zeros((4, 3, 2)), "target": [0] * 4}, {}, r"expected \(C\) or \(N, C\)"),
    ("multilabel_margin_loss", {"target": [[-1, 0, 99]] * 4}, {}, r"target\[0, 2\] is 99, outside \[0, 3\)"),
    ("multilabel_margin_loss", {"target": [[0, -2, 1]] * 4}, {}, r"target\[0, 1\] is -2"),
    ("multilabel_margin_loss", {"target": [0, 1, 2, 0]}, {}, r"expected input's shape \(4, 3\)"),
    ("arcface_loss", {"target": [0, 3, 1, 0]}, {}, r"target\[1\] is 3, outside"),
    ("arcface_loss", {"target": [0, 1, 1, 0]}, {"margin": 4.0}, "margin is 4"),
    ("cosface_loss", {"target": [0, 1, 1, -1]}, {}, r"target\[3\] is -1"),
    ("asymmetric_loss_single_label", {"target": [0, 5, 1, 0]}, {}, r"target\[1\] is 5"),
    ("asymmetric_loss_single_label", {"target": [0, 1, 1, 0]}, {"eps": 1.5}, "eps is 1.5"),
    ("generalized_cross_entropy", {"target": [0, 1, 1, 7]}, {}, r"target\[3\] is 7, outside"),
    ("generalized_cross_entropy", {"target": [0, 1, 1, 0]}, {"q": 1.5}, "q is 1.5"),
    ("softmax_focal_loss", {"target": [0, 1, 1, 0]}, {"gamma": -1.0}, "gamma is -1"),
    ("softmax_focal_loss", {"target": [0, 1, 1, 0], "weight": np.ones(3, np.float32)}, {}, "weight is float32"),
    ("poly1_cross_entropy", {"target": [0, 1, 1]}, {}, r"target is \(3,\), expected input \(4, 3\) without its classes"),
])
def test_what_does_not_go_is_refused_with_the_place(client, name, inputs, attributes, text):
    inputs = {key: np.asarray(value) for key, value in {"input": np.zeros((4, 3)), **inputs}.items()}
    with pytest.raises(lossd.InvalidArgument, match=text):
        client.evaluate(name, inputs, attributes, ["loss", "grad.input"])


def test_losses_of_no_rows_are_nan_for_a_mean_and_nothing_for_a_sum(client):
    x = np.zeros((0, 3), np.float32)
    for name, target in (("multi_margin_loss", np.zeros(0, int)), ("multilabel_margin_loss", np.zeros((0, 3), int)),
                         ("arcface_loss", np.zeros(0, int)), ("asymmetric_loss_single_label", np.zeros(0, int)),
                         ("poly1_cross_entropy", np.zeros(0, int))):
        for reduction, expected in (("mean", math.nan), ("sum", 0.0)):
            found = client.evaluate(name, {"input": x, "target": target}, {"reduction": reduction}, ["loss", "grad.input"])
            np.testing.assert_equal(float(found["loss"]), expected)
            assert found["grad.input"].shape == (0, 3)


@pytest.mark.parametrize("name", _classes.MODULES)
def test_modules_are_torchs(name):
    ours, theirs = getattr(lt, name)(), getattr(torch.nn, name)()
    assert isinstance(ours, getattr(torch.nn, name)) and repr(ours) == repr(theirs)
    x, target = torch.randn(4, 5), torch.randint(0, 5, (4,))
    if name == "CTCLoss":
        arguments = (torch.randn(9, 2, 5).log_softmax(-1), torch.randint(1, 5, (2, 3)), (9, 8), (3, 2))
    else:
        arguments = (x, torch.randint(-1, 5, (4, 5)) if name == "MultiLabelMarginLoss" else target)
    torch.testing.assert_close(ours(*arguments), theirs(*arguments))

"""Makes plugins.json, golden values of the example plugins, from torch 2.13:

    python Tests/Golden/make_plugins.py

A case: {f: function, i: {input: [data type, shape, bytes in hex]}, a: attributes, o: {output: result}} with result
{truth: [...], term: [...], torch: ulps}: the formula of the exactly widened inputs in extended precision, checked
here against torch in float64; the largest magnitude that is added up on the way to each, the yardstick of a result
that nearly cancels; and the worst error of torch's own in the inputs' type, in ulps of that type at the larger of
truth and term.

focal_loss is torchvision.ops.sigmoid_focal_loss's formula (torchvision 0.20), from torch's primitives.
"""
import itertools
import json
import pathlib

import torch
from mpmath import mp, mpf
from torch.nn import functional

mp.dps = 40
TYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}


def focal(x, y, alpha=0.25, gamma=2.0, reduction="none"):
    p = torch.sigmoid(x)
    ce = functional.binary_cross_entropy_with_logits(x, y, reduction="none")
    p_t = p * y + (1 - p) * (1 - y)
    loss = ce * ((1 - p_t) ** gamma)
    if alpha >= 0:
        loss = (alpha * y + (1 - alpha) * (1 - y)) * loss
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]


def exact_focal(x, y, alpha=0.25, gamma=2.0):
    """Loss, derivative and their largest terms of one element."""
    p = 1 / (1 + mp.exp(-x))
    q = 1 / (1 + mp.exp(x))
    ce = (1 - y) * x + mp.log1p(mp.exp(-x))
    m = p * (1 - y) + q * y
    a = alpha * y + (1 - alpha) * (1 - y) if alpha >= 0 else mpf(1)
    power = m ** gamma
    first = power * (p * (1 - y) - q * y)
    second = ce * gamma * m ** (gamma - 1) * p * q * (1 - 2 * y)
    return (a * ce * power, a * (first + second),
            a * power * max(ce, abs((1 - y) * x)), a * max(power * max(p * (1 - y), q * y), abs(second)))


def poisson(x, y, log_input=True, full=False, eps=1e-8, reduction="mean"):
    return functional.poisson_nll_loss(x, y, log_input=log_input, full=full, eps=eps, reduction=reduction)


def exact_poisson(x, y, log_input=True, full=False, eps=1e-8):
    rate = mp.exp(x) if log_input else x
    product = y * x if log_input else y * mp.log(x + eps)
    slope = y if log_input else y / (x + eps)
    stirling = [y * mp.log(y), -y, mp.log(2 * mp.pi * y) / 2] if full and y > 1 else [mpf(0)]
    return (rate - product + sum(stirling), (rate if log_input else 1) - slope,
            max([rate, abs(product)] + [abs(part) for part in stirling]), max(rate if log_input else 1, slope))


def raw(tensor):
    kind = str(tensor.dtype).removeprefix("torch.")
    data = tensor.detach().contiguous()
    data = data.view(torch.int16) if kind == "bfloat16" else data
    return [kind, list(tensor.shape), data.numpy().tobytes().hex()]


def numbers(tensor):
    assert torch.all(torch.isfinite(tensor))
    return tensor.tolist()


DIGITS = {"float32": (24, -126), "float64": (53, -1022), "float16": (11, -14), "bfloat16": (8, -126)}


def worst_ulps(own, truth, term):
    """As Tests/System/test_example_plugins.py measures ours."""
    digits, least = DIGITS[str(own.dtype).removeprefix("torch.")]
    scale = torch.maximum(truth.abs(), term.double())
    exponent = torch.clamp(torch.floor(torch.log2(scale)), min=least)
    return ((own.double() - truth).abs() / 2 ** (exponent - digits + 1)).max().item()


def truths(exact, x, y, up, reduction, attributes):
    """Results and terms in extended precision, rounded to float64."""
    xs, ys = x.double().flatten().tolist(), y.double().broadcast_to(x.shape).flatten().tolist()
    losses, slopes, loss_terms, slope_terms = zip(*(
        exact(mpf(a), mpf(b), **attributes) for a, b in zip(xs, ys)))
    ups = [mpf(1)] * len(xs) if up is None else [mpf(v) for v in up.double().broadcast_to(x.shape).flatten().tolist()]
    count = len(xs) if reduction == "mean" else 1
    if reduction != "none":
        losses, loss_terms = [sum(losses) / count], [sum(loss_terms) / count]
    slopes = [slope * u / count for slope, u in zip(slopes, ups)]
    slope_terms = [term * abs(u) / count for term, u in zip(slope_terms, ups)]
    tensors = (torch.tensor([float(v) for v in part], dtype=torch.float64)
               for part in (losses, loss_terms, slopes, slope_terms))
    loss, loss_term, slope, slope_term = tensors
    return (loss, loss_term), (slope, slope_term)


def case(name, function, exact, x, y, attributes, up=None):
    def run(wide):
        a, b = (x.double(), y.double()) if wide else (x, y)
        a = a.clone().requires_grad_()
        loss = function(a, b, **attributes)
        if up is not None:
            loss.backward(up.double() if wide else up)
        else:
            loss.sum().backward()
        return loss.detach().flatten(), a.grad.flatten()

    wide, own = run(True), run(False)
    plain = {key: mpf(value) if isinstance(value, float) else value
             for key, value in attributes.items() if key != "reduction"}
    outputs = {}
    for output, (truth, term), near, torchs in zip(
            ("loss", "grad.input"), truths(exact, x, y, up, attributes["reduction"], plain), wide, own):
        assert torch.all((near - truth).abs() <= 1e-6 * term + 1e-14), (name, attributes, output)
        outputs[output] = {"truth": numbers(truth), "term": [float(f"{v:.3g}") for v in term.tolist()],
                           "torch": float(f"{worst_ulps(torchs, truth, term):.3g}")}
    inputs = {"input": raw(x), "target": raw(y)}
    if up is not None:
        inputs["grad.loss"] = raw(up)
    return {"f": name, "i": inputs, "a": attributes, "o": outputs}


def main():
    random = torch.Generator().manual_seed(5)
    cases = []

    def normal(shape, kind, scale):
        return (torch.randn(shape, generator=random, dtype=torch.float64) * scale).to(TYPES[kind])

    for kind, reduction, (alpha, gamma) in itertools.product(
            TYPES, ("none", "mean", "sum"), ((0.25, 2.0), (-1.0, 2.0), (0.9, 0.0), (0.5, 1.0), (0.25, 2.5))):
        attributes = {"alpha": alpha, "gamma": gamma, "reduction": reduction}
        shape = (3, 8) if reduction == "none" else (4, 5)
        x = normal(shape, kind, 4)
        hard = (torch.rand(shape, generator=random) < 0.4).to(TYPES[kind])
        cases.append(case("focal_loss", focal, exact_focal, x, hard, attributes))
        soft = torch.rand(shape, generator=random).to(TYPES[kind])
        up = normal(shape if reduction == "none" else (), kind, 1)
        cases.append(case("focal_loss", focal, exact_focal, x, soft, attributes, up))
    for kind, reduction, log_input, full in itertools.product(
            TYPES, ("none", "mean", "sum"), (True, False), (True, False)):
        attributes = {"log_input": log_input, "full": full, "reduction": reduction,
                      "eps": 1e-8 if kind in ("float32", "float64") else 1e-3}
        shape = (4, 6)
        x = normal(shape, kind, 1.5)
        x = x if log_input else x.abs() + 0.1
        y = torch.poisson(torch.full(shape, 2.5), generator=random).to(TYPES[kind])
        cases.append(case("poisson_nll", poisson, exact_poisson, x, y, attributes))
        y = torch.poisson(torch.full((4, 1), 2.5), generator=random).to(TYPES[kind])
        up = normal(shape if reduction == "none" else (), kind, 1)
        cases.append(case("poisson_nll", poisson, exact_poisson, x, y, attributes, up))
    path = pathlib.Path(__file__).with_name("plugins.json")
    path.write_text("[" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "]\n")
    print(f"{len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

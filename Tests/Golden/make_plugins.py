"""Makes plugins.json, golden values of the example plugins, from torch 2.13:

    python Tests/Golden/make_plugins.py

A case: {f: function, i: {input: [data type, shape, bytes in hex]}, a: attributes, o: {output: result}} with result
{truth: [...], term: [...], torch: ulps}: the formula of the exactly widened inputs in extended precision, checked
here against torch in float64; the largest magnitude that is added up on the way to each, the yardstick of a result
that nearly cancels; and the worst error of torch's own in the inputs' type, in ulps of that type at the larger of
truth and term.
"""
import itertools
import json
import pathlib

import torch
from mpmath import mp, mpf
from torch.nn import functional

mp.dps = 40
TYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}


def reduced(loss, reduction):
    return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[reduction]


def quality_focal(x, y, beta=2.0, reduction="mean"):
    """Li et al. (2020), "Generalized Focal Loss"."""
    entropy = functional.binary_cross_entropy_with_logits(x, y, reduction="none")
    return reduced((y - torch.sigmoid(x)).abs() ** beta * entropy, reduction)


def exact_quality_focal(x, y, beta=2.0):
    """Loss, derivative and their largest terms of one element. What the difference p - y loses counts, too: by its
    larger term, p and y taken from 0 or 1, whichever is nearer to p."""
    p, q = 1 / (1 + mp.exp(-x)), 1 / (1 + mp.exp(x))
    entropy = (1 - y) * x + mp.log1p(mp.exp(-x))
    miss, larger = p - y, max(p, y) if x < 0 else max(q, 1 - y)
    size, sign = abs(miss), mp.sign(miss)
    rise = p * q * entropy
    second = beta * size ** (beta - 1) * sign * rise
    return (size ** beta * entropy, size ** beta * miss + second,
            entropy * max(size ** beta, beta * size ** (beta - 1) * larger),
            max(size ** beta * larger, abs(second), abs(beta * (beta - 1)) * size ** (beta - 2) * larger * rise))


def tweedie(x, y, power=1.5, reduction="mean"):
    """scikit-learn's HalfTweedieLoss."""
    if power == 1:
        return reduced(torch.exp(x) - y * x, reduction)
    if power == 2:
        return reduced(x + y * torch.exp(-x), reduction)
    return reduced(torch.exp((2 - power) * x) / (2 - power) - y * torch.exp((1 - power) * x) / (1 - power), reduction)


def exact_tweedie(x, y, power=1.5):
    rise, fall = mp.exp((2 - power) * x), y * mp.exp((1 - power) * x)
    of_mean = x if power == 2 else rise / (2 - power)
    of_target = -y * x if power == 1 else fall / (power - 1)
    return of_mean + of_target, rise - fall, max(abs(of_mean), abs(of_target)), max(rise, fall)


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

    for kind, reduction, beta in itertools.product(TYPES, ("none", "mean", "sum"), (0.0, 0.5, 1.0, 2.0, 2.5)):
        if beta == 0.5 and kind in ("float16", "bfloat16"):
            beta = 1.5  # below 1 torch's gradient is NaN where p is rounded to the target
        attributes = {"beta": beta, "reduction": reduction}
        shape = (3, 8) if reduction == "none" else (4, 5)
        x = normal(shape, kind, 4)
        hard = (torch.rand(shape, generator=random) < 0.4).to(TYPES[kind])
        cases.append(case("quality_focal_loss", quality_focal, exact_quality_focal, x, hard, attributes))
        soft = torch.rand(shape, generator=random).to(TYPES[kind])
        up = normal(shape if reduction == "none" else (), kind, 1)
        cases.append(case("quality_focal_loss", quality_focal, exact_quality_focal, x, soft, attributes, up))

    def claims(shape, kind):
        """Amounts, of which more than a third are 0."""
        counts = torch.poisson(torch.full(shape, 0.9), generator=random)
        return (counts * torch.randn(shape, generator=random).exp()).to(TYPES[kind])

    for kind, reduction, power in itertools.product(TYPES, ("none", "mean", "sum"), (1.0, 1.3, 1.5, 2.0)):
        attributes = {"power": power, "reduction": reduction}
        x = normal((4, 6), kind, 1.5)
        cases.append(case("tweedie_loss", tweedie, exact_tweedie, x, claims((4, 6), kind), attributes))
        up = normal((4, 6) if reduction == "none" else (), kind, 1)
        cases.append(case("tweedie_loss", tweedie, exact_tweedie, x, claims((4, 1), kind), attributes, up))
    path = pathlib.Path(__file__).with_name("plugins.json")
    path.write_text("[" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "]\n")
    print(f"{len(cases)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()

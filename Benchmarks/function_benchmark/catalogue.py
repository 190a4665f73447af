"""What each function is measured with: its operands, its attributes, and torch's call."""
import dataclasses
import pathlib
import sys

FLOAT, INT = "float", "int64"


@dataclasses.dataclass(frozen=True)
class Operand:
    """An input's random numbers, between two bounds; integers leave out the upper one, `signs` are 1 and -1."""

    name: str
    shape: tuple
    low: float = -6
    high: float = 6
    kind: str = FLOAT
    signs: bool = False

    def text(self, dtype):
        shape = "x".join(map(str, self.shape)) or "-"
        kind = dtype if self.kind == FLOAT else self.kind
        return f"{self.name}:{kind}:{shape}:{'signs' if self.signs else f'{self.low},{self.high}'}"


# The bounds of operands that take less than every number, by function and operand.
BOUNDS = {
    ("binary_cross_entropy", "input"): (0.01, 0.99), ("logit", "input"): (0.01, 0.99), ("log1p", "input"): (-0.9, 6),
    ("entr", "input"): (0, 2), ("xlogy", "other"): (0.01, 3), ("xlog1py", "other"): (-0.9, 3),
    ("kl_div", "input"): (-6, -0.01), ("kl_div", "target"): (0.01, 1), ("poisson_nll_loss", "target"): (0, 5),
    ("gaussian_nll_loss", "var"): (0.1, 2), ("arcface_loss", "input"): (-1, 1), ("cosface_loss", "input"): (-1, 1),
    ("ctc_loss", "log_probs"): (-8, 0),
}
SIGNED = ("soft_margin_loss", "hinge_embedding_loss", "siglip_loss")
SEED = ("sigmoid", "binary_cross_entropy", "binary_cross_entropy_with_logits", "softmax", "log_softmax", "cross_entropy",
        "nll_loss", "multilabel_soft_margin_loss")
ACTIVATIONS = (
    "tanh", "relu", "relu6", "hardtanh", "threshold", "leaky_relu", "rrelu", "elu", "selu", "celu", "gelu", "gelu_tanh",
    "silu", "mish", "softplus", "logsigmoid", "softsign", "tanhshrink", "hardsigmoid", "hardswish", "hardshrink", "softshrink",
    "prelu", "glu")
SPECIAL = ("erf", "erfc", "ndtr", "log1p", "expm1", "exp2", "logit", "entr", "log_ndtr", "sinc", "xlogy", "xlog1py")
PAIRS = (
    "l1_loss", "mse_loss", "smooth_l1_loss", "huber_loss", "log_cosh_loss", "quantile_loss", "kl_div", "poisson_nll_loss",
    "soft_margin_loss", "hinge_embedding_loss", "gaussian_nll_loss", "margin_ranking_loss", "sigmoid_focal_loss",
    "asymmetric_loss", "siglip_loss")
ROWS = ("softmin", "logsumexp", "normalize", "cosine_similarity", "pairwise_distance")
VECTORS = ("cosine_embedding_loss", "triplet_margin_loss")
CLASSES = (
    "generalized_cross_entropy", "softmax_focal_loss", "poly1_cross_entropy", "cross_entropy_softcap",
    "asymmetric_loss_single_label", "arcface_loss", "cosface_loss", "multi_margin_loss", "multilabel_margin_loss")
# What a name above stands for, where it is not a function's own.
FORMS = {"gelu_tanh": ("gelu", {"approximate": "tanh"}), "cross_entropy_softcap": ("cross_entropy", {"softcap": 30.0})}
ATTRIBUTES = {"threshold": {"threshold": 0.5, "value": 0.25}}
# The operands beside a first one of the same shape.
OPERANDS = {
    "xlogy": ("input", "other"), "xlog1py": ("input", "other"), "gaussian_nll_loss": ("input", "target", "var"),
    "margin_ranking_loss": ("input1", "input2"), "cosine_similarity": ("x1", "x2"), "pairwise_distance": ("x1", "x2"),
    "cosine_embedding_loss": ("input1", "input2"), "triplet_margin_loss": ("anchor", "positive", "negative"),
}


def function(name):
    """(the function, its attributes)."""
    name, attributes = FORMS.get(name, (name, ATTRIBUTES.get(name, {})))
    return name, dict(attributes)


def operands(name, shape):
    """The inputs of a function by `shape`, which is its first input's."""
    def operand(label, sizes=shape, low=-6, high=6, **more):
        return Operand(label, tuple(sizes), *BOUNDS.get((name, label), (low, high)), **more)

    name, _ = function(name)
    if name == "ctc_loss":
        steps, samples, classes = shape
        labels = steps // 4
        return [operand("log_probs"), operand("targets", (samples, labels), 1, classes, kind=INT),
                operand("input_lengths", (samples,), steps, steps + 1, kind=INT),
                operand("target_lengths", (samples,), labels, labels + 1, kind=INT)]
    if name in OPERANDS:
        made = [operand(label) for label in OPERANDS[name]]
        if name == "margin_ranking_loss":
            made.append(operand("target", signs=True))
        if name == "cosine_embedding_loss":
            made.append(operand("target", shape[:1], signs=True))
        return made
    if name == "prelu":
        return [operand("input"), operand("weight", (1,), 0.1, 0.3)]
    if name == "multilabel_margin_loss":
        # Some labels, and -1, which ends them.
        return [operand("input"), operand("target", low=-1, high=3, kind=INT)]
    if name in CLASSES or name in ("cross_entropy", "nll_loss"):
        axis = 1 if len(shape) > 1 else 0
        return [operand("input"), operand("target", shape[:axis] + shape[axis + 1:], 0, shape[axis], kind=INT)]
    if name in SEED[1:3] + SEED[-1:] + PAIRS:
        return [operand("input"), operand("target", low=0, high=1, signs=name in SIGNED)]
    return [operand("input")]


def result_shape(name, shape, dim=-1):
    """Of a function that has an upstream gradient; None where the result is a loss."""
    if name in SEED[:1] + ACTIVATIONS + SPECIAL + ("softmax", "log_softmax", "softmin", "normalize"):
        return (*shape[:-1], shape[-1] // 2) if name == "glu" else shape
    return (shape[:-1] if dim < 0 else shape[:dim] + shape[dim + 1:]) if name in ROWS else None


def line(case, threads, seconds):
    """What both sides are asked: FUNCTION GRADIENT(0|1) THREADS SECONDS, then operands and attributes."""
    name, attributes = function(case.function)
    parts = operands(case.function, case.shape)
    if case.function in ("softmax", "log_softmax", "softmin", "logsumexp", "glu", "normalize", "cosine_similarity"):
        attributes["dim"] = case.dim
    upstream = result_shape(case.function, case.shape, case.dim)
    if case.gradient and upstream is not None:
        parts.append(Operand("grad.output", upstream, -1, 1))
    texts = [part.text(case.type) for part in parts]
    texts += [f"{key}={value}" for key, value in attributes.items()]
    return f"{name} {int(case.gradient)} {threads} {seconds} {' '.join(texts)}"


def torchs(name):
    """The same with torch: (operands..., attributes) -> result, the losses' mean. What torch lacks is a line or two of its
    operations, as its source has it, in the type of its operands."""
    import torch

    functional = torch.nn.functional
    if name == "cross_entropy":
        return cross_entropy
    if name in ("sigmoid", "tanh"):
        return getattr(torch, name)
    if name in SPECIAL + ("logsumexp",):
        return getattr(torch.special, name)
    if hasattr(functional, name):
        return getattr(functional, name)
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "Tests" / "Golden"))
    import sources
    if name in sources.PAIRS:
        return lambda *parts, **attributes: sources.PAIRS[name][0](*parts, **attributes).mean()
    if name in sources.ROWS:
        return lambda *parts, **attributes: sources.ROWS[name](*parts, **attributes).mean()
    formula = sources.OF_PROBABILITY[name]
    return lambda *parts, **attributes: formula(
        functional.cross_entropy(*parts, reduction="none"), **attributes).mean()


def cross_entropy(input, target, softcap=0.0):
    import torch

    if softcap:
        input = softcap * torch.tanh(input / softcap)
    return torch.nn.functional.cross_entropy(input, target)

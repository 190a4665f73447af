"""What is measured: every function over shapes, types, and one or all cores."""
import dataclasses
import os

from . import catalogue

TYPES = ("float32", "float64", "float16", "bfloat16")
SHAPES = ((1, 10), (100_000, 10), (4096, 1000), (256, 50257))
VECTOR = (1_000_000,)
# A segmentation's classes, in the second dimension.
IMAGE = (32, 21, 256, 256)
# Speech: steps, samples, symbols.
SPEECH = (200, 32, 5000)


@dataclasses.dataclass(frozen=True)
class Case:
    function: str
    type: str
    shape: tuple
    dim: int
    gradient: bool
    threads: int

    @property
    def shape_text(self):
        text = "x".join(map(str, self.shape))
        return text if self.dim < 0 else f"{text}, dim={self.dim}"

    @property
    def kind(self):
        return "forward and gradient" if self.gradient else "forward"

    def __str__(self):
        cores = "1 core" if self.threads == 1 else f"{self.threads} cores"
        return f"{self.function} {self.type} {self.shape_text} {self.kind} {cores}"


def seed_shapes():
    """(function, shape, dim) of the functions that lossd began with."""
    for function in catalogue.SEED:
        for shape in SHAPES:
            yield function, shape, -1
        if catalogue.result_shape(function, VECTOR) and "softmax" not in function or function.startswith("binary"):
            yield function, VECTOR, -1
    for function in ("softmax", "log_softmax"):
        yield function, (4096, 1000), 0
        yield function, IMAGE, 1
    for function in ("cross_entropy", "nll_loss"):
        yield function, IMAGE, -1


def other_shapes():
    """(function, shape, dim) of all others: few elements, many, and of rows short and long ones."""
    for function in catalogue.ACTIVATIONS + catalogue.SPECIAL + catalogue.PAIRS:
        for shape in ((1, 10), VECTOR):
            yield function, shape, -1
    for function in catalogue.ROWS + catalogue.VECTORS + catalogue.CLASSES:
        for shape in SHAPES[:3]:
            # torch takes minutes for each label of each class.
            if function != "multilabel_margin_loss" or shape[-1] < 1000:
                yield function, shape, -1
    for function in catalogue.ROWS:
        # pairwise_distance has rows alone.
        if function != "pairwise_distance":
            yield function, (1000, 4096), 0
    for shape in ((50, 4, 30), SPEECH):
        yield "ctc_loss", shape, -1


def every(is_quick, is_one_core=False):
    cores = len(os.sched_getaffinity(0))
    for threads in (1,) if is_quick or is_one_core or cores == 1 else (1, cores):
        # Cores are a matter of the scheduler, which knows no function.
        for function, shape, dim in (*seed_shapes(), *(other_shapes() if threads == 1 else ())):
            for kind in TYPES[:1] if is_quick else TYPES:
                for gradient in (False, True):
                    yield Case(function, kind, shape, dim, gradient, threads)


# The goals that the kernels were written for, on one core in float32: (function, shape, gradient, ratio).
GOALS = tuple(
    (function, shape, False, goal)
    for function in ("softmax", "log_softmax", "cross_entropy")
    for shape, goal in (((100_000, 10), 3), ((4096, 1000), 2), ((256, 50257), 2))
) + (
    ("cross_entropy", (100_000, 10), True, 3), ("cross_entropy", (4096, 1000), True, 4),
    ("cross_entropy", (256, 50257), True, 9),
    ("binary_cross_entropy_with_logits", (1_000_000,), False, 3.5),
    ("binary_cross_entropy_with_logits", (1_000_000,), True, 5),
    ("sigmoid", (1_000_000,), False, 1.8),
)


def is_goal(case):
    """Measured in more rounds."""
    return case.type == "float32" and case.threads == 1 and case.dim == -1 and any(
        (case.function, case.shape, case.gradient) == goal[:3] for goal in GOALS)

"""The inputs that torch tests itself with: every sample of its own suite, values and gradients, and what it refuses."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # torch's own suite needs it

from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402

import lossd  # noqa: E402
import lossd.torch as lt  # noqa: E402
from lossd import _elements  # noqa: E402

#: Functions of torch and torch.special that lossd.torch has by their name alone.
BY_NAME = ("erf", "erfc", "log1p", "expm1", "exp2", "logit", "sinc", "xlogy", "xlog1py", "entr", "ndtr", "log_ndtr")
FUNCTIONS = (
    "sigmoid", "softmax", "log_softmax", "softmin", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "cross_entropy", "nll_loss", "multilabel_soft_margin_loss", "logsumexp", "normalize", *_elements.ACTIVATIONS,
    "prelu", "glu", *BY_NAME, *_elements.LOSSES, "gaussian_nll_loss", "margin_ranking_loss", "cosine_similarity",
    "pairwise_distance", "cosine_embedding_loss", "triplet_margin_loss", "multi_margin_loss", "multilabel_margin_loss",
    "ctc_loss")


def name_of(op):
    return op.name.removeprefix("nn.functional.").removeprefix("special.")


def ours(op):
    name = name_of(op)
    if name in ("cosine_embedding_loss", "hinge_embedding_loss"):
        # The target's gradient is None in torch, where lossd.torch has an error.
        return lambda *tensors, **more: getattr(lt, name)(*tensors[:-1], tensors[-1].detach(), **more)
    if name not in BY_NAME:
        return getattr(lt, name)
    function = lt.function(name)
    # logit's eps is its second argument in torch.
    if name != "logit":
        return function
    return lambda input, eps=None: function(input, **({} if eps is None else {"eps": eps}))


OPERATORS = [op for op in op_db if name_of(op) in FUNCTIONS and op.variant_test_name != "complex"]
NARROW = (torch.float16, torch.bfloat16)


@pytest.fixture(autouse=True)
def daemon(address):
    lt.use(address)


def test_torch_has_samples_of_every_function():
    assert {name_of(op) for op in OPERATORS} == set(FUNCTIONS)


def copied(value, dtype=None):
    """With the same strides where torch can have them."""
    if isinstance(value, torch.Tensor):
        copy = value.detach().clone(memory_format=torch.preserve_format)
        if dtype and copy.is_floating_point():
            copy = copy.to(dtype)
        return copy.requires_grad_(value.requires_grad)
    return dtype if dtype and isinstance(value, torch.dtype) else value


def run(function, sample, dtype=None, upstream_dtype=None):
    """The result and its gradients, for an upstream gradient of random numbers."""
    arguments = [copied(item, dtype) for item in (sample.input, *sample.args)]
    keywords = {name: copied(item, dtype) for name, item in sample.kwargs.items()}
    result = function(*arguments, **keywords)
    if not result.requires_grad:
        return [result]
    torch.manual_seed(1)
    upstream = torch.randn(result.shape, dtype=torch.float64).to(upstream_dtype or result.dtype).to(result.dtype)
    sources = [item for item in (*arguments, *keywords.values())
               if isinstance(item, torch.Tensor) and item.requires_grad]
    return [result.detach(), *torch.autograd.grad(result, sources, upstream, allow_unused=True)]


def compare(op, ours, theirs, sample):
    """As torch's own suite does, but that what torch rounds on the way is torch's: of 16-bit types, and where the two
    are not close, float64 is the judge."""
    assert len(ours) == len(theirs)
    exact = None
    for index, (mine, its) in enumerate(zip(ours, theirs)):
        if its is None:
            assert mine is None
            continue
        assert (mine.dtype, mine.shape) == (its.dtype, its.shape)
        if torch.equal(mine.isnan(), its.isnan()) and mine.dtype not in NARROW and is_close(mine, its):
            continue
        if exact is None:
            exact = run(op.op, sample, torch.float64, ours[0].dtype)
        truth = exact[index]
        special = ~truth.isfinite()
        assert torch.allclose(mine.double()[special], truth[special], equal_nan=True) or (
            torch.allclose(mine[special], its[special], equal_nan=True))
        finite = truth[truth.isfinite()]
        step = torch.finfo(mine.dtype).eps * finite.abs().max() if finite.numel() else 0
        error, its_error = ((item.double() - truth).abs()[truth.isfinite()] for item in (mine, its))
        # Where torch's overflows, ours may be what it is.
        is_torchs = mine.dtype in NARROW and torch.equal(mine.isnan(), its.isnan())
        assert not error.numel() or error.max() <= its_error.nan_to_num(torch.inf).max() + step or (
            is_torchs and torch.allclose(mine, its, equal_nan=True))


def is_close(mine, its):
    try:
        torch.testing.assert_close(mine, its, equal_nan=True)
    except AssertionError:
        return False
    return True


def is_left_out(op, sample):
    """What docs/functions.md leaves out: random slopes, and more than one dimension."""
    return (name_of(op) == "rrelu" and sample.kwargs.get("training")
            or name_of(op) == "logsumexp" and isinstance(sample.args[0], tuple) and len(sample.args[0]) > 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: f"{op.name}{op.variant_test_name}")
def test_samples(op, dtype):
    if dtype not in op.supported_dtypes("cpu"):
        pytest.skip("torch has it not")
    function = ours(op)
    samples = op.sample_inputs("cpu", dtype, requires_grad=True)
    samples = [sample for sample in samples if not is_left_out(op, sample)]
    assert samples
    # gaussian_nll_loss has more than a thousand.
    for sample in samples[::len(samples) // 100 + 1]:
        compare(op, run(function, sample), run(op.op, sample), sample)


REFUSING = [op for op in OPERATORS if op.error_inputs_func]


@pytest.mark.parametrize("op", REFUSING, ids=lambda op: op.name)
def test_what_torch_refuses_is_refused(op):
    function = ours(op)
    for case in op.error_inputs("cpu"):
        sample = case.sample_input
        with pytest.raises(Exception) as refusal:
            function(sample.input, *sample.args, **sample.kwargs)
        assert not isinstance(refusal.value, lossd.Unavailable), "nobody has looked at it"

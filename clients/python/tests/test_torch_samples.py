"""The inputs that torch tests itself with: every sample of its own suite, values and gradients, and what it refuses."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # torch's own suite needs it

from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402

import lossd  # noqa: E402
import lossd.torch as lt  # noqa: E402

PREFIX = "nn.functional."
FUNCTIONS = (
    "sigmoid", "softmax", "log_softmax", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "cross_entropy", "nll_loss", "multilabel_soft_margin_loss")
OPERATORS = [op for op in op_db if op.name.removeprefix(PREFIX) in FUNCTIONS]
NARROW = (torch.float16, torch.bfloat16)


@pytest.fixture(autouse=True)
def daemon(address):
    lt.use(address)


def test_torch_has_samples_of_every_function():
    assert {op.name.removeprefix(PREFIX) for op in OPERATORS} == set(FUNCTIONS)


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
    """As torch's own suite does, but that what 16-bit types round on the way is torch's: there float64 is the judge."""
    assert len(ours) == len(theirs)
    exact = None
    for index, (mine, its) in enumerate(zip(ours, theirs)):
        if its is None:
            assert mine is None
            continue
        assert (mine.dtype, mine.shape) == (its.dtype, its.shape)
        if mine.dtype not in NARROW:
            torch.testing.assert_close(mine, its, equal_nan=True)
            continue
        if exact is None:
            exact = run(op.op, sample, torch.float64, ours[0].dtype)
        truth = exact[index]
        step = torch.finfo(mine.dtype).eps * truth.abs().max() if truth.numel() else 0
        error, its_error = (mine.double() - truth).abs(), (its.double() - truth).abs()
        assert not mine.numel() or error.max() <= its_error.max() + step or (
            torch.equal(mine.isnan(), its.isnan()) and torch.allclose(mine, its, equal_nan=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: f"{op.name}{op.variant_test_name}")
def test_samples(op, dtype):
    if dtype not in op.supported_dtypes("cpu"):
        pytest.skip("torch has it not")
    function = getattr(lt, op.name.removeprefix(PREFIX))
    samples = list(op.sample_inputs("cpu", dtype, requires_grad=True))
    assert samples
    for sample in samples:
        compare(op, run(function, sample), run(op.op, sample), sample)


@pytest.mark.parametrize("op", [op for op in OPERATORS if op.error_inputs_func], ids=lambda op: op.name)
def test_what_torch_refuses_is_refused(op):
    function = getattr(lt, op.name.removeprefix(PREFIX))
    for case in op.error_inputs("cpu"):
        sample = case.sample_input
        with pytest.raises(Exception) as refusal:
            function(sample.input, *sample.args, **sample.kwargs)
        assert not isinstance(refusal.value, lossd.Unavailable), "nobody has looked at it"

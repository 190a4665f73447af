"""lossd.torch's functions of rows beside torch's own: values, gradients, types, broadcasting, kinks, refusals, samples."""

import inspect
import itertools
import re

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

import lossd  # noqa: E402
import lossd.torch as lt  # noqa: E402
from lossd import _rows  # noqa: E402

INF, NAN = float("inf"), float("nan")
NORMS = (2.0, 1.0, INF, 3.0, 0.5, 0.0, -1.0, -INF)
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@pytest.fixture(autouse=True)
def daemon(address):
    lt.use(address)


def torchs(name):
    return torch.logsumexp if name == "logsumexp" else getattr(F, name)


def evaluated(function, tensors, attributes, dtype=None):
    """The result and the gradients, for an upstream gradient of some numbers; None where torch has none."""
    leaves = [item.to(dtype) if dtype and item.is_floating_point() else item for item in tensors]
    # A target, the third tensor of cosine_embedding_loss, has no gradient.
    leaves = [item.detach().clone().requires_grad_(item.is_floating_point() and (index < 2 or "p" in attributes))
              for index, item in enumerate(leaves)]
    result = function(*leaves, **attributes)
    sources = [item for item in leaves if item.requires_grad]
    if not sources or not result.requires_grad:
        return [result.detach()]
    upstream = (torch.arange(result.numel(), dtype=torch.float64).reshape(result.shape) % 5 - 1.75).to(result.dtype)
    return [result.detach(), *torch.autograd.grad(result, sources, upstream, allow_unused=True)]


def compare(name, tensors, attributes):
    """Ours beside torch's; of 16-bit types beside torch's in float64, where torch rounds on the way."""
    ours = evaluated(getattr(lt, name), tensors, attributes)
    theirs = evaluated(torchs(name), tensors, attributes)
    is_narrow = any(item.dtype in (torch.float16, torch.bfloat16) for item in tensors)
    exact = evaluated(torchs(name), tensors, attributes, torch.float64)
    text = f"{name} {[(item.dtype, tuple(item.shape)) for item in tensors]} {attributes}"
    assert len(ours) == len(theirs), text
    for mine, its, truth in zip(ours, theirs, exact):
        if its is None:
            assert not mine.any(), text
            continue
        assert (mine.dtype, mine.shape) == (its.dtype, its.shape), text
        if not is_narrow and torch.allclose(mine, its, rtol=1.3e-6, atol=1.3e-6, equal_nan=True):
            continue
        # What cancels is as near as the largest number on the way, which is 1 or more, or as torch's.
        truth = truth.to(mine.dtype).double()
        finite = truth[truth.isfinite()].abs()
        scale = max(finite.max().item(), 1) if finite.numel() else 1
        step = 4 * torch.finfo(mine.dtype).eps
        if not is_narrow:
            assert torch.equal(mine.isnan(), its.isnan()), f"{text}: {mine} {its}"
            scale = max(scale, (its.double() - truth).abs().nan_to_num(0, 0).max().item() / step)
        torch.testing.assert_close(mine.double(), truth, rtol=step, atol=step * scale,
                                   equal_nan=True, msg=lambda m: f"{text}: {m}")


def some(shape, dtype=torch.float32, scale=2.0):
    return (torch.randn(shape, dtype=torch.float64) * scale).to(dtype)


@pytest.mark.parametrize("name", _rows.FUNCTIONS)
def test_arguments_are_torchs_in_its_order(name):
    if name == "logsumexp" or name in ("cosine_similarity", "pairwise_distance"):
        return  # torch's are functions of C.
    theirs, ours = (inspect.signature(f).parameters.values() for f in (torchs(name), getattr(lt, name)))
    assert [(item.name, item.default) for item in ours] == [(item.name, item.default) for item in theirs]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_softmin_and_logsumexp_are_torchs_along_every_dimension(dtype):
    torch.manual_seed(1)
    for shape in ((), (1,), (7,), (40, 33), (3, 700, 20), (2, 20000), (70000,), (3, 0), (0, 3), (2, 3, 4, 5)):
        for dim in range(-max(len(shape), 1), max(len(shape), 1)):
            x = some(shape, dtype)
            if shape:
                compare("softmin", [x], {"dim": dim})
            for keepdim in (False, True):
                compare("logsumexp", [x], {"dim": dim, "keepdim": keepdim})


def test_softmin_casts_after_the_sign_has_turned():
    x = torch.tensor([[3, 0, 250, 7], [1, 1, 2, 255]])
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
        for target in FLOATS:
            torch.testing.assert_close(lt.softmin(x.to(dtype), 1, dtype=target), F.softmin(x.to(dtype), 1, dtype=target))
    for dtype, target in itertools.product(FLOATS, FLOATS):
        leaves = [some((4, 9), dtype).requires_grad_() for _ in range(1)]
        for library in (lt, F):
            result = library.softmin(leaves[0], 1, dtype=target)
            leaves.append(result)
            leaves.append(torch.autograd.grad((result * torch.arange(9).to(target)).sum(), leaves[0])[0])
        step = {"rtol": 0.02, "atol": 0.02} if torch.bfloat16 in (dtype, target) else {"rtol": 2e-3, "atol": 2e-3}
        torch.testing.assert_close(leaves[1], leaves[3], **step)
        torch.testing.assert_close(leaves[2], leaves[4], **step)
    with pytest.raises(lossd.InvalidArgument, match="bool"):
        lt.softmin(torch.tensor([True]), 0, dtype=torch.float32)


def test_logsumexp_of_what_is_no_number_is_torchs():
    rows = torch.tensor([[INF, 1.0], [-INF, -INF], [NAN, 1], [INF, -INF], [INF, INF], [INF, NAN], [-INF, 2], [88.0, 1000.0]])
    compare("logsumexp", [rows], {"dim": 1})
    compare("logsumexp", [rows], {"dim": 0})
    long = torch.zeros(3, 40000)
    long[0, 30000], long[1, 7], long[2, 39999] = INF, NAN, -INF
    compare("logsumexp", [long], {"dim": 1})
    for dtype in (torch.int64, torch.uint8, torch.bool):
        compare("logsumexp", [torch.tensor([[1, 2, 0], [0, 1, 1]]).to(dtype)], {"dim": 1})


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("p", NORMS)
def test_normalize_is_torchs(p, dtype):
    torch.manual_seed(2)
    for shape in ((5, 7), (4, 33, 6), (2, 3, 5, 40), (3, 1, 4), (0, 4), (3, 0), (2, 70000), (3, 1100, 70)):
        if p not in (1, 2, INF) and len(shape) > 1 and shape[-1] > 100 or p < 0 and 0 in shape:
            continue
        for dim in (1, -1, 0) if len(shape) < 4 else (1, 3):
            if (p == INF or p < 0) and 0 in shape:
                continue
            x = some(shape, dtype).round(decimals=1) + 0.25
            compare("normalize", [x], {"p": p, "dim": dim})
    compare("normalize", [some((9,), dtype)], {"p": p, "dim": 0, "eps": 0.5})
    compare("normalize", [some((3, 4), dtype, 1e-3)], {"p": p, "eps": 0.5})


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("p", NORMS)
def test_pairwise_distance_is_torchs_with_broadcasting(p, dtype):
    torch.manual_seed(3)
    for a, b in (((4, 7), (4, 7)), ((7,), (4, 7)), ((4, 7), (7,)), ((4, 1), (4, 7)), ((4, 7), (1,)), ((), (3,)), ((), ()),
                 ((3, 1, 9), (1, 5, 9)), ((0, 4), (1, 4)), ((2, 3, 33), (3, 33)), ((5, 1, 4), (5, 2, 1))):
        for keepdim in (False, True):
            compare("pairwise_distance", [some(a, dtype), some(b, dtype)], {"p": p, "keepdim": keepdim})
    compare("pairwise_distance", [some((4, 7), dtype), some((4, 7), dtype)], {"p": p, "eps": 0.25})
    if p in (0, 1, 2):
        compare("pairwise_distance", [some((4, 0), dtype), some((4, 0), dtype)], {"p": p})


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_cosine_similarity_is_torchs_with_broadcasting(dtype):
    torch.manual_seed(4)
    for a, b, dims in (((4, 7), (4, 7), (1, 0, -1)), ((7,), (4, 7), (1, 0)), ((4, 1), (4, 7), (1, 0)), ((9,), (9,), (0,)),
                       ((3, 1, 9), (1, 5, 9), (2, 1, 0)), ((2, 30, 5, 8), (2, 30, 5, 8), (1, 3)), ((), (3,), (0,)),
                       ((), (), (0,)), ((0, 4), (0, 4), (0, 1)), ((4, 0), (4, 0), (1,)), ((2, 1, 1), (3, 1), (0, 1, 2))):
        for dim in dims:
            compare("cosine_similarity", [some(a, dtype), some(b, dtype)], {"dim": dim})
    compare("cosine_similarity", [some((4, 7), dtype, 0.01), some((4, 7), dtype)], {"eps": 0.5})
    compare("cosine_similarity", [torch.zeros(2, 3, dtype=dtype), some((2, 3), dtype)], {})


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_cosine_embedding_loss_is_torchs(dtype):
    torch.manual_seed(5)
    target = torch.tensor([1, -1, 0, -1, 1])
    for a, b, y in (((5, 7), (5, 7), target), ((1, 7), (5, 7), target), ((5, 7), (1, 7), target), ((5, 7), (5, 1), target),
                    ((1, 7), (1, 7), target), ((5, 7), (5, 7), target[:1]), ((7,), (7,), target[0]), ((7,), (1,), target[1]),
                    ((0, 3), (0, 3), target[:0]), ((5, 0), (5, 0), target), ((5, 7), (5, 7), target.to(dtype)),
                    ((5, 40), (5, 40), target.bool())):
        for reduction, margin in itertools.product(("none", "mean", "sum"), (0, 0.25, -0.5)):
            compare("cosine_embedding_loss", [some(a, dtype), some(b, dtype), y.detach()],
                    {"reduction": reduction, "margin": margin})


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("swap", [False, True])
def test_triplet_margin_loss_is_torchs_with_broadcasting(swap, dtype):
    torch.manual_seed(6)
    for a, b, c in (((4, 7), (4, 7), (4, 7)), ((1, 7), (4, 7), (4, 7)), ((4, 7), (1, 7), (4, 7)), ((4, 7), (4, 7), (4, 1)),
                    ((4, 1), (4, 1), (4, 7)), ((7,), (7,), (7,)), ((), (), ()), ((3, 1, 9), (1, 5, 9), (3, 5, 9)),
                    ((0, 3), (0, 3), (0, 3)), ((2, 0), (2, 0), (2, 0)), ((5, 40), (5, 40), (5, 40))):
        for reduction, p in itertools.product(("none", "mean", "sum"), (2, 1, INF, 3)):
            if p == INF and 0 in a + b + c:
                continue
            compare("triplet_margin_loss", [some(shape, dtype) for shape in (a, b, c)],
                    {"reduction": reduction, "p": p, "swap": swap, "margin": 3.0})


def test_kinks_are_torchs():
    x, y = torch.tensor([[1.0, 0, 1], [2, 2, -2]]), torch.tensor([[1.0, 1, 2], [2, 2, -2]])
    for p in NORMS:
        compare("pairwise_distance", [x, y], {"p": p, "eps": 0.0})
        compare("normalize", [torch.tensor([[1.0, 2, -2], [0, 0, 0], [0, 3, 3]])], {"p": p})
        for bad in (INF, NAN, -INF):
            z = x.clone()
            z[0, 0] = bad
            compare("pairwise_distance", [z, y], {"p": p})
            compare("normalize", [z], {"p": p})
            for swap in (False, True):
                compare("triplet_margin_loss", [z, y, x], {"p": p, "swap": swap, "reduction": "none"})
    compare("triplet_margin_loss", [y, y, y], {"p": 2, "swap": True, "eps": 0.0})
    compare("triplet_margin_loss", [x, y, y], {"p": 2, "margin": 1e-30, "reduction": "none"})
    compare("triplet_margin_loss", [x, y, x], {"p": 2, "swap": True, "reduction": "none", "eps": 0.0})
    for bad in (INF, NAN):
        z = x.clone()
        z[0, 0] = bad
        compare("cosine_similarity", [z, y], {})
        for target in (1, -1, 0):
            compare("cosine_embedding_loss", [z, y, torch.tensor([target, -1])], {"reduction": "none"})
    compare("cosine_embedding_loss", [torch.tensor([[1e-5, 0]]), torch.tensor([[1.0, 0]]), torch.tensor([1])], {})


def signed(item):
    return item if item.is_floating_point() else item.long()


def test_types_are_promoted_as_torch_does():
    types = (*FLOATS, torch.int64, torch.int32, torch.uint8)
    for a, b in itertools.product(types, types):
        for shapes in (((2, 3), (2, 3)), ((), (3,)), ((3,), ())):
            x, y = (torch.tensor([[1, 2, 3], [3, 2, 1]])[:, :shape[-1] if shape else 1].to(dtype) for shape, dtype in zip(shapes, (a, b)))
            x, y = (item if len(shape) == 2 else item[0] if shape else item[0, 0] for item, shape in zip((x, y), shapes))
            for name in ("pairwise_distance", "cosine_similarity"):
                attributes = {"dim": -1} if name == "cosine_similarity" else {}
                try:
                    theirs = torchs(name)(x, y, **attributes)
                except RuntimeError:
                    with pytest.raises(lossd.InvalidArgument):
                        getattr(lt, name)(x, y, **attributes)
                    continue
                ours = getattr(lt, name)(x, y, **attributes)
                assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), (name, a, b, shapes)
                # Differences of integers are exact, where torch's wrap around in uint8.
                theirs = torchs(name)(*(signed(item) for item in (x, y)), **attributes).to(theirs.dtype)
                torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)
        x, y = (torch.tensor([[1, 2, 3], [3, 2, 1]]).to(dtype) for dtype in (a, b))
        for name, arguments in (("triplet_margin_loss", (x, y, x)), ("triplet_margin_loss", (x, x, y)), ("cosine_embedding_loss", (x, y, torch.tensor([1, -1])))):
            ours, theirs = getattr(lt, name)(*arguments), torchs(name)(*arguments)
            assert ours.dtype == theirs.dtype, (name, a, b)
            theirs = torchs(name)(*(signed(item) for item in arguments)).to(theirs.dtype)
            torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)
    gradients = []
    for library in (lt, F):
        leaves = [torch.linspace(-1, 2, 6).reshape(2, 3).to(dtype).requires_grad_() for dtype in (torch.float32, torch.float64)]
        library.pairwise_distance(leaves[0], leaves[1].flip(1)).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    torch.testing.assert_close(*gradients)


def test_what_torch_refuses_is_refused_by_name():
    x = torch.zeros(2, 3)
    for text, call in (
            ("x2 is", lambda: lt.pairwise_distance(x, torch.zeros(2, 4))),
            ("x2 is", lambda: lt.cosine_similarity(x, torch.zeros(3, 3))),
            ("dim is 2", lambda: lt.cosine_similarity(x, x, dim=2)), ("dim is 1", lambda: lt.normalize(x[0])),
            ("dim is -3", lambda: lt.normalize(x, dim=-3)), ("dim is 5", lambda: lt.logsumexp(x, 5)),
            ("eps", lambda: lt.cosine_similarity(x, x, eps=-1.0)), ("input", lambda: lt.normalize(x.long())),
            ("margin is 0", lambda: lt.triplet_margin_loss(x, x, x, margin=0)),
            ("as many dimensions", lambda: lt.triplet_margin_loss(x, x, x[0])),
            ("negative is", lambda: lt.triplet_margin_loss(x, x, torch.zeros(2, 4))),
            ("target is", lambda: lt.cosine_embedding_loss(x, x, torch.ones(1, 2))),
            ("is for inputs", lambda: lt.cosine_embedding_loss(x, x, torch.ones(()))),
            ("is for inputs", lambda: lt.cosine_embedding_loss(x[0], x[0], torch.ones(1))),
            ("target is", lambda: lt.cosine_embedding_loss(x, x, torch.ones(3))),
            ("norm needs one", lambda: lt.pairwise_distance(x[:, :0], x[:, :0], p=INF)),
            ("norm needs one", lambda: lt.normalize(x[:, :0], p=-1)),
            ("bool", lambda: lt.pairwise_distance(x.bool(), x)), ("expected one of", lambda: lt.cosine_similarity(x.long(), x.long())),
    ):
        with pytest.raises(lossd.LossdError, match=text):
            call()
    with pytest.raises(NotImplementedError, match="one dimension"):
        lt.logsumexp(x, (0, 1))


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(7)
    x, y, z = (torch.randn(3, 5, dtype=torch.float64, requires_grad=True) for _ in range(3))
    for p in (1.5, 2.0, 3.0):
        assert torch.autograd.gradcheck(lambda a, b: lt.pairwise_distance(a, b, p=p), (x, y))
        assert torch.autograd.gradcheck(lambda a: lt.normalize(a, p=p), (x,))
        assert torch.autograd.gradcheck(lambda a, b, c: lt.triplet_margin_loss(a, b, c, p=p, margin=5.0, swap=True), (x, y, z))
    assert torch.autograd.gradcheck(lambda a, b: lt.cosine_similarity(a[:, None], b[None], dim=2), (x, y))
    assert torch.autograd.gradcheck(lambda a: lt.logsumexp(a, 0), (x,))
    assert torch.autograd.gradcheck(lambda a: lt.softmin(a, 1), (x,))
    target = torch.tensor([1, -1, 1])
    assert torch.autograd.gradcheck(lambda a, b: lt.cosine_embedding_loss(a, b, target, margin=-1.0), (x, y))


def test_modules_are_torchs():
    x, y, z = (torch.randn(3, 4) for _ in range(3))
    for name, arguments, tensors in (
            ("Softmin", (1,), (x,)), ("CosineSimilarity", (0, 1e-3), (x, y)), ("PairwiseDistance", (1.0, 1e-3, True), (x, y)),
            ("CosineEmbeddingLoss", (0.25,), (x, y, torch.tensor([1, -1, 1]))), ("TripletMarginLoss", (2.0, 1.0), (x, y, z))):
        ours, theirs = getattr(lt, name)(*arguments), getattr(torch.nn, name)(*arguments)
        assert isinstance(ours, getattr(torch.nn, name)) and repr(ours) == repr(theirs)
        torch.testing.assert_close(ours(*tensors), theirs(*tensors))
    assert set(_rows.__all__) <= set(dir(lt))


def test_softmax2d_is_over_the_channels_of_images_and_refuses_what_is_none():
    mine, theirs = lt.Softmax2d(), torch.nn.Softmax2d()
    assert repr(mine) == repr(theirs)
    for shape in ((3, 4, 5), (2, 3, 4, 5)):
        x = torch.randn(shape)
        torch.testing.assert_close(mine(x), theirs(x))
    for shape in ((3,), (3, 4), (1, 2, 3, 4, 5)):
        with pytest.raises(ValueError) as caught:
            theirs(torch.zeros(shape))
        with pytest.raises(ValueError, match=re.escape(str(caught.value))):
            mine(torch.zeros(shape))

"""Runs one call of a function with torch: its result and gradients, or the reason of its refusal."""
import numpy as np
import torch

import elements
import sources

F = torch.nn.functional
TYPES = {
    "float32": torch.float32, "float64": torch.float64, "float16": torch.float16,
    "bfloat16": torch.bfloat16, "int64": torch.int64, "int32": torch.int32, "int16": torch.int16,
    "int8": torch.int8, "uint8": torch.uint8, "bool": torch.bool,
}
FLOATS = ["float32", "float64", "float16", "bfloat16"]
ACTIVATIONS = (
    "sigmoid", "softmax", "log_softmax", "gelu", *elements.ACTIVATIONS, "xlogy", "xlog1py", "prelu", "glu", "softmin",
    "logsumexp", "normalize", "cosine_similarity", "pairwise_distance")
INDEX_LOSSES = ("cross_entropy", "nll_loss")
# The tensors of functions that have others than an input and a target, in torch's order.
TENSORS = {
    "xlogy": ("input", "other"), "xlog1py": ("input", "other"), "prelu": ("input", "weight"), "glu": ("input",),
    "gaussian_nll_loss": ("input", "target", "var"), "margin_ranking_loss": ("input1", "input2", "target"),
    "logsumexp": ("input",), "normalize": ("input",), "cosine_similarity": ("x1", "x2"),
    "pairwise_distance": ("x1", "x2"), "cosine_embedding_loss": ("input1", "input2", "target"),
    "triplet_margin_loss": ("anchor", "positive", "negative"),
    "ctc_loss": ("log_probs", "targets", "input_lengths", "target_lengths"),
}
# Of the class indices of these torch takes int64 alone; and of these inputs float32 and float64.
OF_INT64 = ("multi_margin_loss", "multilabel_margin_loss")
OF_WIDE = {
    "log_ndtr": "input", "multi_margin_loss": "input", "multilabel_margin_loss": "input", "ctc_loss": "log_probs"}


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


def is_extension(function, inputs):
    """Class indices that lossd takes and torch does not: int32, and uint8 in K dimensions."""
    target = inputs.get("target")
    return (
        function in (*INDEX_LOSSES, *OF_INT64)
        and (function in OF_INT64 or target.shape != inputs["input"].shape)
        and (target.dtype == torch.int32 or (target.dtype == torch.uint8))
    )


def call_extended(function, inputs, attributes):
    """As call; what lossd takes beyond torch in the next type that torch takes, and rounded."""
    inputs = dict(inputs)
    if is_extension(function, inputs):
        inputs["target"] = inputs["target"].long()
    main = OF_WIDE.get(function)
    dtype = inputs[main].dtype if main else None
    if dtype not in (torch.float16, torch.bfloat16):
        return call(function, inputs, attributes)
    if any(tensor.dtype.is_floating_point and tensor.dtype != dtype for tensor in inputs.values()):
        raise TypeError("expected one type of floating-point numbers")
    wide = {name: tensor.float() if tensor.dtype.is_floating_point else tensor for name, tensor in inputs.items()}
    return call(function, wide, attributes).to(dtype)


def run(function, inputs, attributes, wanted):
    """{output: tensor}; raises what torch raises. Extensions are run with types that torch takes."""
    inputs = dict(inputs)
    leaves = {}
    for name in wanted:
        if name.startswith("grad."):
            leaf = inputs[name[5:]].clone().requires_grad_()
            inputs[name[5:]] = leaves[name] = leaf
    result = call_extended(function, inputs, attributes)
    outputs = {"output" if function in ACTIVATIONS else "loss": result.detach()}
    if leaves:
        upstream = inputs.get("grad.output", inputs.get("grad.loss"))
        if upstream is None:
            upstream = torch.ones_like(result)
        # torch itself would widen nothing here: an upstream gradient of another shape or type raises.
        if upstream.shape != result.shape or upstream.dtype != result.dtype:
            raise RuntimeError("upstream gradient differs from the result")
        gradients = torch.autograd.grad(result, list(leaves.values()), upstream)
        outputs.update(zip(leaves, gradients))
    return {name: outputs[name] for name in wanted}


def call(function, inputs, attributes):
    attributes = dict(attributes)
    if function in sources.FUNCTIONS:
        return sources.call(function, inputs, attributes)
    if function in TENSORS:
        place = next(place for place in (F, torch, torch.special) if hasattr(place, function))
        place = torch if function == "logsumexp" else place
        return getattr(place, function)(*(inputs[name] for name in TENSORS[function]), **attributes)
    if function == "sigmoid":
        return torch.sigmoid(inputs["input"])
    if function == "gelu" or function in elements.ACTIVATIONS:
        place = next(place for place in (F, torch, torch.special) if hasattr(place, function))
        if function == "tanh":
            place = torch
        return getattr(place, function)(inputs["input"], **attributes)
    if function in ACTIVATIONS:
        dtype = attributes.pop("dtype", None)
        return getattr(F, function)(
            inputs["input"], dim=attributes.pop("dim", -1), dtype=TYPES[dtype] if dtype else None)
    more = {name: inputs[name] for name in ("weight", "pos_weight") if name in inputs}
    return getattr(F, function)(inputs["input"], inputs["target"], **more, **attributes)


def widened(tensor):
    """A tensor as numpy's longdouble, or int64 for integers: exact."""
    if tensor.dtype.is_floating_point:
        return tensor.detach().double().numpy().astype(np.longdouble)
    return tensor.long().numpy()


def raw_bytes(tensor):
    tensor = tensor.detach().contiguous().flatten()
    return tensor.view(torch.uint8).numpy().tobytes() if tensor.numel() else b""

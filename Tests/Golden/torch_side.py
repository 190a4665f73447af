"""Runs one call of a function with torch: its result and gradients, or the reason of its refusal."""
import numpy as np
import torch

import elements

F = torch.nn.functional
TYPES = {
    "float32": torch.float32, "float64": torch.float64, "float16": torch.float16,
    "bfloat16": torch.bfloat16, "int64": torch.int64, "int32": torch.int32, "int16": torch.int16,
    "int8": torch.int8, "uint8": torch.uint8, "bool": torch.bool,
}
FLOATS = ["float32", "float64", "float16", "bfloat16"]
ACTIVATIONS = ("sigmoid", "softmax", "log_softmax", "gelu", *elements.ACTIVATIONS)
INDEX_LOSSES = ("cross_entropy", "nll_loss")


def name_of(dtype):
    return str(dtype).removeprefix("torch.")


def is_extension(function, inputs):
    """Class indices that lossd takes and torch does not: int32, and uint8 in K dimensions."""
    target = inputs.get("target")
    return (
        function in INDEX_LOSSES and target.shape != inputs["input"].shape
        and (target.dtype == torch.int32 or (target.dtype == torch.uint8))
    )


def run(function, inputs, attributes, wanted):
    """{output: tensor}; raises what torch raises. Extensions are run with int64 targets."""
    inputs = dict(inputs)
    if is_extension(function, inputs):
        inputs["target"] = inputs["target"].long()
    leaves = {}
    for name in wanted:
        if name.startswith("grad."):
            leaf = inputs[name[5:]].clone().requires_grad_()
            inputs[name[5:]] = leaves[name] = leaf
    result = call(function, inputs, attributes)
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

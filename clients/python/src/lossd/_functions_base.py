"""What activations and losses have in common: how they are asked for, and the types of their results."""

from __future__ import annotations

from typing import Any, Callable, Dict, Generic, Literal, NamedTuple, Optional, Sequence, Tuple, TypeVar

from numpy.typing import NDArray

from .errors import InvalidArgument

#: What a loss makes of the losses of its elements or rows.
Reduction = Literal["none", "mean", "sum"]


class WithGrad(NamedTuple):
    """What `with_grad=True` returns: `result, grad = client.cross_entropy(...)`."""

    #: The loss, or the activation's output.
    result: NDArray[Any]
    #: The gradient with respect to the input, of its shape and type.
    grad: NDArray[Any]


#: A result, and a result with its gradient: arrays, or awaitables of them.
One = TypeVar("One")
Two = TypeVar("Two")
Method = TypeVar("Method", bound=Callable[..., Any])

_COMMON = """
        Arguments of all functions:
            with_grad: return (result, grad), grad being the gradient with respect to `input`, of its shape and type.
            grad: the upstream gradient, of the result's shape and type; 1 everywhere by default.
            timeout: seconds until DeadlineExceeded; None, or infinity, waits for as long as it takes.

        Arrays may be numpy's, of any layout and byte order, torch tensors, lists, or what has `__array__`, `__dlpack__`
        or the buffer protocol. bfloat16 results are ml_dtypes' where that is installed, else `lossd.BFloat16Array`.

        Raises:
            InvalidArgument: a wrong shape, type, value or argument; the text names it.
            ResourceExhausted: the call is over a limit of the daemon; the text names the setting.
            DeadlineExceeded: the timeout is over.
            Unavailable: there is no daemon, or it went away and `retry` was not given, or not enough.
        """


def documented(method: Method) -> Method:
    """Adds to the docstring what all functions have in common."""
    if method.__doc__:
        method.__doc__ = method.__doc__.rstrip() + "\n" + _COMMON
    return method


_EXPECTED = {
    "reduction": '"mean", "sum" or "none"', "dim": "an int", "ignore_index": "an int", "label_smoothing": "0 to 1"}


def required(**arguments: Any) -> None:
    """InvalidArgument for an argument that is None: that is not its default."""
    for name, value in arguments.items():
        if value is None:
            raise InvalidArgument(f"{name} is None, expected {_EXPECTED[name]}")


class Base(Generic[One, Two]):
    """How a client evaluates is its own: one returns results, the other awaitables of them."""

    def _call(self, function: str, inputs: Dict[str, Any], attributes: Dict[str, Any],
              outputs: Sequence[str], timeout: Optional[float]) -> Any:
        raise NotImplementedError

    def _activation(self, function: str, input: Any, attributes: Dict[str, Any], with_grad: bool,
                    grad: Any, timeout: Optional[float]) -> Any:
        outputs = ["output", "grad.input"] if with_grad else ["output"]
        given = {name: value for name, value in attributes.items() if value is not None}
        return self._call(function, {"input": input, "grad.output": grad}, given, outputs, timeout)

    def _loss(self, function: str, inputs: Dict[str, Any], attributes: Dict[str, Any],
              with_grad: bool, grad: Any, timeout: Optional[float]) -> Any:
        outputs = ["loss", "grad.input"] if with_grad else ["loss"]
        return self._call(function, {**inputs, "grad.loss": grad}, attributes, outputs, timeout)


def unwrap(arrays: Dict[str, Any], outputs: Sequence[str]) -> Any:
    """One result as it is, two as a pair."""
    found: Tuple[Any, ...] = tuple(arrays[name] for name in outputs)
    return found[0] if len(found) == 1 else WithGrad(*found)

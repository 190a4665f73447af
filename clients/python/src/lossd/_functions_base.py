"""What activations and losses have in common: how they are asked for, and the types of their results."""

from __future__ import annotations

from typing import Any, Callable, Dict, Generic, List, Literal, Mapping, NamedTuple, Optional, Tuple, TypeVar

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


class WithGrads(NamedTuple):
    """What `with_grad=("x1", "x2")` returns: `result, (grad1, grad2) = client.pairwise_distance(...)`."""

    #: The loss, or the activation's output.
    result: NDArray[Any]
    #: The gradients, each with respect to the input that was named in its place, of its shape and type.
    grads: Tuple[NDArray[Any], ...]


#: A result, one with its gradient, and one with several: what a client returns, arrays or awaitables of them.
One = TypeVar("One")
Two = TypeVar("Two")
Many = TypeVar("Many")
Method = TypeVar("Method", bound=Callable[..., Any])

_COMMON = """
        Arguments of all functions:
            with_grad: True returns (result, grad), grad being the gradient with respect to the first input, of its shape
                and type. Another input's name is that one's gradient, and a tuple of names returns (result, grads).
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


class Asked(NamedTuple):
    """Which results a function is asked for, and how they come back."""

    result: str
    #: Inputs whose gradients are wanted.
    inputs: Tuple[str, ...]
    #: Whether they come as a tuple, be it of one.
    is_tuple: bool

    @property
    def outputs(self) -> List[str]:
        return [self.result, *(f"grad.{name}" for name in self.inputs)]

    def of(self, arrays: Mapping[str, Any]) -> Any:
        result, *grads = (arrays[name] for name in self.outputs)
        if self.is_tuple:
            return WithGrads(result, tuple(grads))
        return WithGrad(result, grads[0]) if grads else result


def asked(result: str, with_grad: Any, first: str) -> Asked:
    """`first`: the input that True stands for."""
    if isinstance(with_grad, (tuple, list)):
        for name in with_grad:
            if not isinstance(name, str):
                raise InvalidArgument(f"with_grad has {name!r}, expected names of inputs, such as {first!r}")
        return Asked(result, tuple(with_grad), True)
    if isinstance(with_grad, str):
        return Asked(result, (with_grad,), False)
    return Asked(result, (first,) if with_grad else (), False)


class Base(Generic[One, Two, Many]):
    """How a client evaluates is its own: one returns results, the other awaitables of them."""

    def _ask(self, function: str, inputs: Dict[str, Any], attributes: Dict[str, Any], asked: Asked,
             timeout: Optional[float]) -> Any:
        raise NotImplementedError

    def _evaluate(self, function: str, result: str, inputs: Dict[str, Any], attributes: Dict[str, Any], first: str,
                  with_grad: Any, grad: Any, timeout: Optional[float]) -> Any:
        """`attributes`: those without a value have been left out. `first`: see `asked`."""
        if grad is not None:
            inputs[f"grad.{result}"] = grad
        return self._ask(function, inputs, attributes, asked(result, with_grad, first), timeout)


def given(**attributes: Any) -> Dict[str, Any]:
    """Attributes that have no default: None leaves them out."""
    return {name: value for name, value in attributes.items() if value is not None}

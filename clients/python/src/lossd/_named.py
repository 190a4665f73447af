"""A function of the daemon's by its name, from its description."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, Optional, Sequence, Tuple

from ._functions_base import Base
from ._messages import FunctionDescription
from .errors import InvalidArgument


class Named:
    """What a function takes and gives, gradients left out."""

    def __init__(self, name: str, found: Sequence[FunctionDescription]):
        """`found`: what the daemon said when it was asked for functions of the name."""
        if not name:
            raise InvalidArgument("function is '', expected a function's name")
        self.name = name
        self.description, = found
        self.inputs = [item.name for item in self.description.inputs if not item.name.startswith("grad.")]
        self.attributes = [item.name for item in self.description.attributes]
        # A plugin may declare odd things: the daemon says so when it is asked for them.
        outputs = [item.name for item in self.description.outputs]
        self.result = next((item.name for item in self.description.outputs if item.default), outputs[0] if outputs else "")
        #: The input whose gradient `with_grad=True` stands for.
        self.first = next((name[len("grad."):] for name in outputs if name.startswith("grad.")), "")

    def bind(self, tensors: Sequence[Any], arguments: Dict[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
        """Inputs and attributes by name. TypeError for what the function does not take."""
        if len(tensors) > len(self.inputs):
            raise TypeError(f"{self.name} takes {len(self.inputs)} inputs ({', '.join(self.inputs)}) by position, "
                            f"{len(tensors)} were given")
        inputs: Dict[str, Any] = dict(zip(self.inputs, tensors))
        attributes: Dict[str, Any] = {}
        for key, value in arguments.items():
            if key in inputs:
                raise TypeError(f"{self.name}: {key} was given twice")
            if key not in self.inputs and key not in self.attributes:
                raise TypeError(
                    f"{self.name} has no argument {key}, expected one of {', '.join(self.inputs + self.attributes)}")
            (inputs if key in self.inputs else attributes)[key] = value
        return inputs, attributes

    def document(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with name and docstring."""
        function.__name__ = function.__qualname__ = self.name
        function.__doc__ = "\n".join(self._lines())
        return function

    def _lines(self) -> Iterator[str]:
        yield f"{self.description.summary}\n\nArguments:"
        for item in self.description.inputs:
            if item.name in self.inputs:
                yield f"    {item.name}: {item.help}" + ("" if item.required else "; may be left out")
        for attribute in self.description.attributes:
            yield f"    {attribute.name}: {attribute.help}; {attribute.type}, by name"
        yield f"\nReturns the {self.result}."


def function(client: Base[Any, Any, Any], named: Named) -> Callable[..., Any]:
    """See Client.function."""

    def evaluate(*tensors: Any, with_grad: Any = False, grad: Any = None, timeout: Optional[float] = None,
                 **arguments: Any) -> Any:
        inputs, attributes = named.bind(tensors, arguments)
        return client._evaluate(named.name, named.result, inputs, attributes, named.first, with_grad, grad, timeout)

    return named.document(evaluate)

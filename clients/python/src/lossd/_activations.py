"""Activations, by torch.nn.functional's names and with its arguments."""

from __future__ import annotations

from typing import Any, Literal, Optional, Union, overload

from ._functions_base import Base, One, Two, documented, required


class Activations(Base[One, Two]):
    """torch's activations; docs/functions.md has the formulas."""

    @overload
    def sigmoid(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
                timeout: Optional[float] = None) -> One: ...

    @overload
    def sigmoid(self, input: Any, *, with_grad: Literal[True], grad: Any = None,
                timeout: Optional[float] = None) -> Two: ...

    @overload
    def sigmoid(self, input: Any, *, with_grad: bool, grad: Any = None,
                timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def sigmoid(self, input: Any, *, with_grad: bool = False, grad: Any = None,
                timeout: Optional[float] = None) -> Any:
        """1 / (1 + exp(-input)), elementwise.

        Arguments:
            input: any shape; integers and bools give float32, without a gradient.

        Returns the output, of the input's shape and type.

        Example:
            client.sigmoid(np.zeros(2, np.float32))  # array([0.5, 0.5], dtype=float32)
        """
        return self._activation("sigmoid", input, {}, with_grad, grad, timeout)


    @overload
    def softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: Literal[False] = False,
                grad: Any = None,
                timeout: Optional[float] = None) -> One: ...

    @overload
    def softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: Literal[True], grad: Any = None,
                timeout: Optional[float] = None) -> Two: ...

    @overload
    def softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: bool, grad: Any = None,
                timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: bool = False, grad: Any = None,
                timeout: Optional[float] = None) -> Any:
        """exp(input) / sum of exp(input) along `dim`, stable for logits of any size.

        Arguments:
            input: any shape.
            dim: the dimension whose elements add up to 1; from the end where it is negative.
            dtype: a data type of floating-point numbers, or its name, that the input is converted to first.

        Returns the output, of the input's shape, and its type or `dtype`.

        Example:
            client.softmax(np.zeros((2, 4), np.float32), dim=1)  # 0.25 everywhere
        """
        required(dim=dim)
        return self._activation("softmax", input, {"dim": dim, "dtype": dtype}, with_grad, grad, timeout)


    @overload
    def log_softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: Literal[False] = False,
                    grad: Any = None,
                    timeout: Optional[float] = None) -> One: ...

    @overload
    def log_softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: Literal[True], grad: Any = None,
                    timeout: Optional[float] = None) -> Two: ...

    @overload
    def log_softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: bool, grad: Any = None,
                    timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def log_softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: bool = False, grad: Any = None,
                    timeout: Optional[float] = None) -> Any:
        """log(softmax(input)) along `dim`, computed without forming the softmax.

        Arguments:
            input: any shape.
            dim: the dimension whose probabilities add up to 1; from the end where it is negative.
            dtype: a data type of floating-point numbers, or its name, that the input is converted to first.

        Returns the output, of the input's shape, and its type or `dtype`.

        Example:
            client.log_softmax(np.zeros((2, 4), np.float32), dim=1)  # -log 4 everywhere
        """
        required(dim=dim)
        return self._activation("log_softmax", input, {"dim": dim, "dtype": dtype}, with_grad, grad, timeout)

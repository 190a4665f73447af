"""The functions of the daemon as methods of both clients.

Made from the daemon's declarations by make_functions.py; not to be edited.
"""

from __future__ import annotations

from typing import Any, Literal, Optional, Tuple, Union, overload

from ._functions_base import Base, Many, One, Reduction, Two, documented, given


class Functions(Base[One, Two, Many]):
    """What both clients have. Functions of torch.nn.functional have its names and arguments in its order, save that `dim`
    defaults to -1 and that `inplace`, `size_average` and `reduce` are not there; what lossd adds goes by name.
    docs/functions.md has formulas and types."""

    @overload
    def arcface_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", margin: float = 0.5,
                     scale: float = 64.0, with_grad: Literal[False] = False, grad: Any = None,
                     timeout: Optional[float] = None) -> One: ...

    @overload
    def arcface_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", margin: float = 0.5,
                     scale: float = 64.0, with_grad: Literal[True], grad: Any = None,
                     timeout: Optional[float] = None) -> Two: ...

    @overload
    def arcface_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", margin: float = 0.5,
                     scale: float = 64.0, with_grad: bool, grad: Any = None,
                     timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def arcface_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", margin: float = 0.5,
                     scale: float = 64.0, with_grad: bool = False, grad: Any = None,
                     timeout: Optional[float] = None) -> Any:
        """cross entropy of scale cos(theta), the target's theta wider by margin.

        Arguments:
            input: cosines, (C) or (N, C).
            target: a class index of each row, () or (1) for (C).
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            margin: what is added to the angle of the target, radians (0.5 by default).
            scale: what the cosines are multiplied by (64.0 by default).

        Returns the loss.

        Example:
            loss, grad = client.arcface_loss(input, target, with_grad=True)
        """
        return self._evaluate("arcface_loss", "loss", {"input": input, "target": target},
                              {"reduction": reduction, "margin": margin, "scale": scale}, "input", with_grad, grad,
                              timeout)

    @overload
    def asymmetric_loss(self, input: Any, target: Any, *, reduction: Reduction = "sum", gamma_neg: float = 4.0,
                        gamma_pos: float = 1.0, clip: float = 0.05, eps: float = 1e-08,
                        with_grad: Literal[False] = False, grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def asymmetric_loss(self, input: Any, target: Any, *, reduction: Reduction = "sum", gamma_neg: float = 4.0,
                        gamma_pos: float = 1.0, clip: float = 0.05, eps: float = 1e-08, with_grad: Literal[True],
                        grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def asymmetric_loss(self, input: Any, target: Any, *, reduction: Reduction = "sum", gamma_neg: float = 4.0,
                        gamma_pos: float = 1.0, clip: float = 0.05, eps: float = 1e-08, with_grad: bool,
                        grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def asymmetric_loss(self, input: Any, target: Any, *, reduction: Reduction = "sum", gamma_neg: float = 4.0,
                        gamma_pos: float = 1.0, clip: float = 0.05, eps: float = 1e-08, with_grad: bool = False,
                        grad: Any = None, timeout: Optional[float] = None) -> Any:
        """focal binary cross entropy with another gamma, and a margin, for a target of 0.

        Arguments:
            input: logits, any shape.
            target: 0 or 1 for each label; broadcasts with input.
            reduction: none: a loss an element or row; mean; sum ("sum" by default).
            gamma_neg: how fast a right 0 stops to count (4.0 by default).
            gamma_pos: how fast a right 1 stops to count (1.0 by default).
            clip: the probability below which a 0 costs nothing (0.05 by default).
            eps: the least probability whose logarithm is taken (1e-08 by default).

        Returns the loss.

        Example:
            loss, grad = client.asymmetric_loss(input, target, with_grad=True)
        """
        return self._evaluate("asymmetric_loss", "loss", {"input": input, "target": target},
                              {"reduction": reduction, "gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "clip": clip, "eps": eps},
                              "input", with_grad, grad, timeout)

    @overload
    def asymmetric_loss_single_label(self, input: Any, target: Any, *, reduction: Reduction = "mean",
                                     gamma_neg: float = 4.0, gamma_pos: float = 0.0, eps: float = 0.1,
                                     with_grad: Literal[False] = False, grad: Any = None,
                                     timeout: Optional[float] = None) -> One: ...

    @overload
    def asymmetric_loss_single_label(self, input: Any, target: Any, *, reduction: Reduction = "mean",
                                     gamma_neg: float = 4.0, gamma_pos: float = 0.0, eps: float = 0.1,
                                     with_grad: Literal[True], grad: Any = None,
                                     timeout: Optional[float] = None) -> Two: ...

    @overload
    def asymmetric_loss_single_label(self, input: Any, target: Any, *, reduction: Reduction = "mean",
                                     gamma_neg: float = 4.0, gamma_pos: float = 0.0, eps: float = 0.1, with_grad: bool,
                                     grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def asymmetric_loss_single_label(self, input: Any, target: Any, *, reduction: Reduction = "mean",
                                     gamma_neg: float = 4.0, gamma_pos: float = 0.0, eps: float = 0.1,
                                     with_grad: bool = False, grad: Any = None,
                                     timeout: Optional[float] = None) -> Any:
        """cross entropy of smoothed targets, each class by how wrong it is.

        Arguments:
            input: logits, (C) or (N, C).
            target: a class index of each row, () or (1) for (C).
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            gamma_neg: how much less certain other classes count (4.0 by default).
            gamma_pos: how much less a certain target counts (0.0 by default).
            eps: share of the target given to all classes alike (0.1 by default).

        Returns the loss.

        Example:
            loss, grad = client.asymmetric_loss_single_label(input, target, with_grad=True)
        """
        return self._evaluate("asymmetric_loss_single_label", "loss", {"input": input, "target": target},
                              {"reduction": reduction, "gamma_neg": gamma_neg, "gamma_pos": gamma_pos, "eps": eps},
                              "input", with_grad, grad, timeout)

    @overload
    def binary_cross_entropy(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean", *,
                             with_grad: Literal[False] = False, grad: Any = None,
                             timeout: Optional[float] = None) -> One: ...

    @overload
    def binary_cross_entropy(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean", *,
                             with_grad: Union[Literal[True], Literal["input", "target"]], grad: Any = None,
                             timeout: Optional[float] = None) -> Two: ...

    @overload
    def binary_cross_entropy(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean", *,
                             with_grad: Tuple[Literal["input", "target"], ...], grad: Any = None,
                             timeout: Optional[float] = None) -> Many: ...

    @overload
    def binary_cross_entropy(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean", *,
                             with_grad: bool, grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def binary_cross_entropy(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean", *,
                             with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                             timeout: Optional[float] = None) -> Any:
        """-(y log x + (1 - y) log(1 - x)).

        Arguments:
            input: probabilities in [0, 1].
            target: like input, in [0, 1].
            weight: broadcasts to input.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Gradients: of input, target; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            client.binary_cross_entropy([0.9, 0.2], [1.0, 0.0])  # 0.164
        """
        return self._evaluate("binary_cross_entropy", "loss", {"input": input, "target": target, "weight": weight},
                              {"reduction": reduction}, "input", with_grad, grad, timeout)

    @overload
    def binary_cross_entropy_with_logits(self, input: Any, target: Any, weight: Any = None,
                                         reduction: Reduction = "mean", pos_weight: Any = None, *,
                                         with_grad: Literal[False] = False, grad: Any = None,
                                         timeout: Optional[float] = None) -> One: ...

    @overload
    def binary_cross_entropy_with_logits(self, input: Any, target: Any, weight: Any = None,
                                         reduction: Reduction = "mean", pos_weight: Any = None, *,
                                         with_grad: Union[Literal[True], Literal["input", "target"]], grad: Any = None,
                                         timeout: Optional[float] = None) -> Two: ...

    @overload
    def binary_cross_entropy_with_logits(self, input: Any, target: Any, weight: Any = None,
                                         reduction: Reduction = "mean", pos_weight: Any = None, *,
                                         with_grad: Tuple[Literal["input", "target"], ...], grad: Any = None,
                                         timeout: Optional[float] = None) -> Many: ...

    @overload
    def binary_cross_entropy_with_logits(self, input: Any, target: Any, weight: Any = None,
                                         reduction: Reduction = "mean", pos_weight: Any = None, *, with_grad: bool,
                                         grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def binary_cross_entropy_with_logits(self, input: Any, target: Any, weight: Any = None,
                                         reduction: Reduction = "mean", pos_weight: Any = None, *,
                                         with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                                         timeout: Optional[float] = None) -> Any:
        """binary cross entropy of sigmoid(input), stable.

        Arguments:
            input: logits.
            target: like input, in [0, 1].
            weight: broadcasts to input.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            pos_weight: weight of the positive term; broadcasts.

        Gradients: of input, target; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.binary_cross_entropy_with_logits(input, target, with_grad=True)
        """
        return self._evaluate("binary_cross_entropy_with_logits", "loss",
                              {"input": input, "target": target, "weight": weight, "pos_weight": pos_weight},
                              {"reduction": reduction}, "input", with_grad, grad, timeout)

    @overload
    def celu(self, input: Any, alpha: float = 1.0, *, with_grad: Literal[False] = False, grad: Any = None,
             timeout: Optional[float] = None) -> One: ...

    @overload
    def celu(self, input: Any, alpha: float = 1.0, *, with_grad: Literal[True], grad: Any = None,
             timeout: Optional[float] = None) -> Two: ...

    @overload
    def celu(self, input: Any, alpha: float = 1.0, *, with_grad: bool, grad: Any = None,
             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def celu(self, input: Any, alpha: float = 1.0, *, with_grad: bool = False, grad: Any = None,
             timeout: Optional[float] = None) -> Any:
        """input where positive, else alpha (exp(input / alpha) - 1), elementwise.

        Arguments:
            input: any shape.
            alpha: the limit far below 0, negated; not 0 (1.0 by default).

        Returns the output.

        Example:
            output = client.celu(input)
        """
        return self._evaluate("celu", "output", {"input": input}, {"alpha": alpha}, "input", with_grad, grad, timeout)

    @overload
    def cosface_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", margin: float = 0.35,
                     scale: float = 64.0, with_grad: Literal[False] = False, grad: Any = None,
                     timeout: Optional[float] = None) -> One: ...

    @overload
    def cosface_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", margin: float = 0.35,
                     scale: float = 64.0, with_grad: Literal[True], grad: Any = None,
                     timeout: Optional[float] = None) -> Two: ...

    @overload
    def cosface_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", margin: float = 0.35,
                     scale: float = 64.0, with_grad: bool, grad: Any = None,
                     timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def cosface_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", margin: float = 0.35,
                     scale: float = 64.0, with_grad: bool = False, grad: Any = None,
                     timeout: Optional[float] = None) -> Any:
        """cross entropy of scale input, the target's less by margin.

        Arguments:
            input: cosines, (C) or (N, C).
            target: a class index of each row, () or (1) for (C).
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            margin: what the target's cosine is less by (0.35 by default).
            scale: what the cosines are multiplied by (64.0 by default).

        Returns the loss.

        Example:
            loss, grad = client.cosface_loss(input, target, with_grad=True)
        """
        return self._evaluate("cosface_loss", "loss", {"input": input, "target": target},
                              {"reduction": reduction, "margin": margin, "scale": scale}, "input", with_grad, grad,
                              timeout)

    @overload
    def cosine_embedding_loss(self, input1: Any, input2: Any, target: Any, margin: float = 0.0,
                              reduction: Reduction = "mean", *, with_grad: Literal[False] = False, grad: Any = None,
                              timeout: Optional[float] = None) -> One: ...

    @overload
    def cosine_embedding_loss(self, input1: Any, input2: Any, target: Any, margin: float = 0.0,
                              reduction: Reduction = "mean", *,
                              with_grad: Union[Literal[True], Literal["input1", "input2"]], grad: Any = None,
                              timeout: Optional[float] = None) -> Two: ...

    @overload
    def cosine_embedding_loss(self, input1: Any, input2: Any, target: Any, margin: float = 0.0,
                              reduction: Reduction = "mean", *, with_grad: Tuple[Literal["input1", "input2"], ...],
                              grad: Any = None, timeout: Optional[float] = None) -> Many: ...

    @overload
    def cosine_embedding_loss(self, input1: Any, input2: Any, target: Any, margin: float = 0.0,
                              reduction: Reduction = "mean", *, with_grad: bool, grad: Any = None,
                              timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def cosine_embedding_loss(self, input1: Any, input2: Any, target: Any, margin: float = 0.0,
                              reduction: Reduction = "mean", *, with_grad: Union[bool, str, Tuple[str, ...]] = False,
                              grad: Any = None, timeout: Optional[float] = None) -> Any:
        """1 - cos for a target of 1, max(0, cos - margin) for -1.

        Arguments:
            input1: (N, D) or (D).
            input2: broadcasts with input1.
            target: 1 or -1; (N) for (N, D), () for (D).
            margin: a cosine up to this is no loss for -1 (0.0 by default).
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Gradients: of input1, input2; `with_grad=True` gives that of input1.

        Returns the loss.

        Example:
            loss, grad = client.cosine_embedding_loss(input1, input2, target, with_grad=True)
        """
        return self._evaluate("cosine_embedding_loss", "loss", {"input1": input1, "input2": input2, "target": target},
                              {"margin": margin, "reduction": reduction}, "input1", with_grad, grad, timeout)

    @overload
    def cosine_similarity(self, x1: Any, x2: Any, dim: int = 1, eps: float = 1e-08, *,
                          with_grad: Literal[False] = False, grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def cosine_similarity(self, x1: Any, x2: Any, dim: int = 1, eps: float = 1e-08, *,
                          with_grad: Union[Literal[True], Literal["x1", "x2"]], grad: Any = None,
                          timeout: Optional[float] = None) -> Two: ...

    @overload
    def cosine_similarity(self, x1: Any, x2: Any, dim: int = 1, eps: float = 1e-08, *,
                          with_grad: Tuple[Literal["x1", "x2"], ...], grad: Any = None,
                          timeout: Optional[float] = None) -> Many: ...

    @overload
    def cosine_similarity(self, x1: Any, x2: Any, dim: int = 1, eps: float = 1e-08, *, with_grad: bool,
                          grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def cosine_similarity(self, x1: Any, x2: Any, dim: int = 1, eps: float = 1e-08, *,
                          with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                          timeout: Optional[float] = None) -> Any:
        """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along dim.

        Arguments:
            x1: any shape.
            x2: broadcasts with x1.
            dim: the dimension of the vectors, of the shape that x1 and x2 broadcast to (1 by default).
            eps: the least that a norm counts as (1e-08 by default).

        Gradients: of x1, x2; `with_grad=True` gives that of x1.

        Returns the output.

        Example:
            output = client.cosine_similarity(x1, x2)
        """
        return self._evaluate("cosine_similarity", "output", {"x1": x1, "x2": x2}, {"dim": dim, "eps": eps}, "x1",
                              with_grad, grad, timeout)

    @overload
    def cross_entropy(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                      reduction: Reduction = "mean", label_smoothing: float = 0.0, *, softcap: float = 0.0,
                      lse_square_scale: float = 0.0, with_grad: Literal[False] = False, grad: Any = None,
                      timeout: Optional[float] = None) -> One: ...

    @overload
    def cross_entropy(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                      reduction: Reduction = "mean", label_smoothing: float = 0.0, *, softcap: float = 0.0,
                      lse_square_scale: float = 0.0, with_grad: Union[Literal[True], Literal["input", "target"]],
                      grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def cross_entropy(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                      reduction: Reduction = "mean", label_smoothing: float = 0.0, *, softcap: float = 0.0,
                      lse_square_scale: float = 0.0, with_grad: Tuple[Literal["input", "target"], ...],
                      grad: Any = None, timeout: Optional[float] = None) -> Many: ...

    @overload
    def cross_entropy(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                      reduction: Reduction = "mean", label_smoothing: float = 0.0, *, softcap: float = 0.0,
                      lse_square_scale: float = 0.0, with_grad: bool, grad: Any = None,
                      timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def cross_entropy(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                      reduction: Reduction = "mean", label_smoothing: float = 0.0, *, softcap: float = 0.0,
                      lse_square_scale: float = 0.0, with_grad: Union[bool, str, Tuple[str, ...]] = False,
                      grad: Any = None, timeout: Optional[float] = None) -> Any:
        """-log softmax(input)[target].

        Arguments:
            input: (C), (N, C) or (N, C, d1, ..., dk).
            target: class indices: input without its classes, () or (1) for (C); or probabilities: like input.
            weight: (C), of input's type with class indices.
            ignore_index: targets of this value do not count (-100 by default).
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            label_smoothing: share of the target given to all classes alike (0.0 by default).
            softcap: logits x are softcap tanh(x / softcap); 0: as they are (0.0 by default).
            lse_square_scale: what logsumexp(logits)^2 counts in each loss (z-loss) (0.0 by default).

        Gradients: of input, target; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.cross_entropy(logits, labels, with_grad=True, timeout=5)
        """
        return self._evaluate("cross_entropy", "loss", {"input": input, "target": target, "weight": weight},
                              {"ignore_index": ignore_index, "reduction": reduction, "label_smoothing": label_smoothing, "softcap": softcap, "lse_square_scale": lse_square_scale},
                              "input", with_grad, grad, timeout)

    @overload
    def ctc_loss(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0,
                 reduction: Reduction = "mean", zero_infinity: bool = False, *, with_grad: Literal[False] = False,
                 grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def ctc_loss(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0,
                 reduction: Reduction = "mean", zero_infinity: bool = False, *, with_grad: Literal[True],
                 grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def ctc_loss(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0,
                 reduction: Reduction = "mean", zero_infinity: bool = False, *, with_grad: bool, grad: Any = None,
                 timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def ctc_loss(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0,
                 reduction: Reduction = "mean", zero_infinity: bool = False, *, with_grad: bool = False,
                 grad: Any = None, timeout: Optional[float] = None) -> Any:
        """-log of the probability of a sequence of labels, over all alignments.

        Arguments:
            log_probs: log-probabilities, (T, N, C) or (T, C).
            targets: classes: (N, S), or of all samples one after another.
            input_lengths: (N), or () for (T, C); 0 to T.
            target_lengths: (N), or () for (T, C).
            blank: the class of the blank (0 by default).
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            zero_infinity: a loss without an alignment is 0, and so is its gradient (False by default).

        Returns the loss.

        Example:
            loss, grad = client.ctc_loss(log_probs, targets, input_lengths, target_lengths, with_grad=True)
        """
        return self._evaluate("ctc_loss", "loss",
                              {"log_probs": log_probs, "targets": targets, "input_lengths": input_lengths, "target_lengths": target_lengths},
                              {"blank": blank, "reduction": reduction, "zero_infinity": zero_infinity}, "log_probs",
                              with_grad, grad, timeout)

    @overload
    def elu(self, input: Any, alpha: float = 1.0, *, with_grad: Literal[False] = False, grad: Any = None,
            timeout: Optional[float] = None) -> One: ...

    @overload
    def elu(self, input: Any, alpha: float = 1.0, *, with_grad: Literal[True], grad: Any = None,
            timeout: Optional[float] = None) -> Two: ...

    @overload
    def elu(self, input: Any, alpha: float = 1.0, *, with_grad: bool, grad: Any = None,
            timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def elu(self, input: Any, alpha: float = 1.0, *, with_grad: bool = False, grad: Any = None,
            timeout: Optional[float] = None) -> Any:
        """input where positive, else alpha (exp(input) - 1), elementwise.

        Arguments:
            input: any shape.
            alpha: the limit far below 0, negated (1.0 by default).

        Returns the output.

        Example:
            output = client.elu(input)
        """
        return self._evaluate("elu", "output", {"input": input}, {"alpha": alpha}, "input", with_grad, grad, timeout)

    @overload
    def entr(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
             timeout: Optional[float] = None) -> One: ...

    @overload
    def entr(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def entr(self, input: Any, *, with_grad: bool, grad: Any = None,
             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def entr(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """-input log(input), elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.entr(input)
        """
        return self._evaluate("entr", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def erf(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
            timeout: Optional[float] = None) -> One: ...

    @overload
    def erf(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def erf(self, input: Any, *, with_grad: bool, grad: Any = None,
            timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def erf(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """the error function, elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.erf(input)
        """
        return self._evaluate("erf", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def erfc(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
             timeout: Optional[float] = None) -> One: ...

    @overload
    def erfc(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def erfc(self, input: Any, *, with_grad: bool, grad: Any = None,
             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def erfc(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """1 - erf(input), elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.erfc(input)
        """
        return self._evaluate("erfc", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def exp2(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
             timeout: Optional[float] = None) -> One: ...

    @overload
    def exp2(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def exp2(self, input: Any, *, with_grad: bool, grad: Any = None,
             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def exp2(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """2^input, elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.exp2(input)
        """
        return self._evaluate("exp2", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def expm1(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
              timeout: Optional[float] = None) -> One: ...

    @overload
    def expm1(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def expm1(self, input: Any, *, with_grad: bool, grad: Any = None,
              timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def expm1(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """exp(input) - 1, elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.expm1(input)
        """
        return self._evaluate("expm1", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def gaussian_nll_loss(self, input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-06,
                          reduction: Reduction = "mean", *, with_grad: Literal[False] = False, grad: Any = None,
                          timeout: Optional[float] = None) -> One: ...

    @overload
    def gaussian_nll_loss(self, input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-06,
                          reduction: Reduction = "mean", *,
                          with_grad: Union[Literal[True], Literal["input", "target", "var"]], grad: Any = None,
                          timeout: Optional[float] = None) -> Two: ...

    @overload
    def gaussian_nll_loss(self, input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-06,
                          reduction: Reduction = "mean", *, with_grad: Tuple[Literal["input", "target", "var"], ...],
                          grad: Any = None, timeout: Optional[float] = None) -> Many: ...

    @overload
    def gaussian_nll_loss(self, input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-06,
                          reduction: Reduction = "mean", *, with_grad: bool, grad: Any = None,
                          timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def gaussian_nll_loss(self, input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-06,
                          reduction: Reduction = "mean", *, with_grad: Union[bool, str, Tuple[str, ...]] = False,
                          grad: Any = None, timeout: Optional[float] = None) -> Any:
        """(log(var) + (input - target)^2 / var) / 2.

        Arguments:
            input: the means, any shape.
            target: broadcasts with input.
            var: variances: of input's shape, of that without its last dimension, or with a 1 in one place.
            full: with the constant log(2 pi) / 2 (False by default).
            eps: the least variance, at least 0 (1e-06 by default).
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Gradients: of input, target, var; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.gaussian_nll_loss(input, target, var, with_grad=True)
        """
        return self._evaluate("gaussian_nll_loss", "loss", {"input": input, "target": target, "var": var},
                              {"full": full, "eps": eps, "reduction": reduction}, "input", with_grad, grad, timeout)

    @overload
    def gelu(self, input: Any, approximate: Literal["none", "tanh"] = "none", *, with_grad: Literal[False] = False,
             grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def gelu(self, input: Any, approximate: Literal["none", "tanh"] = "none", *, with_grad: Literal[True],
             grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def gelu(self, input: Any, approximate: Literal["none", "tanh"] = "none", *, with_grad: bool, grad: Any = None,
             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def gelu(self, input: Any, approximate: Literal["none", "tanh"] = "none", *, with_grad: bool = False,
             grad: Any = None, timeout: Optional[float] = None) -> Any:
        """input P(X <= input) for a standard normal X, elementwise.

        Arguments:
            input: any shape.
            approximate: tanh: sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)) in place of P(X <= x) ("none" by default).

        Returns the output.

        Example:
            output = client.gelu(input)
        """
        return self._evaluate("gelu", "output", {"input": input}, {"approximate": approximate}, "input", with_grad,
                              grad, timeout)

    @overload
    def generalized_cross_entropy(self, input: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean",
                                  ignore_index: int = -100, q: float = 0.7, with_grad: Literal[False] = False,
                                  grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def generalized_cross_entropy(self, input: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean",
                                  ignore_index: int = -100, q: float = 0.7, with_grad: Literal[True], grad: Any = None,
                                  timeout: Optional[float] = None) -> Two: ...

    @overload
    def generalized_cross_entropy(self, input: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean",
                                  ignore_index: int = -100, q: float = 0.7, with_grad: bool, grad: Any = None,
                                  timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def generalized_cross_entropy(self, input: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean",
                                  ignore_index: int = -100, q: float = 0.7, with_grad: bool = False, grad: Any = None,
                                  timeout: Optional[float] = None) -> Any:
        """(1 - p^q) / q, p = softmax(input)[target].

        Arguments:
            input: logits, (C), (N, C) or (N, C, d1, ..., dk).
            target: class indices: input without its classes, () or (1) for (C).
            weight: (C), of input's type.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            ignore_index: targets of this value do not count (-100 by default).
            q: 0: cross_entropy; 1: 1 - p (0.7 by default).

        Returns the loss.

        Example:
            loss, grad = client.generalized_cross_entropy(input, target, with_grad=True)
        """
        return self._evaluate("generalized_cross_entropy", "loss",
                              {"input": input, "target": target, "weight": weight},
                              {"reduction": reduction, "ignore_index": ignore_index, "q": q}, "input", with_grad, grad,
                              timeout)

    @overload
    def glu(self, input: Any, dim: int = -1, *, with_grad: Literal[False] = False, grad: Any = None,
            timeout: Optional[float] = None) -> One: ...

    @overload
    def glu(self, input: Any, dim: int = -1, *, with_grad: Literal[True], grad: Any = None,
            timeout: Optional[float] = None) -> Two: ...

    @overload
    def glu(self, input: Any, dim: int = -1, *, with_grad: bool, grad: Any = None,
            timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def glu(self, input: Any, dim: int = -1, *, with_grad: bool = False, grad: Any = None,
            timeout: Optional[float] = None) -> Any:
        """a sigmoid(b) of the halves of a dimension.

        Arguments:
            input: any shape with an even dimension.
            dim: the dimension that is halved (-1 by default).

        Returns the output.

        Example:
            output = client.glu(input)
        """
        return self._evaluate("glu", "output", {"input": input}, {"dim": dim}, "input", with_grad, grad, timeout)

    @overload
    def hardshrink(self, input: Any, lambd: float = 0.5, *, with_grad: Literal[False] = False, grad: Any = None,
                   timeout: Optional[float] = None) -> One: ...

    @overload
    def hardshrink(self, input: Any, lambd: float = 0.5, *, with_grad: Literal[True], grad: Any = None,
                   timeout: Optional[float] = None) -> Two: ...

    @overload
    def hardshrink(self, input: Any, lambd: float = 0.5, *, with_grad: bool, grad: Any = None,
                   timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def hardshrink(self, input: Any, lambd: float = 0.5, *, with_grad: bool = False, grad: Any = None,
                   timeout: Optional[float] = None) -> Any:
        """input where its magnitude is above lambd, else 0, elementwise.

        Arguments:
            input: any shape.
            lambd: the largest magnitude that becomes 0 (0.5 by default).

        Returns the output.

        Example:
            output = client.hardshrink(input)
        """
        return self._evaluate("hardshrink", "output", {"input": input}, {"lambd": lambd}, "input", with_grad, grad,
                              timeout)

    @overload
    def hardsigmoid(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
                    timeout: Optional[float] = None) -> One: ...

    @overload
    def hardsigmoid(self, input: Any, *, with_grad: Literal[True], grad: Any = None,
                    timeout: Optional[float] = None) -> Two: ...

    @overload
    def hardsigmoid(self, input: Any, *, with_grad: bool, grad: Any = None,
                    timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def hardsigmoid(self, input: Any, *, with_grad: bool = False, grad: Any = None,
                    timeout: Optional[float] = None) -> Any:
        """input / 6 + 1 / 2 between 0 and 1, elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.hardsigmoid(input)
        """
        return self._evaluate("hardsigmoid", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def hardswish(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
                  timeout: Optional[float] = None) -> One: ...

    @overload
    def hardswish(self, input: Any, *, with_grad: Literal[True], grad: Any = None,
                  timeout: Optional[float] = None) -> Two: ...

    @overload
    def hardswish(self, input: Any, *, with_grad: bool, grad: Any = None,
                  timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def hardswish(self, input: Any, *, with_grad: bool = False, grad: Any = None,
                  timeout: Optional[float] = None) -> Any:
        """input hardsigmoid(input), elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.hardswish(input)
        """
        return self._evaluate("hardswish", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def hardtanh(self, input: Any, min_val: float = -1.0, max_val: float = 1.0, *, with_grad: Literal[False] = False,
                 grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def hardtanh(self, input: Any, min_val: float = -1.0, max_val: float = 1.0, *, with_grad: Literal[True],
                 grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def hardtanh(self, input: Any, min_val: float = -1.0, max_val: float = 1.0, *, with_grad: bool, grad: Any = None,
                 timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def hardtanh(self, input: Any, min_val: float = -1.0, max_val: float = 1.0, *, with_grad: bool = False,
                 grad: Any = None, timeout: Optional[float] = None) -> Any:
        """input between min_val and max_val, elementwise.

        Arguments:
            input: any shape.
            min_val: the least result (-1.0 by default).
            max_val: the largest result, at least min_val (1.0 by default).

        Returns the output.

        Example:
            output = client.hardtanh(input)
        """
        return self._evaluate("hardtanh", "output", {"input": input}, {"min_val": min_val, "max_val": max_val},
                              "input", with_grad, grad, timeout)

    @overload
    def hinge_embedding_loss(self, input: Any, target: Any, margin: float = 1.0, reduction: Reduction = "mean", *,
                             with_grad: Literal[False] = False, grad: Any = None,
                             timeout: Optional[float] = None) -> One: ...

    @overload
    def hinge_embedding_loss(self, input: Any, target: Any, margin: float = 1.0, reduction: Reduction = "mean", *,
                             with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def hinge_embedding_loss(self, input: Any, target: Any, margin: float = 1.0, reduction: Reduction = "mean", *,
                             with_grad: bool, grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def hinge_embedding_loss(self, input: Any, target: Any, margin: float = 1.0, reduction: Reduction = "mean", *,
                             with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """input for a target of 1, max(0, margin - input) for -1.

        Arguments:
            input: distances.
            target: 1 or -1; broadcasts with input.
            margin: the distance from which on a pair of -1 costs nothing (1.0 by default).
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Returns the loss.

        Example:
            loss, grad = client.hinge_embedding_loss(input, target, with_grad=True)
        """
        return self._evaluate("hinge_embedding_loss", "loss", {"input": input, "target": target},
                              {"margin": margin, "reduction": reduction}, "input", with_grad, grad, timeout)

    @overload
    def huber_loss(self, input: Any, target: Any, reduction: Reduction = "mean", delta: float = 1.0,
                   weight: Any = None, *, with_grad: Literal[False] = False, grad: Any = None,
                   timeout: Optional[float] = None) -> One: ...

    @overload
    def huber_loss(self, input: Any, target: Any, reduction: Reduction = "mean", delta: float = 1.0,
                   weight: Any = None, *, with_grad: Union[Literal[True], Literal["input", "target", "weight"]],
                   grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def huber_loss(self, input: Any, target: Any, reduction: Reduction = "mean", delta: float = 1.0,
                   weight: Any = None, *, with_grad: Tuple[Literal["input", "target", "weight"], ...],
                   grad: Any = None, timeout: Optional[float] = None) -> Many: ...

    @overload
    def huber_loss(self, input: Any, target: Any, reduction: Reduction = "mean", delta: float = 1.0,
                   weight: Any = None, *, with_grad: bool, grad: Any = None,
                   timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def huber_loss(self, input: Any, target: Any, reduction: Reduction = "mean", delta: float = 1.0,
                   weight: Any = None, *, with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                   timeout: Optional[float] = None) -> Any:
        """(x - y)^2 / 2 up to delta, else delta (|x - y| - delta / 2).

        Arguments:
            input: any shape.
            target: broadcasts with input.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            delta: where the square ends, above 0 (1.0 by default).
            weight: a factor an element, of input's shape.

        Gradients: of input, target, weight; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.huber_loss(input, target, with_grad=True)
        """
        return self._evaluate("huber_loss", "loss", {"input": input, "target": target, "weight": weight},
                              {"reduction": reduction, "delta": delta}, "input", with_grad, grad, timeout)

    @overload
    def kl_div(self, input: Any, target: Any, reduction: Literal["none", "mean", "sum", "batchmean"] = "mean",
               log_target: bool = False, *, with_grad: Literal[False] = False, grad: Any = None,
               timeout: Optional[float] = None) -> One: ...

    @overload
    def kl_div(self, input: Any, target: Any, reduction: Literal["none", "mean", "sum", "batchmean"] = "mean",
               log_target: bool = False, *, with_grad: Union[Literal[True], Literal["input", "target"]],
               grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def kl_div(self, input: Any, target: Any, reduction: Literal["none", "mean", "sum", "batchmean"] = "mean",
               log_target: bool = False, *, with_grad: Tuple[Literal["input", "target"], ...], grad: Any = None,
               timeout: Optional[float] = None) -> Many: ...

    @overload
    def kl_div(self, input: Any, target: Any, reduction: Literal["none", "mean", "sum", "batchmean"] = "mean",
               log_target: bool = False, *, with_grad: bool, grad: Any = None,
               timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def kl_div(self, input: Any, target: Any, reduction: Literal["none", "mean", "sum", "batchmean"] = "mean",
               log_target: bool = False, *, with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
               timeout: Optional[float] = None) -> Any:
        """target (log(target) - input), the Kullback-Leibler divergence.

        Arguments:
            input: log-probabilities.
            target: probabilities; broadcasts with input.
            reduction: none: a loss an element or row; mean; sum; batchmean: the sum over input's first size ("mean" by
                default).
            log_target: the target is log-probabilities, too (False by default).

        Gradients: of input, target; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.kl_div(input, target, with_grad=True)
        """
        return self._evaluate("kl_div", "loss", {"input": input, "target": target},
                              {"reduction": reduction, "log_target": log_target}, "input", with_grad, grad, timeout)

    @overload
    def l1_loss(self, input: Any, target: Any, reduction: Reduction = "mean", weight: Any = None, *,
                with_grad: Literal[False] = False, grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def l1_loss(self, input: Any, target: Any, reduction: Reduction = "mean", weight: Any = None, *,
                with_grad: Union[Literal[True], Literal["input", "target", "weight"]], grad: Any = None,
                timeout: Optional[float] = None) -> Two: ...

    @overload
    def l1_loss(self, input: Any, target: Any, reduction: Reduction = "mean", weight: Any = None, *,
                with_grad: Tuple[Literal["input", "target", "weight"], ...], grad: Any = None,
                timeout: Optional[float] = None) -> Many: ...

    @overload
    def l1_loss(self, input: Any, target: Any, reduction: Reduction = "mean", weight: Any = None, *, with_grad: bool,
                grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def l1_loss(self, input: Any, target: Any, reduction: Reduction = "mean", weight: Any = None, *,
                with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                timeout: Optional[float] = None) -> Any:
        """|input - target|.

        Arguments:
            input: any shape.
            target: broadcasts with input.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            weight: a factor an element, of input's shape.

        Gradients: of input, target, weight; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.l1_loss(input, target, with_grad=True)
        """
        return self._evaluate("l1_loss", "loss", {"input": input, "target": target, "weight": weight},
                              {"reduction": reduction}, "input", with_grad, grad, timeout)

    @overload
    def leaky_relu(self, input: Any, negative_slope: float = 0.01, *, with_grad: Literal[False] = False,
                   grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def leaky_relu(self, input: Any, negative_slope: float = 0.01, *, with_grad: Literal[True], grad: Any = None,
                   timeout: Optional[float] = None) -> Two: ...

    @overload
    def leaky_relu(self, input: Any, negative_slope: float = 0.01, *, with_grad: bool, grad: Any = None,
                   timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def leaky_relu(self, input: Any, negative_slope: float = 0.01, *, with_grad: bool = False, grad: Any = None,
                   timeout: Optional[float] = None) -> Any:
        """input where positive, else negative_slope input, elementwise.

        Arguments:
            input: any shape.
            negative_slope: the slope below 0 (0.01 by default).

        Returns the output.

        Example:
            output = client.leaky_relu(input)
        """
        return self._evaluate("leaky_relu", "output", {"input": input}, {"negative_slope": negative_slope}, "input",
                              with_grad, grad, timeout)

    @overload
    def log1p(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
              timeout: Optional[float] = None) -> One: ...

    @overload
    def log1p(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def log1p(self, input: Any, *, with_grad: bool, grad: Any = None,
              timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def log1p(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """log(1 + input), elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.log1p(input)
        """
        return self._evaluate("log1p", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def log_cosh_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean",
                      with_grad: Literal[False] = False, grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def log_cosh_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean",
                      with_grad: Union[Literal[True], Literal["input", "target"]], grad: Any = None,
                      timeout: Optional[float] = None) -> Two: ...

    @overload
    def log_cosh_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean",
                      with_grad: Tuple[Literal["input", "target"], ...], grad: Any = None,
                      timeout: Optional[float] = None) -> Many: ...

    @overload
    def log_cosh_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", with_grad: bool,
                      grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def log_cosh_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean",
                      with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                      timeout: Optional[float] = None) -> Any:
        """log(cosh(input - target)).

        Arguments:
            input: any shape.
            target: broadcasts with input.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Gradients: of input, target; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.log_cosh_loss(input, target, with_grad=True)
        """
        return self._evaluate("log_cosh_loss", "loss", {"input": input, "target": target}, {"reduction": reduction},
                              "input", with_grad, grad, timeout)

    @overload
    def log_ndtr(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
                 timeout: Optional[float] = None) -> One: ...

    @overload
    def log_ndtr(self, input: Any, *, with_grad: Literal[True], grad: Any = None,
                 timeout: Optional[float] = None) -> Two: ...

    @overload
    def log_ndtr(self, input: Any, *, with_grad: bool, grad: Any = None,
                 timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def log_ndtr(self, input: Any, *, with_grad: bool = False, grad: Any = None,
                 timeout: Optional[float] = None) -> Any:
        """the logarithm of the standard normal distribution function, elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.log_ndtr(input)
        """
        return self._evaluate("log_ndtr", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def log_softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: Literal[False] = False,
                    grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def log_softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: Literal[True], grad: Any = None,
                    timeout: Optional[float] = None) -> Two: ...

    @overload
    def log_softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: bool, grad: Any = None,
                    timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def log_softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: bool = False, grad: Any = None,
                    timeout: Optional[float] = None) -> Any:
        """log(softmax(input)) along dim.

        Arguments:
            input: any shape.
            dim: the dimension that sums to 1 (-1 by default).
            dtype: cast input to this first; integers need it.

        Returns the output.

        Example:
            output = client.log_softmax(input)
        """
        return self._evaluate("log_softmax", "output", {"input": input}, {"dim": dim, **given(dtype=dtype)}, "input",
                              with_grad, grad, timeout)

    @overload
    def logit(self, input: Any, eps: Optional[float] = None, *, with_grad: Literal[False] = False, grad: Any = None,
              timeout: Optional[float] = None) -> One: ...

    @overload
    def logit(self, input: Any, eps: Optional[float] = None, *, with_grad: Literal[True], grad: Any = None,
              timeout: Optional[float] = None) -> Two: ...

    @overload
    def logit(self, input: Any, eps: Optional[float] = None, *, with_grad: bool, grad: Any = None,
              timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def logit(self, input: Any, eps: Optional[float] = None, *, with_grad: bool = False, grad: Any = None,
              timeout: Optional[float] = None) -> Any:
        """log(input / (1 - input)), elementwise.

        Arguments:
            input: any shape.
            eps: clamps the input to [eps, 1 - eps]; none: it is not clamped.

        Returns the output.

        Example:
            output = client.logit(input)
        """
        return self._evaluate("logit", "output", {"input": input}, {**given(eps=eps)}, "input", with_grad, grad,
                              timeout)

    @overload
    def logsigmoid(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
                   timeout: Optional[float] = None) -> One: ...

    @overload
    def logsigmoid(self, input: Any, *, with_grad: Literal[True], grad: Any = None,
                   timeout: Optional[float] = None) -> Two: ...

    @overload
    def logsigmoid(self, input: Any, *, with_grad: bool, grad: Any = None,
                   timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def logsigmoid(self, input: Any, *, with_grad: bool = False, grad: Any = None,
                   timeout: Optional[float] = None) -> Any:
        """log(sigmoid(input)), elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.logsigmoid(input)
        """
        return self._evaluate("logsigmoid", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def logsumexp(self, input: Any, dim: int, keepdim: bool = False, *, with_grad: Literal[False] = False,
                  grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def logsumexp(self, input: Any, dim: int, keepdim: bool = False, *, with_grad: Literal[True], grad: Any = None,
                  timeout: Optional[float] = None) -> Two: ...

    @overload
    def logsumexp(self, input: Any, dim: int, keepdim: bool = False, *, with_grad: bool, grad: Any = None,
                  timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def logsumexp(self, input: Any, dim: int, keepdim: bool = False, *, with_grad: bool = False, grad: Any = None,
                  timeout: Optional[float] = None) -> Any:
        """log(sum(exp(input))) along dim.

        Arguments:
            input: any shape.
            dim: the dimension that is added up.
            keepdim: keep the rows' dimension, as 1 (False by default).

        Returns the output.

        Example:
            output = client.logsumexp(input, dim=1)
        """
        return self._evaluate("logsumexp", "output", {"input": input}, {"dim": dim, "keepdim": keepdim}, "input",
                              with_grad, grad, timeout)

    @overload
    def margin_ranking_loss(self, input1: Any, input2: Any, target: Any, margin: float = 0.0,
                            reduction: Reduction = "mean", *, with_grad: Literal[False] = False, grad: Any = None,
                            timeout: Optional[float] = None) -> One: ...

    @overload
    def margin_ranking_loss(self, input1: Any, input2: Any, target: Any, margin: float = 0.0,
                            reduction: Reduction = "mean", *,
                            with_grad: Union[Literal[True], Literal["input1", "input2", "target"]], grad: Any = None,
                            timeout: Optional[float] = None) -> Two: ...

    @overload
    def margin_ranking_loss(self, input1: Any, input2: Any, target: Any, margin: float = 0.0,
                            reduction: Reduction = "mean", *,
                            with_grad: Tuple[Literal["input1", "input2", "target"], ...], grad: Any = None,
                            timeout: Optional[float] = None) -> Many: ...

    @overload
    def margin_ranking_loss(self, input1: Any, input2: Any, target: Any, margin: float = 0.0,
                            reduction: Reduction = "mean", *, with_grad: bool, grad: Any = None,
                            timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def margin_ranking_loss(self, input1: Any, input2: Any, target: Any, margin: float = 0.0,
                            reduction: Reduction = "mean", *, with_grad: Union[bool, str, Tuple[str, ...]] = False,
                            grad: Any = None, timeout: Optional[float] = None) -> Any:
        """max(0, margin - target (input1 - input2)).

        Arguments:
            input1: scores, any shape.
            input2: scores of as many dimensions; broadcasts with input1.
            target: 1 where input1 is to be larger, -1 where input2; broadcasts with them.
            margin: the difference that costs nothing (0.0 by default).
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Gradients: of input1, input2, target; `with_grad=True` gives that of input1.

        Returns the loss.

        Example:
            loss, grad = client.margin_ranking_loss(input1, input2, target, with_grad=True)
        """
        return self._evaluate("margin_ranking_loss", "loss", {"input1": input1, "input2": input2, "target": target},
                              {"margin": margin, "reduction": reduction}, "input1", with_grad, grad, timeout)

    @overload
    def mish(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
             timeout: Optional[float] = None) -> One: ...

    @overload
    def mish(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def mish(self, input: Any, *, with_grad: bool, grad: Any = None,
             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def mish(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """input tanh(softplus(input)), elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.mish(input)
        """
        return self._evaluate("mish", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def mse_loss(self, input: Any, target: Any, reduction: Reduction = "mean", weight: Any = None, *,
                 with_grad: Literal[False] = False, grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def mse_loss(self, input: Any, target: Any, reduction: Reduction = "mean", weight: Any = None, *,
                 with_grad: Union[Literal[True], Literal["input", "target", "weight"]], grad: Any = None,
                 timeout: Optional[float] = None) -> Two: ...

    @overload
    def mse_loss(self, input: Any, target: Any, reduction: Reduction = "mean", weight: Any = None, *,
                 with_grad: Tuple[Literal["input", "target", "weight"], ...], grad: Any = None,
                 timeout: Optional[float] = None) -> Many: ...

    @overload
    def mse_loss(self, input: Any, target: Any, reduction: Reduction = "mean", weight: Any = None, *, with_grad: bool,
                 grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def mse_loss(self, input: Any, target: Any, reduction: Reduction = "mean", weight: Any = None, *,
                 with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                 timeout: Optional[float] = None) -> Any:
        """(input - target)^2.

        Arguments:
            input: any shape.
            target: broadcasts with input.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            weight: a factor an element, of input's shape.

        Gradients: of input, target, weight; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.mse_loss(input, target, with_grad=True)
        """
        return self._evaluate("mse_loss", "loss", {"input": input, "target": target, "weight": weight},
                              {"reduction": reduction}, "input", with_grad, grad, timeout)

    @overload
    def multi_margin_loss(self, input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None,
                          reduction: Reduction = "mean", *, with_grad: Literal[False] = False, grad: Any = None,
                          timeout: Optional[float] = None) -> One: ...

    @overload
    def multi_margin_loss(self, input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None,
                          reduction: Reduction = "mean", *, with_grad: Literal[True], grad: Any = None,
                          timeout: Optional[float] = None) -> Two: ...

    @overload
    def multi_margin_loss(self, input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None,
                          reduction: Reduction = "mean", *, with_grad: bool, grad: Any = None,
                          timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def multi_margin_loss(self, input: Any, target: Any, p: int = 1, margin: float = 1.0, weight: Any = None,
                          reduction: Reduction = "mean", *, with_grad: bool = False, grad: Any = None,
                          timeout: Optional[float] = None) -> Any:
        """mean over classes of max(0, margin - input[target] + input)^p.

        Arguments:
            input: scores, (C) or (N, C).
            target: a class index of each row, () or (1) for (C).
            p: 1 or 2 (1 by default).
            margin: by how much the target's score is to be above the others (1.0 by default).
            weight: (C), of input's type.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Returns the loss.

        Example:
            loss, grad = client.multi_margin_loss(input, target, with_grad=True)
        """
        return self._evaluate("multi_margin_loss", "loss", {"input": input, "target": target, "weight": weight},
                              {"p": p, "margin": margin, "reduction": reduction}, "input", with_grad, grad, timeout)

    @overload
    def multilabel_margin_loss(self, input: Any, target: Any, reduction: Reduction = "mean", *,
                               with_grad: Literal[False] = False, grad: Any = None,
                               timeout: Optional[float] = None) -> One: ...

    @overload
    def multilabel_margin_loss(self, input: Any, target: Any, reduction: Reduction = "mean", *,
                               with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def multilabel_margin_loss(self, input: Any, target: Any, reduction: Reduction = "mean", *, with_grad: bool,
                               grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def multilabel_margin_loss(self, input: Any, target: Any, reduction: Reduction = "mean", *,
                               with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """sum of max(0, 1 - input[label] + input[other]) over classes, by their number.

        Arguments:
            input: scores, (C) or (N, C).
            target: classes of each row, of input's shape, up to the first -1.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Returns the loss.

        Example:
            loss, grad = client.multilabel_margin_loss(input, target, with_grad=True)
        """
        return self._evaluate("multilabel_margin_loss", "loss", {"input": input, "target": target},
                              {"reduction": reduction}, "input", with_grad, grad, timeout)

    @overload
    def multilabel_soft_margin_loss(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean",
                                    *, with_grad: Literal[False] = False, grad: Any = None,
                                    timeout: Optional[float] = None) -> One: ...

    @overload
    def multilabel_soft_margin_loss(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean",
                                    *, with_grad: Union[Literal[True], Literal["input", "target"]], grad: Any = None,
                                    timeout: Optional[float] = None) -> Two: ...

    @overload
    def multilabel_soft_margin_loss(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean",
                                    *, with_grad: Tuple[Literal["input", "target"], ...], grad: Any = None,
                                    timeout: Optional[float] = None) -> Many: ...

    @overload
    def multilabel_soft_margin_loss(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean",
                                    *, with_grad: bool, grad: Any = None,
                                    timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def multilabel_soft_margin_loss(self, input: Any, target: Any, weight: Any = None, reduction: Reduction = "mean",
                                    *, with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                                    timeout: Optional[float] = None) -> Any:
        """mean over classes of binary cross entropy of sigmoid(input).

        Arguments:
            input: logits, (C), (N, C) or more.
            target: 0 or 1 for each class; broadcasts with input.
            weight: broadcasts with input.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Gradients: of input, target; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.multilabel_soft_margin_loss(input, target, with_grad=True)
        """
        return self._evaluate("multilabel_soft_margin_loss", "loss",
                              {"input": input, "target": target, "weight": weight}, {"reduction": reduction}, "input",
                              with_grad, grad, timeout)

    @overload
    def ndtr(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
             timeout: Optional[float] = None) -> One: ...

    @overload
    def ndtr(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def ndtr(self, input: Any, *, with_grad: bool, grad: Any = None,
             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def ndtr(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """the standard normal distribution function, elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.ndtr(input)
        """
        return self._evaluate("ndtr", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def nll_loss(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                 reduction: Reduction = "mean", *, with_grad: Literal[False] = False, grad: Any = None,
                 timeout: Optional[float] = None) -> One: ...

    @overload
    def nll_loss(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                 reduction: Reduction = "mean", *, with_grad: Literal[True], grad: Any = None,
                 timeout: Optional[float] = None) -> Two: ...

    @overload
    def nll_loss(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                 reduction: Reduction = "mean", *, with_grad: bool, grad: Any = None,
                 timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def nll_loss(self, input: Any, target: Any, weight: Any = None, ignore_index: int = -100,
                 reduction: Reduction = "mean", *, with_grad: bool = False, grad: Any = None,
                 timeout: Optional[float] = None) -> Any:
        """-input[target].

        Arguments:
            input: (C), (N, C) or (N, C, d1, ..., dk).
            target: class indices: input without its classes, () or (1) for (C).
            weight: (C), of input's type with class indices.
            ignore_index: targets of this value do not count (-100 by default).
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Returns the loss.

        Example:
            client.nll_loss(client.log_softmax(logits, dim=1), labels)
        """
        return self._evaluate("nll_loss", "loss", {"input": input, "target": target, "weight": weight},
                              {"ignore_index": ignore_index, "reduction": reduction}, "input", with_grad, grad,
                              timeout)

    @overload
    def normalize(self, input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, *,
                  with_grad: Literal[False] = False, grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def normalize(self, input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, *, with_grad: Literal[True],
                  grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def normalize(self, input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, *, with_grad: bool,
                  grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def normalize(self, input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12, *, with_grad: bool = False,
                  grad: Any = None, timeout: Optional[float] = None) -> Any:
        """input / max(p-norm of input, eps) along dim.

        Arguments:
            input: any shape.
            p: of the p-norm, infinities among them (2.0 by default).
            dim: the dimension of the vectors (1 by default).
            eps: the least that a norm counts as (1e-12 by default).

        Returns the output.

        Example:
            output = client.normalize(input)
        """
        return self._evaluate("normalize", "output", {"input": input}, {"p": p, "dim": dim, "eps": eps}, "input",
                              with_grad, grad, timeout)

    @overload
    def pairwise_distance(self, x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-06, keepdim: bool = False, *,
                          with_grad: Literal[False] = False, grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def pairwise_distance(self, x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-06, keepdim: bool = False, *,
                          with_grad: Union[Literal[True], Literal["x1", "x2"]], grad: Any = None,
                          timeout: Optional[float] = None) -> Two: ...

    @overload
    def pairwise_distance(self, x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-06, keepdim: bool = False, *,
                          with_grad: Tuple[Literal["x1", "x2"], ...], grad: Any = None,
                          timeout: Optional[float] = None) -> Many: ...

    @overload
    def pairwise_distance(self, x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-06, keepdim: bool = False, *,
                          with_grad: bool, grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def pairwise_distance(self, x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-06, keepdim: bool = False, *,
                          with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                          timeout: Optional[float] = None) -> Any:
        """the p-norm of x1 - x2 + eps, of each row.

        Arguments:
            x1: any shape.
            x2: broadcasts with x1.
            p: of the p-norm, infinities among them (2.0 by default).
            eps: added to the differences (1e-06 by default).
            keepdim: keep the rows' dimension, as 1 (False by default).

        Gradients: of x1, x2; `with_grad=True` gives that of x1.

        Returns the output.

        Example:
            output = client.pairwise_distance(x1, x2)
        """
        return self._evaluate("pairwise_distance", "output", {"x1": x1, "x2": x2},
                              {"p": p, "eps": eps, "keepdim": keepdim}, "x1", with_grad, grad, timeout)

    @overload
    def poisson_nll_loss(self, input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-08,
                         reduction: Reduction = "mean", *, with_grad: Literal[False] = False, grad: Any = None,
                         timeout: Optional[float] = None) -> One: ...

    @overload
    def poisson_nll_loss(self, input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-08,
                         reduction: Reduction = "mean", *, with_grad: Union[Literal[True], Literal["input", "target"]],
                         grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def poisson_nll_loss(self, input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-08,
                         reduction: Reduction = "mean", *, with_grad: Tuple[Literal["input", "target"], ...],
                         grad: Any = None, timeout: Optional[float] = None) -> Many: ...

    @overload
    def poisson_nll_loss(self, input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-08,
                         reduction: Reduction = "mean", *, with_grad: bool, grad: Any = None,
                         timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def poisson_nll_loss(self, input: Any, target: Any, log_input: bool = True, full: bool = False, eps: float = 1e-08,
                         reduction: Reduction = "mean", *, with_grad: Union[bool, str, Tuple[str, ...]] = False,
                         grad: Any = None, timeout: Optional[float] = None) -> Any:
        """exp(input) - target input, or input - target log(input + eps).

        Arguments:
            input: the mean or its logarithm.
            target: counts; broadcasts with input.
            log_input: the input is the logarithm of the mean (True by default).
            full: with Stirling's approximation of log(target!) for a target above 1 (False by default).
            eps: added to the input before its logarithm (1e-08 by default).
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Gradients: of input, target; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.poisson_nll_loss(input, target, with_grad=True)
        """
        return self._evaluate("poisson_nll_loss", "loss", {"input": input, "target": target},
                              {"log_input": log_input, "full": full, "eps": eps, "reduction": reduction}, "input",
                              with_grad, grad, timeout)

    @overload
    def poly1_cross_entropy(self, input: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean",
                            ignore_index: int = -100, epsilon: float = 1.0, with_grad: Literal[False] = False,
                            grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def poly1_cross_entropy(self, input: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean",
                            ignore_index: int = -100, epsilon: float = 1.0, with_grad: Literal[True], grad: Any = None,
                            timeout: Optional[float] = None) -> Two: ...

    @overload
    def poly1_cross_entropy(self, input: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean",
                            ignore_index: int = -100, epsilon: float = 1.0, with_grad: bool, grad: Any = None,
                            timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def poly1_cross_entropy(self, input: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean",
                            ignore_index: int = -100, epsilon: float = 1.0, with_grad: bool = False, grad: Any = None,
                            timeout: Optional[float] = None) -> Any:
        """-log(p) + epsilon (1 - p), p = softmax(input)[target].

        Arguments:
            input: logits, (C), (N, C) or (N, C, d1, ..., dk).
            target: class indices: input without its classes, () or (1) for (C).
            weight: (C), of input's type.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            ignore_index: targets of this value do not count (-100 by default).
            epsilon: what the first power of 1 - p counts more than in cross_entropy (1.0 by default).

        Returns the loss.

        Example:
            loss, grad = client.poly1_cross_entropy(input, target, with_grad=True)
        """
        return self._evaluate("poly1_cross_entropy", "loss", {"input": input, "target": target, "weight": weight},
                              {"reduction": reduction, "ignore_index": ignore_index, "epsilon": epsilon}, "input",
                              with_grad, grad, timeout)

    @overload
    def prelu(self, input: Any, weight: Any, *, with_grad: Literal[False] = False, grad: Any = None,
              timeout: Optional[float] = None) -> One: ...

    @overload
    def prelu(self, input: Any, weight: Any, *, with_grad: Union[Literal[True], Literal["input", "weight"]],
              grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def prelu(self, input: Any, weight: Any, *, with_grad: Tuple[Literal["input", "weight"], ...], grad: Any = None,
              timeout: Optional[float] = None) -> Many: ...

    @overload
    def prelu(self, input: Any, weight: Any, *, with_grad: bool, grad: Any = None,
              timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def prelu(self, input: Any, weight: Any, *, with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
              timeout: Optional[float] = None) -> Any:
        """input above 0, else weight times input.

        Arguments:
            input: any shape.
            weight: a number, or one for each channel, input's second dimension.

        Gradients: of input, weight; `with_grad=True` gives that of input.

        Returns the output.

        Example:
            output = client.prelu(input, weight)
        """
        return self._evaluate("prelu", "output", {"input": input, "weight": weight}, {}, "input", with_grad, grad,
                              timeout)

    @overload
    def quantile_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", q: float = 0.5,
                      with_grad: Literal[False] = False, grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def quantile_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", q: float = 0.5,
                      with_grad: Union[Literal[True], Literal["input", "target"]], grad: Any = None,
                      timeout: Optional[float] = None) -> Two: ...

    @overload
    def quantile_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", q: float = 0.5,
                      with_grad: Tuple[Literal["input", "target"], ...], grad: Any = None,
                      timeout: Optional[float] = None) -> Many: ...

    @overload
    def quantile_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", q: float = 0.5, with_grad: bool,
                      grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def quantile_loss(self, input: Any, target: Any, *, reduction: Reduction = "mean", q: float = 0.5,
                      with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                      timeout: Optional[float] = None) -> Any:
        """max(q (target - input), (q - 1) (target - input)).

        Arguments:
            input: any shape.
            target: broadcasts with input.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            q: the quantile that the input is to be (0.5 by default).

        Gradients: of input, target; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.quantile_loss(input, target, with_grad=True)
        """
        return self._evaluate("quantile_loss", "loss", {"input": input, "target": target},
                              {"reduction": reduction, "q": q}, "input", with_grad, grad, timeout)

    @overload
    def relu(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
             timeout: Optional[float] = None) -> One: ...

    @overload
    def relu(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def relu(self, input: Any, *, with_grad: bool, grad: Any = None,
             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def relu(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """max(0, input), elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.relu(input)
        """
        return self._evaluate("relu", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def relu6(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
              timeout: Optional[float] = None) -> One: ...

    @overload
    def relu6(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def relu6(self, input: Any, *, with_grad: bool, grad: Any = None,
              timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def relu6(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """input between 0 and 6, elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.relu6(input)
        """
        return self._evaluate("relu6", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def rrelu(self, input: Any, lower: float = 0.125, upper: float = 0.3333333333333333, *,
              with_grad: Literal[False] = False, grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def rrelu(self, input: Any, lower: float = 0.125, upper: float = 0.3333333333333333, *, with_grad: Literal[True],
              grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def rrelu(self, input: Any, lower: float = 0.125, upper: float = 0.3333333333333333, *, with_grad: bool,
              grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def rrelu(self, input: Any, lower: float = 0.125, upper: float = 0.3333333333333333, *, with_grad: bool = False,
              grad: Any = None, timeout: Optional[float] = None) -> Any:
        """leaky_relu with the slope (lower + upper) / 2, as in evaluation.

        Arguments:
            input: any shape.
            lower: the least slope below 0 (0.125 by default).
            upper: the largest, at least lower (0.3333333333333333 by default).

        Returns the output.

        Example:
            output = client.rrelu(input)
        """
        return self._evaluate("rrelu", "output", {"input": input}, {"lower": lower, "upper": upper}, "input",
                              with_grad, grad, timeout)

    @overload
    def selu(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
             timeout: Optional[float] = None) -> One: ...

    @overload
    def selu(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def selu(self, input: Any, *, with_grad: bool, grad: Any = None,
             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def selu(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """1.0507 elu(input, 1.6733), elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.selu(input)
        """
        return self._evaluate("selu", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def siglip_loss(self, input: Any, target: Any, *, reduction: Literal["none", "mean", "sum", "batchmean"] = "mean",
                    scale: float = 1.0, bias: float = 0.0, with_grad: Literal[False] = False, grad: Any = None,
                    timeout: Optional[float] = None) -> One: ...

    @overload
    def siglip_loss(self, input: Any, target: Any, *, reduction: Literal["none", "mean", "sum", "batchmean"] = "mean",
                    scale: float = 1.0, bias: float = 0.0, with_grad: Union[Literal[True], Literal["input", "target"]],
                    grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def siglip_loss(self, input: Any, target: Any, *, reduction: Literal["none", "mean", "sum", "batchmean"] = "mean",
                    scale: float = 1.0, bias: float = 0.0, with_grad: Tuple[Literal["input", "target"], ...],
                    grad: Any = None, timeout: Optional[float] = None) -> Many: ...

    @overload
    def siglip_loss(self, input: Any, target: Any, *, reduction: Literal["none", "mean", "sum", "batchmean"] = "mean",
                    scale: float = 1.0, bias: float = 0.0, with_grad: bool, grad: Any = None,
                    timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def siglip_loss(self, input: Any, target: Any, *, reduction: Literal["none", "mean", "sum", "batchmean"] = "mean",
                    scale: float = 1.0, bias: float = 0.0, with_grad: Union[bool, str, Tuple[str, ...]] = False,
                    grad: Any = None, timeout: Optional[float] = None) -> Any:
        """-log sigmoid(target (scale input + bias)).

        Arguments:
            input: similarities of images (rows) and texts, any shape.
            target: 1 for a pair, -1 for none; broadcasts with input.
            reduction: none: a loss an element or row; mean; sum; batchmean: the sum over input's first size ("mean" by
                default).
            scale: what the similarities are multiplied by (1.0 by default).
            bias: what is added to them (0.0 by default).

        Gradients: of input, target; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.siglip_loss(input, target, with_grad=True)
        """
        return self._evaluate("siglip_loss", "loss", {"input": input, "target": target},
                              {"reduction": reduction, "scale": scale, "bias": bias}, "input", with_grad, grad,
                              timeout)

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
            input: any shape.

        Returns the output.

        Example:
            client.sigmoid(np.zeros(2, np.float32))  # array([0.5, 0.5], dtype=float32)
        """
        return self._evaluate("sigmoid", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def sigmoid_focal_loss(self, input: Any, target: Any, *, reduction: Reduction = "none", alpha: float = 0.25,
                           gamma: float = 2.0, with_grad: Literal[False] = False, grad: Any = None,
                           timeout: Optional[float] = None) -> One: ...

    @overload
    def sigmoid_focal_loss(self, input: Any, target: Any, *, reduction: Reduction = "none", alpha: float = 0.25,
                           gamma: float = 2.0, with_grad: Union[Literal[True], Literal["input", "target"]],
                           grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def sigmoid_focal_loss(self, input: Any, target: Any, *, reduction: Reduction = "none", alpha: float = 0.25,
                           gamma: float = 2.0, with_grad: Tuple[Literal["input", "target"], ...], grad: Any = None,
                           timeout: Optional[float] = None) -> Many: ...

    @overload
    def sigmoid_focal_loss(self, input: Any, target: Any, *, reduction: Reduction = "none", alpha: float = 0.25,
                           gamma: float = 2.0, with_grad: bool, grad: Any = None,
                           timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def sigmoid_focal_loss(self, input: Any, target: Any, *, reduction: Reduction = "none", alpha: float = 0.25,
                           gamma: float = 2.0, with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                           timeout: Optional[float] = None) -> Any:
        """binary cross entropy of sigmoid(input) times alpha_t (1 - p_t)^gamma.

        Arguments:
            input: logits, any shape.
            target: 0 or 1, or between; broadcasts with input.
            reduction: none: a loss an element or row; mean; sum ("none" by default).
            alpha: the weight of a target of 1, 1 - alpha that of 0; below 0: none (0.25 by default).
            gamma: how fast what is right stops to count (2.0 by default).

        Gradients: of input, target; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.sigmoid_focal_loss(input, target, with_grad=True)
        """
        return self._evaluate("sigmoid_focal_loss", "loss", {"input": input, "target": target},
                              {"reduction": reduction, "alpha": alpha, "gamma": gamma}, "input", with_grad, grad,
                              timeout)

    @overload
    def silu(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
             timeout: Optional[float] = None) -> One: ...

    @overload
    def silu(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def silu(self, input: Any, *, with_grad: bool, grad: Any = None,
             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def silu(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """input sigmoid(input), elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.silu(input)
        """
        return self._evaluate("silu", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def sinc(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
             timeout: Optional[float] = None) -> One: ...

    @overload
    def sinc(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def sinc(self, input: Any, *, with_grad: bool, grad: Any = None,
             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def sinc(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """sin(pi input) / (pi input), 1 at 0, elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.sinc(input)
        """
        return self._evaluate("sinc", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def smooth_l1_loss(self, input: Any, target: Any, reduction: Reduction = "mean", beta: float = 1.0, *,
                       with_grad: Literal[False] = False, grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def smooth_l1_loss(self, input: Any, target: Any, reduction: Reduction = "mean", beta: float = 1.0, *,
                       with_grad: Union[Literal[True], Literal["input", "target"]], grad: Any = None,
                       timeout: Optional[float] = None) -> Two: ...

    @overload
    def smooth_l1_loss(self, input: Any, target: Any, reduction: Reduction = "mean", beta: float = 1.0, *,
                       with_grad: Tuple[Literal["input", "target"], ...], grad: Any = None,
                       timeout: Optional[float] = None) -> Many: ...

    @overload
    def smooth_l1_loss(self, input: Any, target: Any, reduction: Reduction = "mean", beta: float = 1.0, *,
                       with_grad: bool, grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def smooth_l1_loss(self, input: Any, target: Any, reduction: Reduction = "mean", beta: float = 1.0, *,
                       with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                       timeout: Optional[float] = None) -> Any:
        """(x - y)^2 / (2 beta) below beta, else |x - y| - beta / 2.

        Arguments:
            input: any shape.
            target: broadcasts with input.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            beta: where the square ends; 0: the absolute difference alone (1.0 by default).

        Gradients: of input, target; `with_grad=True` gives that of input.

        Returns the loss.

        Example:
            loss, grad = client.smooth_l1_loss(input, target, with_grad=True)
        """
        return self._evaluate("smooth_l1_loss", "loss", {"input": input, "target": target},
                              {"reduction": reduction, "beta": beta}, "input", with_grad, grad, timeout)

    @overload
    def soft_margin_loss(self, input: Any, target: Any, reduction: Reduction = "mean", *,
                         with_grad: Literal[False] = False, grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def soft_margin_loss(self, input: Any, target: Any, reduction: Reduction = "mean", *, with_grad: Literal[True],
                         grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def soft_margin_loss(self, input: Any, target: Any, reduction: Reduction = "mean", *, with_grad: bool,
                         grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def soft_margin_loss(self, input: Any, target: Any, reduction: Reduction = "mean", *, with_grad: bool = False,
                         grad: Any = None, timeout: Optional[float] = None) -> Any:
        """log(1 + exp(-target input)), stable.

        Arguments:
            input: scores.
            target: 1 or -1; broadcasts to input.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Returns the loss.

        Example:
            loss, grad = client.soft_margin_loss(input, target, with_grad=True)
        """
        return self._evaluate("soft_margin_loss", "loss", {"input": input, "target": target}, {"reduction": reduction},
                              "input", with_grad, grad, timeout)

    @overload
    def softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: Literal[False] = False,
                grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: Literal[True], grad: Any = None,
                timeout: Optional[float] = None) -> Two: ...

    @overload
    def softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: bool, grad: Any = None,
                timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def softmax(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: bool = False, grad: Any = None,
                timeout: Optional[float] = None) -> Any:
        """exp(x) / sum(exp(x)) along dim.

        Arguments:
            input: any shape.
            dim: the dimension that sums to 1 (-1 by default).
            dtype: cast input to this first; integers need it.

        Returns the output.

        Example:
            client.softmax(np.zeros((2, 4), np.float32), dim=1)  # 0.25 everywhere
        """
        return self._evaluate("softmax", "output", {"input": input}, {"dim": dim, **given(dtype=dtype)}, "input",
                              with_grad, grad, timeout)

    @overload
    def softmax_focal_loss(self, input: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean",
                           ignore_index: int = -100, gamma: float = 2.0, with_grad: Literal[False] = False,
                           grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def softmax_focal_loss(self, input: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean",
                           ignore_index: int = -100, gamma: float = 2.0, with_grad: Literal[True], grad: Any = None,
                           timeout: Optional[float] = None) -> Two: ...

    @overload
    def softmax_focal_loss(self, input: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean",
                           ignore_index: int = -100, gamma: float = 2.0, with_grad: bool, grad: Any = None,
                           timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def softmax_focal_loss(self, input: Any, target: Any, weight: Any = None, *, reduction: Reduction = "mean",
                           ignore_index: int = -100, gamma: float = 2.0, with_grad: bool = False, grad: Any = None,
                           timeout: Optional[float] = None) -> Any:
        """-(1 - p)^gamma log(p), p = softmax(input)[target].

        Arguments:
            input: logits, (C), (N, C) or (N, C, d1, ..., dk).
            target: class indices: input without its classes, () or (1) for (C).
            weight: (C), of input's type.
            reduction: none: a loss an element or row; mean; sum ("mean" by default).
            ignore_index: targets of this value do not count (-100 by default).
            gamma: how much less certain rows count; 0: cross_entropy (2.0 by default).

        Returns the loss.

        Example:
            loss, grad = client.softmax_focal_loss(input, target, with_grad=True)
        """
        return self._evaluate("softmax_focal_loss", "loss", {"input": input, "target": target, "weight": weight},
                              {"reduction": reduction, "ignore_index": ignore_index, "gamma": gamma}, "input",
                              with_grad, grad, timeout)

    @overload
    def softmin(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: Literal[False] = False,
                grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def softmin(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: Literal[True], grad: Any = None,
                timeout: Optional[float] = None) -> Two: ...

    @overload
    def softmin(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: bool, grad: Any = None,
                timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def softmin(self, input: Any, dim: int = -1, dtype: Any = None, *, with_grad: bool = False, grad: Any = None,
                timeout: Optional[float] = None) -> Any:
        """exp(-x) / sum(exp(-x)) along dim.

        Arguments:
            input: any shape.
            dim: the dimension that sums to 1 (-1 by default).
            dtype: cast input to this first; integers need it.

        Returns the output.

        Example:
            output = client.softmin(input)
        """
        return self._evaluate("softmin", "output", {"input": input}, {"dim": dim, **given(dtype=dtype)}, "input",
                              with_grad, grad, timeout)

    @overload
    def softplus(self, input: Any, beta: float = 1.0, threshold: float = 20.0, *, with_grad: Literal[False] = False,
                 grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def softplus(self, input: Any, beta: float = 1.0, threshold: float = 20.0, *, with_grad: Literal[True],
                 grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def softplus(self, input: Any, beta: float = 1.0, threshold: float = 20.0, *, with_grad: bool, grad: Any = None,
                 timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def softplus(self, input: Any, beta: float = 1.0, threshold: float = 20.0, *, with_grad: bool = False,
                 grad: Any = None, timeout: Optional[float] = None) -> Any:
        """log(1 + exp(beta input)) / beta, elementwise.

        Arguments:
            input: any shape.
            beta: how sharp the bend is (1.0 by default).
            threshold: beta input above which the result is the input (20.0 by default).

        Returns the output.

        Example:
            output = client.softplus(input)
        """
        return self._evaluate("softplus", "output", {"input": input}, {"beta": beta, "threshold": threshold}, "input",
                              with_grad, grad, timeout)

    @overload
    def softshrink(self, input: Any, lambd: float = 0.5, *, with_grad: Literal[False] = False, grad: Any = None,
                   timeout: Optional[float] = None) -> One: ...

    @overload
    def softshrink(self, input: Any, lambd: float = 0.5, *, with_grad: Literal[True], grad: Any = None,
                   timeout: Optional[float] = None) -> Two: ...

    @overload
    def softshrink(self, input: Any, lambd: float = 0.5, *, with_grad: bool, grad: Any = None,
                   timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def softshrink(self, input: Any, lambd: float = 0.5, *, with_grad: bool = False, grad: Any = None,
                   timeout: Optional[float] = None) -> Any:
        """input nearer to 0 by lambd, elementwise.

        Arguments:
            input: any shape.
            lambd: by how much, at least 0 (0.5 by default).

        Returns the output.

        Example:
            output = client.softshrink(input)
        """
        return self._evaluate("softshrink", "output", {"input": input}, {"lambd": lambd}, "input", with_grad, grad,
                              timeout)

    @overload
    def softsign(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
                 timeout: Optional[float] = None) -> One: ...

    @overload
    def softsign(self, input: Any, *, with_grad: Literal[True], grad: Any = None,
                 timeout: Optional[float] = None) -> Two: ...

    @overload
    def softsign(self, input: Any, *, with_grad: bool, grad: Any = None,
                 timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def softsign(self, input: Any, *, with_grad: bool = False, grad: Any = None,
                 timeout: Optional[float] = None) -> Any:
        """input / (1 + |input|), elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.softsign(input)
        """
        return self._evaluate("softsign", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def tanh(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
             timeout: Optional[float] = None) -> One: ...

    @overload
    def tanh(self, input: Any, *, with_grad: Literal[True], grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def tanh(self, input: Any, *, with_grad: bool, grad: Any = None,
             timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def tanh(self, input: Any, *, with_grad: bool = False, grad: Any = None, timeout: Optional[float] = None) -> Any:
        """the hyperbolic tangent, elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.tanh(input)
        """
        return self._evaluate("tanh", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def tanhshrink(self, input: Any, *, with_grad: Literal[False] = False, grad: Any = None,
                   timeout: Optional[float] = None) -> One: ...

    @overload
    def tanhshrink(self, input: Any, *, with_grad: Literal[True], grad: Any = None,
                   timeout: Optional[float] = None) -> Two: ...

    @overload
    def tanhshrink(self, input: Any, *, with_grad: bool, grad: Any = None,
                   timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def tanhshrink(self, input: Any, *, with_grad: bool = False, grad: Any = None,
                   timeout: Optional[float] = None) -> Any:
        """input - tanh(input), elementwise.

        Arguments:
            input: any shape.

        Returns the output.

        Example:
            output = client.tanhshrink(input)
        """
        return self._evaluate("tanhshrink", "output", {"input": input}, {}, "input", with_grad, grad, timeout)

    @overload
    def threshold(self, input: Any, threshold: float, value: float, *, with_grad: Literal[False] = False,
                  grad: Any = None, timeout: Optional[float] = None) -> One: ...

    @overload
    def threshold(self, input: Any, threshold: float, value: float, *, with_grad: Literal[True], grad: Any = None,
                  timeout: Optional[float] = None) -> Two: ...

    @overload
    def threshold(self, input: Any, threshold: float, value: float, *, with_grad: bool, grad: Any = None,
                  timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def threshold(self, input: Any, threshold: float, value: float, *, with_grad: bool = False, grad: Any = None,
                  timeout: Optional[float] = None) -> Any:
        """input where above threshold, else value, elementwise.

        Arguments:
            input: any shape.
            threshold: where the input ends.
            value: the result up to there.

        Returns the output.

        Example:
            output = client.threshold(input, threshold=0.5, value=0.5)
        """
        return self._evaluate("threshold", "output", {"input": input}, {"threshold": threshold, "value": value},
                              "input", with_grad, grad, timeout)

    @overload
    def triplet_margin_loss(self, anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0,
                            eps: float = 1e-06, swap: bool = False, reduction: Reduction = "mean", *,
                            with_grad: Literal[False] = False, grad: Any = None,
                            timeout: Optional[float] = None) -> One: ...

    @overload
    def triplet_margin_loss(self, anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0,
                            eps: float = 1e-06, swap: bool = False, reduction: Reduction = "mean", *,
                            with_grad: Union[Literal[True], Literal["anchor", "positive", "negative"]],
                            grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def triplet_margin_loss(self, anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0,
                            eps: float = 1e-06, swap: bool = False, reduction: Reduction = "mean", *,
                            with_grad: Tuple[Literal["anchor", "positive", "negative"], ...], grad: Any = None,
                            timeout: Optional[float] = None) -> Many: ...

    @overload
    def triplet_margin_loss(self, anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0,
                            eps: float = 1e-06, swap: bool = False, reduction: Reduction = "mean", *, with_grad: bool,
                            grad: Any = None, timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def triplet_margin_loss(self, anchor: Any, positive: Any, negative: Any, margin: float = 1.0, p: float = 2.0,
                            eps: float = 1e-06, swap: bool = False, reduction: Reduction = "mean", *,
                            with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
                            timeout: Optional[float] = None) -> Any:
        """max(0, margin + d(anchor, positive) - d(anchor, negative)).

        Arguments:
            anchor: vectors along the last dimension; broadcasts with the others.
            positive: vectors along the last dimension; broadcasts with the others.
            negative: vectors along the last dimension; broadcasts with the others.
            margin: how much farther negatives are to be (1.0 by default).
            p: of the p-norm, infinities among them (2.0 by default).
            eps: added to the differences (1e-06 by default).
            swap: the negative's distance from the positive counts where it is smaller (False by default).
            reduction: none: a loss an element or row; mean; sum ("mean" by default).

        Gradients: of anchor, positive, negative; `with_grad=True` gives that of anchor.

        Returns the loss.

        Example:
            loss, (a, p, n) = client.triplet_margin_loss(x, y, z, with_grad=("anchor", "positive", "negative"))
        """
        return self._evaluate("triplet_margin_loss", "loss",
                              {"anchor": anchor, "positive": positive, "negative": negative},
                              {"margin": margin, "p": p, "eps": eps, "swap": swap, "reduction": reduction}, "anchor",
                              with_grad, grad, timeout)

    @overload
    def xlog1py(self, input: Any, other: Any, *, with_grad: Literal[False] = False, grad: Any = None,
                timeout: Optional[float] = None) -> One: ...

    @overload
    def xlog1py(self, input: Any, other: Any, *, with_grad: Union[Literal[True], Literal["input", "other"]],
                grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def xlog1py(self, input: Any, other: Any, *, with_grad: Tuple[Literal["input", "other"], ...], grad: Any = None,
                timeout: Optional[float] = None) -> Many: ...

    @overload
    def xlog1py(self, input: Any, other: Any, *, with_grad: bool, grad: Any = None,
                timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def xlog1py(self, input: Any, other: Any, *, with_grad: Union[bool, str, Tuple[str, ...]] = False,
                grad: Any = None, timeout: Optional[float] = None) -> Any:
        """input log(1 + other), 0 where input is 0.

        Arguments:
            input: any shape.
            other: broadcasts with input.

        Gradients: of input, other; `with_grad=True` gives that of input.

        Returns the output.

        Example:
            output = client.xlog1py(input, other)
        """
        return self._evaluate("xlog1py", "output", {"input": input, "other": other}, {}, "input", with_grad, grad,
                              timeout)

    @overload
    def xlogy(self, input: Any, other: Any, *, with_grad: Literal[False] = False, grad: Any = None,
              timeout: Optional[float] = None) -> One: ...

    @overload
    def xlogy(self, input: Any, other: Any, *, with_grad: Union[Literal[True], Literal["input", "other"]],
              grad: Any = None, timeout: Optional[float] = None) -> Two: ...

    @overload
    def xlogy(self, input: Any, other: Any, *, with_grad: Tuple[Literal["input", "other"], ...], grad: Any = None,
              timeout: Optional[float] = None) -> Many: ...

    @overload
    def xlogy(self, input: Any, other: Any, *, with_grad: bool, grad: Any = None,
              timeout: Optional[float] = None) -> Union[One, Two]: ...

    @documented
    def xlogy(self, input: Any, other: Any, *, with_grad: Union[bool, str, Tuple[str, ...]] = False, grad: Any = None,
              timeout: Optional[float] = None) -> Any:
        """input log(other), 0 where input is 0.

        Arguments:
            input: any shape.
            other: broadcasts with input.

        Gradients: of input, other; `with_grad=True` gives that of input.

        Returns the output.

        Example:
            output = client.xlogy(input, other)
        """
        return self._evaluate("xlogy", "output", {"input": input, "other": other}, {}, "input", with_grad, grad,
                              timeout)

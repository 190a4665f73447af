"""torch.nn.functional's functions, by its names and with its arguments."""

from __future__ import annotations

from ._activations import Activations
from ._functions_base import One, Reduction, Two, WithGrad, unwrap
from ._losses import Losses

__all__ = ["Functions", "Reduction", "WithGrad", "unwrap"]


class Functions(Activations[One, Two], Losses[One, Two]):
    """What both clients have. Names, arguments, shapes, types and results are torch's, save that `dim` defaults to
    -1; docs/functions.md has the formulas."""

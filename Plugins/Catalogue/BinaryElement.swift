import Glibc

/// One element of a binary loss: its loss and gradients in float64.
struct BinaryElement {
  /// The least denominator of binary_cross_entropy's gradient: torch holds its 1e-12 in float32, for
  /// float64 tensors too.
  private static let gradientFloor = Double(1e-12 as Float)

  var x: Double
  var y: Double
  var weight = 1.0
  var positive = 1.0
  var hasPositive = false
  /// What the gradients are multiplied by, apart from the weight.
  var scale = 1.0

  typealias Result = (loss: Double, gradient: Double, targetGradient: Double)

  @inline(__always)
  var ofProbability: Result {
    let loss = -(y * max(log(x), -100) + (1 - y) * max(log1p(-x), -100))
    let scale = scale * weight
    return (
      loss * weight, scale * (x - y) / max(x * (1 - x), BinaryElement.gradientFloor),
      scale * (log1p(-x) - log(x))
    )
  }

  /// (1 - y) x + (1 + (p - 1) y) softplus(-x), without the cancellation of its terms where x < 0.
  @inline(__always)
  var ofLogit: Result {
    let small = exp(-x.magnitude)
    let softplus = log1p(small)  // of -|x|
    let (high, low) = (1 / (1 + small), small / (1 + small))
    let factor = hasPositive ? 1 + (positive - 1) * y : 1
    let loss = factor * softplus + (x < 0 ? -x * (factor - (1 - y)) : (1 - y) * x)
    let (up, down) = x >= 0 ? (high, low) : (low, high)
    let ofTarget =
      hasPositive ? positive * (softplus + max(-x, 0)) - (softplus + max(x, 0)) : -x
    let scale = scale * weight
    return (loss * weight, scale * ((1 - y) * up - positive * y * down), scale * ofTarget)
  }

  func isExtreme(_ extremes: Extremes) -> Bool {
    extremes.contains(x) || extremes.contains(y) || extremes.contains(weight)
      || extremes.contains(positive) || extremes.contains(scale)
  }

  /// torch's operations in torch's order (aten/src/ATen/native/Loss.cpp).
  func ofExtremeLogit(_ round: Extremes) -> Result {
    var logarithm = round(logSigmoid(x))
    var gradient = round(logistic(x) - y)
    var ofTarget = -x
    if hasPositive {
      let share = round(positive * y)
      gradient = round(round(round(share + 1) - y) * logistic(x))
      gradient = round(gradient - share)
      ofTarget = round(round(logSigmoid(-x)) - round(positive * logarithm))
      logarithm = round(logarithm * round(round(round(positive - 1) * y) + 1))
    }
    let loss = round(round(round(1 - y) * x) - logarithm)
    return (
      round(loss * weight), round(round(gradient * scale) * weight),
      round(round(ofTarget * scale) * weight)
    )
  }
}

internal import CLossdLanes

/// x P(X <= x) for a standard normal X. Types: all. The value is within 4 ulp for any x, the slope within 4 ulp of the
/// larger of its terms; measured over samples by LossdKernelsTests. Hendrycks and Gimpel (2016).
enum Gelu: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (x, n) = (o.x, Normal(o.x))
    let isNegative = lanes_less(x, all(0))
    // torch's value of -infinity is no number. Lowered last, so that a denormal result is rounded once.
    let value = fma(n.liftedMoment, 0 - Format.unlift, lanes_pick(isNegative, x * 0, x))
    let below = lanes_pick(isNegative, n.liftedTail, Format.lifted - n.liftedTail)
    let slope = fma(x, n.liftedDensity, below) * Format.unlift
    return ElementResults(value, slope: slope)
  }
}

/// The same with P(X <= x) as sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3); torch's approximate='tanh'.
enum GeluTanh: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let x = o.x
    let twice: Scalar = 1.595_769_121_605_730_7  // 2 sqrt(2 / pi)
    let square = x * x
    let u = x * twice * fma(square, 0.044_715, all(1))
    let e = liftedExp(negativeMagnitude(u)) * Format.unlift
    let large = lanes_inverse(e + 1)  // sigmoid(|2 u|)
    let small = e * large
    let isNegative = lanes_less(u, all(0))
    let share = lanes_pick(isNegative, small, large)
    // e is 0 far out, where the square would be infinite.
    let slopeOfU = fma(lanes_smaller(square, all(Format.far)), 0.134_145, all(1)) * twice
    let slope = fma(x * small * large, slopeOfU, share)
    return ElementResults(x * share, slope: slope)
  }
}

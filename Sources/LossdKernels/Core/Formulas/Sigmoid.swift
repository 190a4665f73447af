internal import CLossdLanes

/// 1 / (1 + exp(-x)).
enum Sigmoid: ActivationFormula {
  /// Both terms are divided by 2^26 (float64: 2^60), so that neither overflows nor the inverse is denormal: the last
  /// multiplication rounds where the result is.
  @inline(__always)
  static func value(_ o: Operands) -> Lanes {
    // Beyond these bounds the result is 1, and 0.
    let upper = lanes_smaller(0 - o.x, all(Format.sigmoidMax))
    return lanes_inverse(loweredExp(lanes_larger(upper, all(Format.sigmoidMin))) + Format.unlift)
      * Format.unlift
  }

  /// The slope is e / (1 + e)^2 with e = exp(-|x|). The square is 1 + e (e + 2): the inverse of 1 + e, squared, would
  /// have its errors twice.
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let e = liftedExp(negativeMagnitude(o.x))
    let square = fma(e * Format.unlift, fma(e, Format.unlift, all(2)), all(1))
    let slope = e * lanes_inverse(square) * Format.unlift
    let large = lanes_inverse(fma(e, Format.unlift, all(1)))
    let small = e * large * Format.unlift
    let value = lanes_pick(lanes_less(o.x, all(0)), small, large)
    return ElementResults(value, slope: slope)
  }
}

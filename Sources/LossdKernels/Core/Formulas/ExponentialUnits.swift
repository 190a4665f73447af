// Activations with one exponential, written so that nothing overflows or cancels.
internal import CLossdLanes

/// x above 0, else a (exp(b x) - 1). Clevert, Unterthiner and Hochreiter (2015); with a of 1 / b Barron's CELU (2017).
enum Elu: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let isPositive = lanes_less(all(0), o.x)
    let z = o.x * o.b
    return ElementResults(
      lanes_pick(isPositive, o.x, o.a * expm1(z)),
      slope: lanes_pick(isPositive, all(1), o.a * o.b * exp(z)))
  }
}

/// Elu times a constant, such that mean 0 and variance 1 are kept. Klambauer et al. (2017).
enum Selu: ActivationFormula {
  private static var scale: Scalar { 1.050_700_987_355_480_5 }
  private static var negative: Scalar { 1.758_099_340_847_376_6 }  // scale times 1.6732632423543772

  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let isPositive = lanes_less(all(0), o.x)
    return ElementResults(
      lanes_pick(isPositive, o.x * scale, expm1(o.x) * negative),
      slope: lanes_pick(isPositive, all(scale), exp(o.x) * negative))
  }
}

/// x sigmoid(x). Its slope is sigmoid(x) (1 + x sigmoid(-x)).
enum Silu: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let s = Logistic(o.x)
    // Of a product with the small one the other factor comes first: an infinite x gives NaN, as torch's.
    let slope = fma(o.x * s.small, s.large, s.value)
    return ElementResults(s.times(o.x), slope: slope)
  }
}

/// x tanh(log(1 + exp(x))). Misra (2019). With e = exp(-|x|) and w = e (e + 2) the tangent is w / (w + 2) for x < 0, and
/// (1 + 2 e) / (1 + 2 e + 2 e^2) otherwise.
enum Mish: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let x = o.x
    let lifted = liftedExp(negativeMagnitude(x))
    let e = lifted * Format.unlift
    let isNegative = lanes_less(x, all(0))
    let w = e * (e + 2)
    let low = lanes_inverse(w + 2)
    let liftedTangent = lifted * (e + 2) * low
    let high = lanes_inverse(fma(e * (e + 1), 2, all(1)))
    let tangent = fma(e, 2, all(1)) * high
    let value = lanes_pick(isNegative, x * liftedTangent * Format.unlift, x * tangent)
    // The tangent's slope is 4 exp(x) (1 + exp(x)) / (w + 2)^2, in e of either sign.
    let part = lifted * (e + 1) * 4 * Format.unlift
    let rise = lanes_pick(isNegative, part * low * low, part * e * high * high)
    let slope = fma(x, rise, lanes_pick(isNegative, liftedTangent * Format.unlift, tangent))
    return ElementResults(value, slope: slope)
  }
}

/// log(1 + exp(a x)) / a; x where a x is above b. Exact where exp(a x) would overflow, too.
enum Softplus: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let z = o.x * o.a
    let s = Logistic(z)
    let isAbove = lanes_less(o.b, z)
    let value = (lanes_larger(z, all(0)) + log1p(s.e)) / o.a
    return ElementResults(
      lanes_pick(isAbove, o.x, value), slope: lanes_pick(isAbove, all(1), s.value))
  }
}

/// log(sigmoid(x)).
enum LogSigmoid: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let s = Logistic(o.x)
    return ElementResults(lanes_smaller(o.x, all(0)) - log1p(s.e), slope: s.complement)
  }
}

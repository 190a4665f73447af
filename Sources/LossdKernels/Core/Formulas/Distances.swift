// Losses of the difference of an input x and a target y. Types: all. Within 3 ulp of what the difference, rounded,
// gives.
internal import CLossdLanes

/// 1, 0 or -1; 0 of NaN.
@inline(__always)
private func sign(_ d: Lanes) -> Lanes {
  lanes_pick(lanes_less(all(0), d), all(1), lanes_pick(lanes_less(d, all(0)), all(-1), all(0)))
}

/// |x - y|.
enum AbsoluteError: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let d = o.x - o.y
    return ElementResults(magnitude(d), slope: sign(d), slopeOfY: 0 - sign(d))
  }
}

/// (x - y)^2.
enum SquaredError: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let d = o.x - o.y
    return ElementResults(d * d, slope: d + d, slopeOfY: (o.y - o.x) * 2)
  }
}

/// With d = x - y, d^2 / (2 a) for |d| < a, else |d| - a / 2: the Huber loss divided by a, which is not 0. Girshick (2015).
enum SmoothL1: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (d, beta) = (o.x - o.y, o.a)
    let size = magnitude(d)
    let ratio = d / beta
    let isNear = lanes_less(size, beta)
    let value = lanes_pick(isNear, d * ratio * 0.5, size - beta * 0.5)
    // NaN stays NaN.
    let slope = lanes_pick(isNear, ratio, lanes_pick(lanes_equal(d, d), sign(d), d))
    return ElementResults(value, slope: slope, slopeOfY: 0 - slope)
  }
}

/// With d = x - y, d^2 / 2 for |d| <= a, else a (|d| - a / 2). Huber (1964).
enum Huber: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (d, delta) = (o.x - o.y, o.a)
    let size = magnitude(d)
    let value = lanes_pick(
      lanes_at_least(delta, size), d * d * 0.5, delta * (size - delta * 0.5))
    let slope = lanes_smaller(lanes_larger(d, 0 - delta), delta)
    return ElementResults(value, slope: slope, slopeOfY: 0 - slope)
  }
}

/// log(cosh(x - y)), as log(1 + (exp(|d|) - 1)^2 / (2 exp(|d|))) where |d| + log(1 + exp(-2 |d|)) - log(2) would cancel.
enum LogCosh: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let d = o.x - o.y
    let size = magnitude(d)
    let rise = expm1(lanes_smaller(size, all(1)))
    let near = log1pOfAny(rise * rise / ((rise + 1) * 2))
    let far = size + (log1p(exp(size * -2)) - 0.693_147_180_559_945_3)
    let slope = tanh(d)
    return ElementResults(
      lanes_pick(lanes_less(size, all(1)), near, far), slope: slope, slopeOfY: 0 - slope)
  }
}

/// With d = y - x the larger of a d and b d, b = a - 1: the loss whose least mean is the a-quantile. Koenker and Bassett (1978).
enum Quantile: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let d = o.y - o.x
    let isBelow = lanes_less(d, all(0))
    let factor = lanes_pick(isBelow, o.b, o.a)
    let slope = lanes_pick(
      lanes_equal(d, all(0)), all(0), lanes_pick(lanes_equal(d, d), factor, d))
    return ElementResults(d * factor, slope: 0 - slope, slopeOfY: slope)
  }
}

/// With d = y - x and the variance v = max(z, a), (log(v) + d^2 / v) / 2; b other than 0: with log(2 pi) / 2. NaN where z is
/// below 0. The slope of z is that of v, as torch's. Nix and Weigend (1994).
enum Gaussian: ElementFormula {
  static var operandCount: Int { 3 }

  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let variance = lanes_pick(lanes_equal(o.z, o.z), larger(o.a, o.z), o.z)
    let d = o.x - o.y
    let ratio = d / variance
    let constant = lanes_pick(lanes_equal(o.b, all(0)), all(0), all(0.918_938_533_204_672_7))
    let value = (log(variance) + d * ratio) * 0.5 + constant
    let isNegative = lanes_less(o.z, all(0))
    return ElementResults(
      lanes_pick(isNegative, all(.nan), value), slope: ratio, slopeOfY: 0 - ratio,
      slopeOfZ: (all(1) / variance - ratio * ratio) * 0.5)
  }
}

/// max(0, a - z (x - y)) of two scores and a target of 1 where x is to be the larger, -1 where y. At the corner the slopes
/// are the line's. A difference that is no number has torch's slopes, of its mask times the line's.
enum MarginRanking: ElementFormula {
  static var operandCount: Int { 3 }

  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let d = o.x - o.y
    let rest = o.a - o.z * d
    let mask = lanes_pick(lanes_at_least(rest, all(0)), all(1), all(0))
    return ElementResults(
      lanes_pick(lanes_less(rest, all(0)), all(0), rest), slope: mask * (0 - o.z),
      slopeOfY: mask * o.z, slopeOfZ: mask * (0 - d))
  }
}

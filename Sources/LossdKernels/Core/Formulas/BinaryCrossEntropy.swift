internal import CLossdLanes

/// Binary cross entropy of a probability x and a target y, -(y max(log x, -100) + (1 - y) max(log(1 - x), -100)); NaN
/// where x or y is outside [0, 1].
enum BinaryCrossEntropy: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (x, y) = (o.x, o.y)
    let (near, far) = (log(x), log1pOfAny(0 - x))
    let (p, q) = (larger(all(-100), near), larger(all(-100), far))
    let loss = 0 - (y * p + (1 - y) * q)
    // False for NaN too.
    let isWithin =
      lanes_at_least(x, all(0)) & lanes_at_least(all(1), x) & lanes_at_least(y, all(0))
      & lanes_at_least(all(1), y)
    // torch's bound of the denominator, a float32 in all types.
    let floor = all(Scalar(Float(1e-12)))
    return ElementResults(
      lanes_pick(isWithin, loss, all(.nan)),
      slope: (x - y) * lanes_inverse(larger(floor, x * (1 - x))), slopeOfY: far - near)
  }
}

/// The same of the probability sigmoid(x).
enum BinaryLogits: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let s = LogitTerms(o.x, positive: o.y, negative: 1 - o.y)
    return ElementResults(s.linear + s.tail, slope: s.slope, slopeOfY: 0 - o.x)
  }
}

/// The same with z the weight of the positive term.
enum WeightedBinaryLogits: ElementFormula {
  static var operandCount: Int { 3 }

  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let s = LogitTerms(o.x, positive: o.z * o.y, negative: 1 - o.y)
    let near = s.tail + larger(all(0), 0 - o.x)
    let far = s.tail + larger(all(0), o.x)
    return ElementResults(
      fma(s.negative + s.positive, s.tail, s.linear), slope: s.slope, slopeOfY: o.z * near - far)
  }
}

/// With z the weight of the positive term, the loss is (1 - y) x + f softplus(-x) with f = 1 + (z - 1) y, computed as
/// (1 - y) + z y, which cancels nothing. For x < 0, where the terms cancel, the loss is z y (-x) + f log(1 + exp(x)).
/// The slope is (1 - y) sigmoid(x) - z y sigmoid(-x).
private struct LogitTerms {
  let positive: Lanes
  let negative: Lanes
  /// What grows with |x|.
  let linear: Lanes
  /// softplus(-|x|).
  let tail: Lanes
  let slope: Lanes

  @inline(__always)
  init(_ x: Lanes, positive: Lanes, negative: Lanes) {
    (self.positive, self.negative) = (positive, negative)
    let e = liftedExp(negativeMagnitude(x)) * Format.unlift
    let isNegative = lanes_less(x, all(0))
    linear = lanes_pick(isNegative, positive, negative) * magnitude(x)
    tail = log1p(e)
    let large = lanes_inverse(e + 1)  // sigmoid(|x|)
    let small = e * large
    let s = lanes_pick(isNegative, small, large)
    let t = lanes_pick(isNegative, large, small)
    slope = negative * s - positive * t
  }
}

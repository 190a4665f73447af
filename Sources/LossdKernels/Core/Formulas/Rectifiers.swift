// Activations of straight pieces, and those with a piece of x cut out. Exact but for one rounding; torch has at a corner
// the slope that is given here.
internal import CLossdLanes

/// max(0, x).
enum Relu: ActivationFormula {
  static var isMasked: Bool { true }

  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let slope = lanes_pick(lanes_at_least(all(0), o.x), all(0), all(1))
    return ElementResults(lanes_larger(o.x, all(0)), slope: slope)
  }
}

/// x between a and b.
enum HardTanh: ActivationFormula {
  static var isMasked: Bool { true }

  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let isWithin = lanes_less(o.a, o.x) & lanes_less(o.x, o.b)
    return ElementResults(
      lanes_smaller(lanes_larger(o.x, o.a), o.b), slope: one(where: isWithin, o.x))
  }
}

/// 1 or 0; NaN where x is.
@inline(__always)
private func one(where condition: Bits, _ x: Lanes) -> Lanes {
  lanes_pick(condition, all(1), lanes_pick(lanes_equal(x, x), all(0), x))
}

/// x above a, else b.
enum Threshold: ActivationFormula {
  static var isMasked: Bool { true }

  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let isBelow = lanes_at_least(o.a, o.x)
    return ElementResults(
      lanes_pick(isBelow, o.b, o.x), slope: lanes_pick(isBelow, all(0), all(1)))
  }
}

/// x above 0, else a x.
enum LeakyRelu: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let isPositive = lanes_less(all(0), o.x)
    return ElementResults(
      lanes_pick(isPositive, o.x, o.x * o.a), slope: lanes_pick(isPositive, all(1), o.a))
  }
}

/// x / 6 + 1 / 2 between 0 and 1.
enum HardSigmoid: ActivationFormula {
  static var isMasked: Bool { true }
  /// torch's slope, a float32 in all types.
  private static var sixth: Scalar { Scalar(Float(1) / 6) }

  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let value = lanes_smaller(lanes_larger(o.x + 3, all(0)), all(6)) / all(6)
    let isWithin = lanes_less(all(-3), o.x) & lanes_less(o.x, all(3))
    return ElementResults(value, slope: lanes_pick(isWithin, all(sixth), all(0)))
  }
}

/// x (x / 6 + 1 / 2 between 0 and 1).
enum HardSwish: ActivationFormula {
  static var isMasked: Bool { true }

  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let x = o.x
    let value = x * lanes_smaller(lanes_larger(x + 3, all(0)), all(6)) / all(6)
    let inside = x / all(3) + 0.5
    let slope = lanes_pick(
      lanes_at_least(all(-3), x), all(0), lanes_pick(lanes_at_least(x, all(3)), all(1), inside))
    return ElementResults(value, slope: slope)
  }
}

/// 0 from -a to a, x elsewhere.
enum HardShrink: ActivationFormula {
  static var isMasked: Bool { true }

  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let isInside = lanes_at_least(o.x, 0 - o.a) & lanes_at_least(o.a, o.x)
    let slope = lanes_pick(isInside, all(0), one(where: lanes_equal(o.x, o.x), o.x))
    return ElementResults(lanes_pick(isInside, all(0), o.x), slope: slope)
  }
}

/// x nearer to 0 by a; 0 from -a to a.
enum SoftShrink: ActivationFormula {
  static var isMasked: Bool { true }

  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (x, a) = (o.x, o.a)
    let (isAbove, isBelow) = (lanes_less(a, x), lanes_less(x, 0 - a))
    let value = lanes_pick(isAbove, x - a, lanes_pick(isBelow, x + a, x * 0))
    return ElementResults(value, slope: one(where: isAbove | isBelow, x))
  }
}

/// x above 0, else y x.
enum Prelu: PairActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let isPositive = lanes_less(all(0), o.x)
    return ElementResults(
      lanes_pick(isPositive, o.x, o.x * o.y), slope: lanes_pick(isPositive, all(1), o.y),
      slopeOfY: lanes_pick(isPositive, all(0), o.x))
  }
}

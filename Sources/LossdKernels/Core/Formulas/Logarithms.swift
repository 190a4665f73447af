// Elementary functions that people use beside activations.
internal import CLossdLanes

/// log(1 + x).
enum Log1p: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    ElementResults(log1pOfAny(o.x), slope: all(1) / (o.x + 1))
  }
}

/// exp(x) - 1.
enum Expm1: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    ElementResults(expm1(o.x), slope: exp(o.x))
  }
}

/// 2^x.
enum Exp2: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let value = exp2(o.x)
    return ElementResults(value, slope: value * 0.693_147_180_559_945_3)
  }
}

/// log(x / (1 - x)), of x no nearer to 0 and 1 than a; a < 0: of any x, NaN outside [0, 1]. With m the smaller of x and
/// 1 - x it is log(1 + |2 x - 1| / m), with the sign of 2 x - 1: m is exact, the difference rounded once, and nothing cancels
/// near 1/2. At most 3 ulp.
enum Logit: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let isClamped = lanes_at_least(o.a, all(0))
    // The lower bound is the first to count, as torch has it where an a above 1/2 makes it the larger.
    let inside = lanes_pick(
      lanes_less(o.x, o.a), o.a, lanes_pick(lanes_less(1 - o.a, o.x), 1 - o.a, o.x))
    let x = lanes_pick(isClamped, inside, o.x)
    let difference = x + x - 1
    let smaller = magnitude(lanes_pick(lanes_less(difference, all(0)), x, 1 - x))
    // The inverse of a denormal number may overflow: 2^tinyBits comes off it, and its logarithm on again.
    let isTiny = lanes_less(smaller, all(Format.smallestNormal))
    let m = lanes_pick(isTiny, smaller * Format.tiny, smaller)
    let size = log1pOfAny(magnitude(difference) / m)
    let value = lanes_pick(isTiny, size + Format.tinyBits * Format.ln2, size)
    let outside = lanes_less(x, all(0)) | lanes_less(all(1), x)
    let isInside = lanes_at_least(o.x, o.a) & lanes_at_least(1 - o.a, o.x)
    let slope = lanes_pick(outside, all(.nan), all(1) / (x * (1 - x)))
    return ElementResults(
      lanes_pick(outside, all(.nan), withSign(of: difference, value)),
      slope: lanes_pick(isClamped, lanes_pick(isInside, slope, all(0)), slope))
  }
}

/// -x log(x); 0 at 0, -infinity below.
enum Entropy: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let l = log(o.x)
    let value = lanes_pick(lanes_equal(o.x, all(0)), all(0), 0 - o.x * l)
    return ElementResults(
      lanes_pick(lanes_less(o.x, all(0)), all(-.infinity), value), slope: -1 - l)
  }
}

/// x log(y); 0 for x = 0, whatever y but NaN.
enum XLogY: PairActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let isZero = lanes_equal(o.x, all(0)) & lanes_equal(o.y, o.y)
    let l = log(o.y)
    let isMasked = lanes_equal(o.x, all(0)) & lanes_at_least(all(0), o.y)
    return ElementResults(
      lanes_pick(isZero, all(0), o.x * l), slope: lanes_pick(isMasked, all(0), l),
      slopeOfY: o.x / o.y)
  }
}

/// x log(1 + y); 0 for x = 0, whatever y but NaN.
enum XLog1pY: PairActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let isZero = lanes_equal(o.x, all(0)) & lanes_equal(o.y, o.y)
    let l = log1pOfAny(o.y)
    let isMasked = lanes_equal(o.x, all(0)) & lanes_at_least(all(-1), o.y)
    return ElementResults(
      lanes_pick(isZero, all(0), o.x * l), slope: lanes_pick(isMasked, all(0), l),
      slopeOfY: o.x / (o.y + 1))
  }
}

/// sin(pi x) / (pi x); 1 at 0. The slope is (cos(pi x) - sinc(x)) / x, below 1/2 its series.
enum Sinc: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let x = o.x
    let t = HalfTurns(x)
    let isZero = lanes_equal(x, all(0))
    let value = lanes_pick(isZero, all(1), t.sine / (x * 3.141_592_653_589_793))
    let z = x * x
    // (-1)^k pi^(2 k) 2 k / (2 k + 1)!, as many as count below x = 1/2.
    #if LOSSD_DOUBLE
      var p: Lanes = all(1.3217901389162304e-12)
      p = fma(p, z, -7.365893777096939e-11)
      p = fma(p, z, 3.433076949964284e-09)
      p = fma(p, z, -1.3148481279991983e-07)
      p = fma(p, z, 4.049947846619241e-06)
    #else
      var p: Lanes = all(4.049947846619241e-06)
    #endif
    p = fma(p, z, -9.766223126318928e-05)
    p = fma(p, z, 0.001781145516372851)
    p = fma(p, z, -0.023460810354558225)
    p = fma(p, z, 0.20918278254123832)
    p = fma(p, z, -1.144510944732505)
    p = fma(p, z, 3.246969701133414)
    p = fma(p, z, -3.289868133696453)
    let near = x * p
    let far = (t.cosine - value) / x
    return ElementResults(value, slope: lanes_pick(lanes_less(z, all(0x1p-2)), near, far))
  }
}

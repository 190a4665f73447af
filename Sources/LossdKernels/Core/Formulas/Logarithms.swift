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

/// log(x / (1 - x)), of x no nearer to 0 and 1 than a; a < 0: of any x, NaN outside [0, 1]. Near 1/2 it is
/// log(1 + (2 x - 1) / (1 - x)), which does not cancel.
enum Logit: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let isClamped = lanes_at_least(o.a, all(0))
    let inside = lanes_smaller(lanes_larger(o.x, o.a), 1 - o.a)
    let x = lanes_pick(isClamped, inside, o.x)
    let isMiddle = lanes_less(all(0.25), x) & lanes_less(x, all(0.75))
    let near = log1pOfAny((x + x - 1) / (1 - x))
    let far = log(x) - log1pOfAny(0 - x)
    let outside = lanes_less(x, all(0)) | lanes_less(all(1), x)
    let isInside = lanes_at_least(o.x, o.a) & lanes_at_least(1 - o.a, o.x)
    let slope = lanes_pick(outside, all(.nan), all(1) / (x * (1 - x)))
    return ElementResults(
      lanes_pick(isMiddle, near, far),
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

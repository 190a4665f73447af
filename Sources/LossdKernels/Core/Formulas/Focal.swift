// Losses of a logit x and a target y from 0 to 1 that weigh an element by how wrong it is.
internal import CLossdLanes

/// u^g for u from 0 to 1 and g at least 0, and g u^g, which is its derivative times u: exact squares for g = 2 and u itself
/// for g = 1, else at most 2 ulp more than |(g - n) log(u)| with n the whole number below g, 2 at most. A power of u
/// alone would lose what u^2 underflows to, and u^(g - 1) overflow.
private struct Modulation {
  let value: Lanes
  let rise: Lanes

  @inline(__always)
  init(_ u: Lanes, _ g: Lanes) {
    let square = u * u
    let (isBelowOne, isBelowTwo) = (lanes_less(g, all(1)), lanes_less(g, all(2)))
    let base = lanes_pick(isBelowOne, all(1), lanes_pick(isBelowTwo, u, square))
    let whole = lanes_pick(isBelowOne, all(0), lanes_pick(isBelowTwo, all(1), all(2)))
    let rest = base * exp((g - whole) * log(u))
    let (isZero, isOne) = (lanes_equal(g, all(0)), lanes_equal(g, all(1)))
    let isNone = lanes_equal(u, all(0))
    let power = lanes_pick(
      isOne, u, lanes_pick(lanes_equal(g, all(2)), square, lanes_pick(isNone, all(0), rest)))
    value = lanes_pick(isZero, all(1), power)
    rise = lanes_pick(isZero, all(0), g * power)
  }
}

/// a / u, 0 for u = 0.
@inline(__always)
private func share(_ a: Lanes, of u: Lanes) -> Lanes {
  lanes_pick(lanes_equal(u, all(0)), all(0), a / u)
}

/// With p = sigmoid(x), the binary cross entropy times (1 - p_t)^b, where 1 - p_t = y (1 - p) + (1 - y) p, and times
/// a y + c (1 - y), c = 1 - a, unless a is below 0. Lin et al. (2017), torchvision.ops.sigmoid_focal_loss.
enum SigmoidFocal: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (x, y) = (o.x, o.y)
    let s = Logistic(x)
    let (p, q) = (s.value, s.complement)
    // Terms of one sign, so that nothing cancels where a target lies between 0 and 1.
    let entropy = y * larger(all(0), 0 - x) + (1 - y) * larger(all(0), x) + log1p(s.e)
    let u = y * q + (1 - y) * p
    let m = Modulation(u, o.b)
    let isBalanced = lanes_at_least(o.a, all(0))
    let balance = lanes_pick(isBalanced, o.a * y + o.c * (1 - y), all(1))
    let balanceSlope = lanes_pick(isBalanced, o.a - o.c, all(0))
    // p - y, which would cancel.
    let difference = (1 - y) * p - y * q
    return ElementResults(
      balance * (entropy * m.value),
      slope: balance
        * (difference * m.value + entropy * (m.rise * (1 - y - y) * share(p * q, of: u))),
      slopeOfY: balance * (share(entropy, of: u) * m.rise * (q - p) - x * m.value)
        + balanceSlope * (entropy * m.value))
  }
}

/// With p = sigmoid(x) and m = max(p - c, 0), -(y log(max(p, d)) (1 - p)^b + (1 - y) log(max(1 - m, d)) m^a) for a target
/// of 0 or 1; between them the factor is (y (1 - p) + (1 - y) m)^(b y + a (1 - y)). Ridnik et al. (2021).
enum Asymmetric: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (x, y) = (o.x, o.y)
    let s = Logistic(x)
    let (p, q) = (s.value, s.complement)
    let isShifted = lanes_less(all(0), o.c)
    let floor = log(o.d)
    let tail = log1p(s.e)
    let rest = larger(all(0), p - o.c)
    // Without a shift 1 - m is 1 - p, whose logarithm cancels nothing.
    let positive = lanes_smaller(x, all(0)) - tail
    let negative = lanes_pick(
      isShifted, log1pOfAny(0 - rest), lanes_smaller(0 - x, all(0)) - tail)
    let (isPositiveOpen, isNegativeOpen) = (
      lanes_at_least(positive, floor), lanes_at_least(negative, floor)
    )
    let isOver = lanes_at_least(p, o.c)
    let rise = p * q
    let l = y * larger(floor, positive) + (1 - y) * larger(floor, negative)
    let over = lanes_pick(isOver, rise, all(0))
    let below = lanes_pick(isShifted, over / (1 - rest), p)
    let lSlope =
      y * lanes_pick(isPositiveOpen, q, all(0)) - (1 - y)
      * lanes_pick(isNegativeOpen, below, all(0))
    let u = y * q + (1 - y) * rest
    let m = Modulation(u, o.b * y + o.a * (1 - y))
    let uSlope = (1 - y) * over - y * rise
    return ElementResults(
      0 - l * m.value, slope: 0 - (lSlope * m.value + l * (m.rise * share(uSlope, of: u))))
  }
}

/// log(1 + exp(-y (a x + b))) of a similarity x and a target of 1 for a pair and -1 for none. Zhai et al. (2023).
enum PairwiseSigmoid: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let logit = fma(o.a, o.x, o.b)
    let z = o.y * logit
    let s = Logistic(z)
    return ElementResults(
      log1p(s.e) - lanes_smaller(z, all(0)), slope: 0 - o.y * o.a * s.complement,
      slopeOfY: 0 - logit * s.complement)
  }
}

/// x sigmoid(y).
enum Glu: PairActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let s = Logistic(o.y)
    return ElementResults(
      o.x * s.value, slope: s.value, slopeOfY: o.x * s.value * s.complement)
  }
}

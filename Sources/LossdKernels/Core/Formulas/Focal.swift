// Losses of a logit x and a target y from 0 to 1 that weigh an element by how wrong it is.
internal import CLossdLanes

/// u^g for u from 0 to 1 and g at least 0, and its derivative with respect to u: exact squares for g = 2 and u itself for
/// g = 1, else at most 2 ulp more than |(g - 2) log(u)|.
private struct Modulation {
  let value: Lanes
  let slope: Lanes

  @inline(__always)
  init(_ u: Lanes, _ g: Lanes) {
    let square = u * u
    let rest = square * exp((g - 2) * log(u))
    let (isZero, isOne) = (lanes_equal(g, all(0)), lanes_equal(g, all(1)))
    let isNone = lanes_equal(u, all(0))
    let power = lanes_pick(
      isOne, u, lanes_pick(lanes_equal(g, all(2)), square, lanes_pick(isNone, all(0), rest)))
    value = lanes_pick(isZero, all(1), power)
    let rise = lanes_pick(lanes_equal(g, all(2)), u, lanes_pick(isNone, all(0), power / u))
    slope = lanes_pick(isZero, all(0), lanes_pick(isOne, all(1), g * rise))
  }
}

/// With p = sigmoid(x), the binary cross entropy times (1 - p_t)^b, where 1 - p_t = y (1 - p) + (1 - y) p, and times
/// a y + (1 - a) (1 - y) unless a is below 0. Lin et al. (2017), torchvision.ops.sigmoid_focal_loss.
enum SigmoidFocal: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (x, y) = (o.x, o.y)
    let s = Logistic(x)
    let (p, q) = (s.value, s.complement)
    let entropy = larger(all(0), x) - x * y + log1p(s.e)
    let m = Modulation(y * q + (1 - y) * p, o.b)
    let isBalanced = lanes_at_least(o.a, all(0))
    let balance = lanes_pick(isBalanced, o.a * y + (1 - o.a) * (1 - y), all(1))
    let balanceSlope = lanes_pick(isBalanced, o.a + o.a - 1, all(0))
    let loss = entropy * m.value
    // p - y, which would cancel.
    let difference = (1 - y) * p - y * q
    return ElementResults(
      balance * loss,
      slope: balance * (difference * m.value + entropy * m.slope * ((1 - y - y) * (p * q))),
      slopeOfY: balance * (entropy * m.slope * (q - p) - x * m.value) + balanceSlope * loss)
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
    let m = Modulation(y * q + (1 - y) * rest, o.b * y + o.a * (1 - y))
    let uSlope = (1 - y) * over - y * rise
    return ElementResults(
      0 - l * m.value, slope: 0 - (lSlope * m.value + l * m.slope * uSlope))
  }
}

/// log(1 + exp(-y (a x + b))) of a similarity x and a target of 1 for a pair and -1 for none. Zhai et al. (2023).
enum PairwiseSigmoid: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let logit = o.a * o.x + o.b
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

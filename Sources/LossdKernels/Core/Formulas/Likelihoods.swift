internal import CLossdLanes

/// The Kullback-Leibler divergence's term y (log(y) - x) of a log-probability x and a probability y; 0 for y = 0 but where
/// x is infinite, as torch's.
enum Divergence: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let l = log(o.y)
    let entropy = lanes_pick(lanes_equal(o.y, all(0)), all(0), o.y * l)
    // torch's slope of y is no number at 0 and infinity: y / y.
    return ElementResults(
      entropy - o.y * o.x, slope: 0 - o.y, slopeOfY: l + o.y / o.y - o.x)
  }
}

/// The same of a log-probability y: exp(y) (y - x).
enum DivergenceOfLogs: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (p, d) = (exp(o.y), o.y - o.x)
    return ElementResults(p * d, slope: 0 - p, slopeOfY: p * (d + 1))
  }
}

/// The negative log-likelihood of a count y by a Poisson distribution of the mean exp(x): exp(x) - y x, without the
/// constant log(y!); b other than 0: with Stirling's approximation of it for y > 1.
enum PoissonOfLog: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let mean = exp(o.x)
    let s = Stirling(o.y, isWanted: o.b)
    return ElementResults(
      mean - o.y * o.x + s.value, slope: mean - o.y, slopeOfY: s.slope - o.x)
  }
}

/// The same of the mean x: x - y log(x + a).
enum Poisson: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let mean = o.x + o.a
    let l = log(mean)
    let s = Stirling(o.y, isWanted: o.b)
    return ElementResults(
      o.x - o.y * l + s.value, slope: 1 - o.y / mean, slopeOfY: s.slope - l)
  }
}

/// y log(y) - y + log(2 pi y) / 2 for y > 1, else 0.
private struct Stirling {
  let value: Lanes
  let slope: Lanes

  @inline(__always)
  init(_ y: Lanes, isWanted: Lanes) {
    // One number for the whole call.
    if !anyLane(lanes_not_equal(isWanted, all(0))) {
      (value, slope) = (all(0), all(0))
      return
    }
    let isOff = lanes_at_least(all(1), y)
    let l = log(y)
    // log(2 pi) / 2.
    let term = y * l - y + (l * 0.5 + 0.918_938_533_204_672_7)
    value = lanes_pick(isOff, all(0), term)
    // torch multiplies by its mask: what is no number stays none.
    let rise = l + (y / y - 1) + all(0.5) / y
    slope = lanes_pick(isOff, rise * 0, rise)
  }
}

/// log(1 + exp(-y x)) of a target of 1 or -1.
enum SoftMargin: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let z = o.y * o.x
    let s = Logistic(z)
    return ElementResults(
      log1p(s.e) - lanes_smaller(z, all(0)), slope: 0 - o.y * s.complement,
      slopeOfY: 0 - o.x * s.complement)
  }
}

/// x for a target of 1, max(0, a - x) for one of -1; both for any other.
enum HingeEmbedding: PairFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let rest = o.a - o.x
    let isPositive = lanes_equal(o.y, all(1))
    let isNegative = lanes_equal(o.y, all(-1))
    let hinge = lanes_pick(isPositive, all(0), lanes_larger(rest, all(0)))
    let linear = lanes_pick(isNegative, all(0), o.x)
    // At the corner the slope is the hinge's.
    let isHinge = lanes_pick(
      isPositive, all(0), lanes_pick(lanes_at_least(rest, all(0)), all(1), all(0)))
    let slope = lanes_pick(isNegative, all(0), all(1)) - isHinge
    return ElementResults(linear + hinge, slope: slope)
  }
}

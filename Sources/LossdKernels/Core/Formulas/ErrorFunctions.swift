internal import CLossdLanes

/// 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x: at most 4 ulp. Below 1 x times a polynomial of x^2; above, where
/// the tail is small, 1 - exp(p(|x|)) with a polynomial for the tail's logarithm (both scripts/polynomials.py).
enum Erf: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let x = o.x
    let size = magnitude(x)
    let tail = liftedExp(tailLogarithm(lanes_smaller(size, all(last)))) * Format.unlift
    let far = withSign(of: x, 1 - tail)
    let square = lanes_smaller(x * x, all(1))
    let near = fma(x, polynomial(square), x)
    let isNear = lanes_less(size, all(1))
    return ElementResults(
      lanes_pick(isNear, near, far),
      slope: Normal(ofErrorFunction: x).liftedDensity * (Format.unlift * 2))
  }

  /// From here on 1 - erf(x) is less than half an ulp of 1.
  private static var last: Scalar {
    #if LOSSD_DOUBLE
      return 6
    #else
      return 4
    #endif
  }

  /// log(1 - erf(x)) from 1 to `last`.
  @inline(__always)
  private static func tailLogarithm(_ x: Lanes) -> Lanes {
    #if LOSSD_DOUBLE
      var p: Lanes = all(-4.865489251257786e-12)
      p = fma(p, x, 2.0204909486107017e-10)
      p = fma(p, x, -3.89027547987522e-09)
      p = fma(p, x, 4.593606993851649e-08)
      p = fma(p, x, -3.6958688055283773e-07)
      p = fma(p, x, 2.1149173091590904e-06)
      p = fma(p, x, -8.579266856277464e-06)
      p = fma(p, x, 2.2534419322258348e-05)
      p = fma(p, x, -1.9526683924359524e-05)
      p = fma(p, x, -0.0001365485878534061)
      p = fma(p, x, 0.0007730344828340846)
      p = fma(p, x, -0.0019189352944357443)
      p = fma(p, x, 0.00041352697268807716)
      p = fma(p, x, 0.018988048784228297)
      p = fma(p, x, -0.10270229327055097)
      p = fma(p, x, -0.6366440538675693)
      p = fma(p, x, -1.1283739919804008)
      return fma(p, x, -5.132141367403974e-07)
    #else
      var p: Lanes = all(0x1.852d46p-13)
      p = fma(p, x, -0x1.814cd8p-9)
      p = fma(p, x, 0x1.654222p-6)
      p = fma(p, x, -0x1.a60a82p-4)
      p = fma(p, x, -0x1.46c584p-1)
      p = fma(p, x, -0x1.2085b2p+0)
      return fma(p, x, -0x1.72e6d4p-12)
    #endif
  }

  /// erf(x) / x - 1.
  @inline(__always)
  private static func polynomial(_ z: Lanes) -> Lanes {
    #if LOSSD_DOUBLE
      var p: Lanes = all(5.945259355765954e-11)
      p = fma(p, z, -1.1365664536141029e-09)
      p = fma(p, z, 1.465787947260993e-08)
      p = fma(p, z, -1.6350025167956496e-07)
      p = fma(p, z, 1.646097281192878e-06)
      p = fma(p, z, -1.4925593506578866e-05)
      p = fma(p, z, 0.00012055331036886998)
      p = fma(p, z, -0.0008548326978741869)
      p = fma(p, z, 0.005223977624780861)
      p = fma(p, z, -0.026866170645072893)
      p = fma(p, z, 0.11283791670954857)
      p = fma(p, z, -0.3761263890318375)
      p = fma(p, z, 0.12837916709551256)
    #else
      var p: Lanes = all(0x1.496a32p-14)
      p = fma(p, z, -0x1.a3f7p-11)
      p = fma(p, z, 0x1.5405b2p-8)
      p = fma(p, z, -0x1.b7f90ep-6)
      p = fma(p, z, 0x1.ce2cf8p-4)
      p = fma(p, z, -0x1.81273ep-2)
      p = fma(p, z, 0x1.06eba8p-3)
    #endif
    return p
  }
}

/// 1 - erf(x), without the difference where erf is near 1.
enum Erfc: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (x, n) = (o.x, Normal(ofErrorFunction: o.x))
    let tail = n.liftedTail * (Format.unlift * 2)
    return ElementResults(
      lanes_pick(lanes_less(x, all(0)), 2 - tail, tail),
      slope: n.liftedDensity * (Format.unlift * -2))
  }
}

/// P(X <= x) for a standard normal X.
enum NormalDistribution: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (x, n) = (o.x, Normal(o.x))
    let tail = n.liftedTail * Format.unlift
    return ElementResults(
      lanes_pick(lanes_less(x, all(0)), tail, 1 - tail), slope: n.liftedDensity * Format.unlift)
  }
}

/// log P(X <= x) for a standard normal X, and its slope, the density over P. Below 0 the exponential is kept out of both,
/// where P is 0 in the type.
enum LogNormalDistribution: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (x, n) = (o.x, Normal(o.x))
    let isNegative = lanes_less(x, all(0))
    let scaled = n.mills(x)
    let below = log(scaled) - x * x * 0.5
    let tail = n.liftedTail * Format.unlift
    let slope = lanes_pick(
      isNegative, all(0.398_942_280_401_432_7) / scaled + x * 0,
      n.liftedDensity * Format.unlift / (1 - tail))
    // torch's slope of -infinity is no number.
    return ElementResults(
      lanes_pick(isNegative, below, log1pOfAny(0 - tail)), slope: slope)
  }
}

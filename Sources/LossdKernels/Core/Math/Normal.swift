internal import CLossdLanes

/// The standard normal distribution at x: its tail P(X > |x|) and its density, each lifted as `liftedExp` is. Types:
/// both lanes. Range: every x; NaN stays NaN. Largest error: such that gelu is within 4 ulp, which LossdKernelsTests measures
/// over samples. Source: Shepherd and Laframboise (1981), whose polynomial in
/// (x - k) / (x + k) is fitted here to (1 + x) exp(x^2 / 2) P(X > x) by scripts/polynomials.py, of degree 10 for float32
/// and 24 for float64.
struct Normal {
  let liftedTail: Lanes
  let liftedDensity: Lanes
  /// exp(x^2 / 2) times the tail, up to |x| = xMax.
  let scaledTail: Lanes

  @inline(__always)
  init(_ x: Lanes) {
    // Beyond it the exponential is 0.
    let a = lanes_smaller(magnitude(x), all(Normal.xMax))
    self.init(a, argument: a, half: 0.5, peak: 0.398_942_280_401_432_7)  // 1 / sqrt(2 pi)
  }

  /// The tail beyond sqrt(2) |x|, which is erfc(|x|) / 2, and half of the slope of erf.
  @inline(__always)
  init(ofErrorFunction x: Lanes) {
    let sqrt2: Scalar = 1.414_213_562_373_095_1
    let a = lanes_smaller(magnitude(x), all(Normal.xMax / sqrt2))
    self.init(a, argument: a * sqrt2, half: 1, peak: 0.564_189_583_547_756_3)  // 1 / sqrt(pi)
  }

  /// `scaledTail` for every |x|: beyond xMax by the asymptotic series (Abramowitz and Stegun 26.2.12), whose terms end below
  /// half an ulp there.
  @inline(__always)
  func mills(_ x: Lanes) -> Lanes {
    let a = magnitude(x)
    // Neither is denormal.
    let r = lanes_inverse(lanes_smaller(lanes_larger(a, all(1)), all(0x1p100)))
    let z = r * r
    var p: Lanes = all(Normal.lastTerm)
    #if LOSSD_DOUBLE
      p = fma(p, z, -945)
      p = fma(p, z, 105)
    #endif
    p = fma(p, z, -15)
    p = fma(p, z, 3)
    p = fma(p, z, -1)
    let far = r * 0.398_942_280_401_432_7 * fma(p, z, all(1))
    return lanes_pick(lanes_less(all(Normal.xMax), a), far, scaledTail)
  }

  /// exp(-half a^2) times the polynomial of `argument`.
  @inline(__always)
  private init(_ a: Lanes, argument: Lanes, half: Scalar, peak: Scalar) {
    // Divisions, since they round once: gelu would be beyond 4 ulp now and then.
    let q = (argument - Normal.middle) / (argument + Normal.middle)
    let (large, small) = (lanes_larger(argument, all(1)), lanes_smaller(argument, all(1)))
    let sum = large + small
    scaledTail = Normal.polynomial(q) / sum
    // The square's rounding would be a^2 half ulp of the exponential: of half of the digits it is exact. What the sum
    // rounds away (Dekker's Fast2Sum) is taken off in the exponent, where that rounds nothing more.
    let high = lanes(bits(a) & Bits(repeating: Normal.highMask))
    let rest = (small - (sum - large)) * roughInverse(sum)
    let e = liftedExp(high * high * (0 - half), less: (a - high) * (a + high) * half + rest)
    liftedTail = e * scaledTail
    liftedDensity = e * peak
  }

  #if LOSSD_DOUBLE
    private static let xMax = 40.0
    private static let lastTerm = 10_395.0
    private static let middle = 6.0
    private static let highMask: Int64 = -1 << 27

    @inline(__always)
    private static func polynomial(_ q: Lanes) -> Lanes {
      var p: Lanes = all(-2.0908954364784884e-10)
      p = fma(p, q, -5.132763662416383e-10)
      p = fma(p, q, 1.920166742119621e-09)
      p = fma(p, q, 4.604051961090816e-09)
      p = fma(p, q, -1.5557154304314497e-08)
      p = fma(p, q, -2.2406502333301943e-08)
      p = fma(p, q, 1.3170068631679265e-07)
      p = fma(p, q, 1.557647043494735e-09)
      p = fma(p, q, -9.988464205332893e-07)
      p = fma(p, q, 1.7827376168186366e-06)
      p = fma(p, q, 4.411974227699304e-06)
      p = fma(p, q, -2.635300075860506e-05)
      p = fma(p, q, 3.779505195727509e-05)
      p = fma(p, q, 0.00011948955747548957)
      p = fma(p, q, -0.000868994698268776)
      p = fma(p, q, 0.002935655534405841)
      p = fma(p, q, -0.007059819416749377)
      p = fma(p, q, 0.013246864152248584)
      p = fma(p, q, -0.019766479220294803)
      p = fma(p, q, 0.022592467062891603)
      p = fma(p, q, -0.016141517332185357)
      p = fma(p, q, -0.004373386779596395)
      p = fma(p, q, 0.03981142456242966)
      p = fma(p, q, -0.0850253623057707)
      p = fma(p, q, 0.45345520027112796)
      return p
    }
  #else
    private static let xMax: Float = 15
    private static let lastTerm: Float = 105
    private static let middle: Float = 4
    private static let highMask: Int32 = -1 << 12

    @inline(__always)
    private static func polynomial(_ q: Lanes) -> Lanes {
      var p: Lanes = all(-0x1.2c5b26p-14)
      p = fma(p, q, -0x1.fcd12ep-15)
      p = fma(p, q, 0x1.6b1b6ap-11)
      p = fma(p, q, -0x1.3ebfcep-12)
      p = fma(p, q, -0x1.47f6bp-8)
      p = fma(p, q, 0x1.25ef2cp-6)
      p = fma(p, q, -0x1.07c288p-5)
      p = fma(p, q, 0x1.d494f2p-6)
      p = fma(p, q, 0x1.cabd18p-7)
      p = fma(p, q, -0x1.8c18fp-4)
      p = fma(p, q, 0x1.e361eap-2)
      return p
    }
  #endif
}

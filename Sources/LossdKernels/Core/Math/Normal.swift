internal import CLossdLanes

/// The standard normal distribution at x: its tail P(X > |x|) and its density, each lifted as `liftedExp` is. Types:
/// both lanes. Range: every x; NaN stays NaN. Largest error: 4 ulp of the tail and of |x| times the tail, which
/// LossdKernelsTests measures over samples. Source: Shepherd and Laframboise (1981), whose polynomial in
/// (x - k) / (x + k) is fitted here to (x + k) exp(x^2 / 2) P(X > x) by scripts/polynomials.py: in float64 of degree 26 with
/// k = 3, in float32 of degree 11 with k = 2 and in x / (x + k), which has no error near 0.
struct Normal {
  let liftedTail: Lanes
  let liftedDensity: Lanes
  /// |x| times the tail.
  let liftedMoment: Lanes
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

  /// exp(-half a^2) times the polynomial for `argument`.
  @inline(__always)
  private init(_ a: Lanes, argument: Lanes, half: Scalar, peak: Scalar) {
    let sum = argument + Normal.k
    // Divisions, since they round once: gelu would be beyond 4 ulp now and then.
    let ratio = argument / sum
    let p = Normal.polynomial(ratio)
    scaledTail = p / sum
    // The square's rounding would be a^2 half ulp of the exponential: what it leaves is taken off in the exponent.
    let square = a * a
    #if LOSSD_DOUBLE
      // So is what the sum rounds away (Dekker's Fast2Sum).
      let k = all(Normal.k)
      let (large, small) = (lanes_larger(argument, k), lanes_smaller(argument, k))
      let lost = (small - (sum - large)) * roughInverse(sum)
      let rest = fma(lost, 1 / half, lanes_square_rest(a, square))
    #else
      let rest = lanes_square_rest(a, square)
    #endif
    let e = liftedExp(square * (0 - half), less: rest, times: half)
    liftedTail = e * scaledTail
    liftedDensity = e * peak
    liftedMoment = e * (ratio * p)
  }

  #if LOSSD_DOUBLE
    private static let xMax = 40.0
    private static let lastTerm = 10_395.0
    private static let k = 3.0

    @inline(__always)
    private static func polynomial(_ v: Lanes) -> Lanes {
      let q = fma(v, 2, all(-1))
      var p: Lanes = all(7.468870463226418e-10)
      p = fma(p, q, 2.210722685586116e-09)
      p = fma(p, q, -2.385088698631565e-09)
      p = fma(p, q, -1.5811329171328217e-08)
      p = fma(p, q, -1.1216600045208026e-08)
      p = fma(p, q, 4.105885422420572e-08)
      p = fma(p, q, 9.731065161812312e-08)
      p = fma(p, q, 2.4943247055493817e-08)
      p = fma(p, q, -2.799813594837884e-07)
      p = fma(p, q, -5.804848164658069e-07)
      p = fma(p, q, 1.5203720353822098e-08)
      p = fma(p, q, 2.250261274388146e-06)
      p = fma(p, q, 3.635720774773596e-06)
      p = fma(p, q, -3.5154890860858994e-06)
      p = fma(p, q, -2.0687550449206693e-05)
      p = fma(p, q, -1.3246595038514094e-05)
      p = fma(p, q, 7.881230759825696e-05)
      p = fma(p, q, 0.00015439455883579337)
      p = fma(p, q, -0.00025657529516453923)
      p = fma(p, q, -0.0010458286324315374)
      p = fma(p, q, 0.001027592254972224)
      p = fma(p, q, 0.00697262124101785)
      p = fma(p, q, -0.010462867023141509)
      p = fma(p, q, -0.047263025142986054)
      p = fma(p, q, 0.23001771997460102)
      p = fma(p, q, -0.5093319819174894)
      return fma(p, q, 0.729083690133373)
    }
  #else
    private static let xMax: Float = 15
    private static let lastTerm: Float = 105
    private static let k: Float = 2

    @inline(__always)
    private static func polynomial(_ v: Lanes) -> Lanes {
      var p: Lanes = all(-0x1.173116p-3)
      p = fma(p, v, 0x1.30e3a2p-1)
      p = fma(p, v, -0x1.08cb34p+0)
      p = fma(p, v, 0x1.f6a108p-1)
      p = fma(p, v, -0x1.440928p-1)
      p = fma(p, v, 0x1.d9cc18p-3)
      p = fma(p, v, -0x1.317d66p-6)
      p = fma(p, v, 0x1.da297ep-4)
      p = fma(p, v, 0x1.588e74p-4)
      // The sum is smaller than its terms from here on.
      p = lanes_fma_once(p, v, all(-0x1.88301cp-3))
      p = lanes_fma_once(p, v, all(-0x1.3108bcp-1))
      return lanes_fma_once(p, v, all(1))
    }
  #endif
}

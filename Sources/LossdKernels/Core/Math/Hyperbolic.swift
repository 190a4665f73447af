internal import CLossdLanes

/// exp(x) - 1 for every x: at most 2 ulp; -1 at -infinity, NaN stays NaN. With x = n ln 2 + r as in exp, it is
/// 2^n (exp(r) - 1) + (2^n - 1), of which the last is exact; n = 0 loses nothing.
@inline(__always)
func expm1(_ value: Lanes) -> Lanes {
  // Beyond these the result is infinite, and -1.
  let x = lanes_larger(lanes_smaller(value, all(Format.expMax)), all(Format.expm1Min))
  let shifted = fma(x, Format.log2e, all(Format.magic))
  let q = expReduced(x, shifted - Format.magic)
  // Half of the power, which never overflows.
  let whole = bits(shifted) &- Bits(repeating: Format.magicBits)
  let half = lanes((whole &+ (Format.bias &- 1)) &<< Format.mantissaBits)
  let twice = fma(half, q, half - 0.5)
  // Keeps -0 and denormals.
  return lanes_pick(lanes_less(magnitude(x), all(Format.epsilon)), value, twice + twice)
}

/// The hyperbolic tangent for every x: at most 3 ulp; NaN stays NaN. With t = exp(-2 |x|) - 1 it is -t / (t + 2).
@inline(__always)
func tanh(_ x: Lanes) -> Lanes {
  let t = expm1(magnitude(x) * -2)
  return withSign(of: x, (0 - t) / (t + 2))
}

/// `size`, which is not negative, with the sign of x.
@inline(__always)
func withSign(of x: Lanes, _ size: Lanes) -> Lanes {
  lanes(bits(size) | (bits(x) & Bits(repeating: Word.min)))
}

/// sigmoid(x) and 1 - sigmoid(x) with e = exp(-|x|), each within 2 ulp; the smaller ones are lifted, so that a product
/// with them is rounded once where the result is denormal.
struct Logistic {
  /// exp(-|x|).
  let e: Lanes
  private let isNegative: Bits
  /// sigmoid(|x|).
  let large: Lanes
  /// sigmoid(-|x|), lifted.
  let liftedSmall: Lanes

  @inline(__always)
  init(_ x: Lanes) {
    let lifted = liftedExp(negativeMagnitude(x))
    e = lifted * Format.unlift
    isNegative = lanes_less(x, all(0))
    large = lanes_inverse(e + 1)
    liftedSmall = lifted * large
  }

  @inline(__always)
  var small: Lanes { liftedSmall * Format.unlift }
  @inline(__always)
  var value: Lanes { lanes_pick(isNegative, small, large) }
  @inline(__always)
  var complement: Lanes { lanes_pick(isNegative, large, small) }
  /// x sigmoid(x).
  @inline(__always)
  func times(_ x: Lanes) -> Lanes {
    lanes_pick(isNegative, x * liftedSmall * Format.unlift, x * large)
  }
}

// exp, log and log1p in vectors. Errors are of the result against the exact one; in float32 measured over
// every value by `make test-exhaustive`, in float64 over samples. Where a polynomial has no source, it is
// scripts/polynomials.py's.
internal import CLossdLanes

#if LOSSD_DOUBLE
  /// Numbers of float64: ln 2 in two parts, of which the first has 20 zero bits at its end.
  enum Format {
    static let magic = 6_755_399_441_055_744.0  // 1.5 * 2^52
    static let magicBits: Int64 = 0x4338_0000_0000_0000
    static let mantissaBits: Int64 = 52
    static let mantissaMask: Int64 = 0x000F_FFFF_FFFF_FFFF
    static let bias: Int64 = 1023
    static let sqrtHalfBits: Int64 = 0x3FE6_A09E_667F_3BCD
    static let expMin = -746.0
    /// Below it exp(x) - 1 is -1.
    static let expm1Min = -40.0
    static let expMax = 710.0
    /// Lifted exponentials are 2^60 times as large, so that none is denormal.
    static let lifted = 0x1p60
    static let unlift = 0x1p-60
    /// Times `unlift` it is the smallest normal number.
    static let smallestLifted = 0x1p-962
    static let liftedMagic = 6_755_399_441_055_744.0 + 1023 + 60
    static let loweredMagic = 6_755_399_441_055_744.0 + 1023 - 60
    /// sigmoid(-x) is 1 below the first and 0 above the second.
    static let sigmoidMin = -660.0
    static let sigmoidMax = 746.0
    static let log2e = 1.442_695_040_888_963_4
    /// 2^x overflows, and is less than half of the smallest denormal.
    static let exp2Max = 1024.0
    static let exp2Min = -1076.0
    static let ln2 = 0.693_147_180_559_945_3
    static let ln2High = 6.931_471_803_691_238_164_9e-01
    static let ln2Low = 1.908_214_929_270_587_700_02e-10
    static let smallestNormal = 0x1p-1022
    static let tiny = 0x1p54
    static let tinyBits = 54.0
    static let epsilon = 0x1p-53
    /// A distance beyond which the type's own arithmetic may overflow.
    static let far = 1e300
    /// `roughBits` less the bits of x are those of about 1 / x, up to `roughMax`.
    static let roughBits: Int64 = 0x7FDE_6238_22FC_16E6
    static let roughMax = 0x1p1000
  }
#else
  /// Numbers of float32: ln 2 in two parts, of which the first has few bits.
  enum Format {
    static let magic: Float = 12_582_912  // 1.5 * 2^23
    static let magicBits: Int32 = 0x4B40_0000
    static let mantissaBits: Int32 = 23
    static let mantissaMask: Int32 = 0x007F_FFFF
    static let bias: Int32 = 127
    static let sqrtHalfBits: Int32 = 0x3F35_04F3
    static let expMin: Float = -104
    /// Below it exp(x) - 1 is -1.
    static let expm1Min: Float = -20
    static let expMax: Float = 89
    /// Lifted exponentials are 2^26 times as large, so that none is denormal.
    static let lifted: Float = 0x1p26
    static let unlift: Float = 0x1p-26
    /// Times `unlift` it is the smallest normal number.
    static let smallestLifted: Float = 0x1p-100
    static let liftedMagic: Float = 12_582_912 + 127 + 26
    static let loweredMagic: Float = 12_582_912 + 127 - 26
    /// sigmoid(-x) is 1 below the first and 0 above the second.
    static let sigmoidMin: Float = -68
    static let sigmoidMax: Float = 104
    static let log2e: Float = 1.442_695_04
    /// 2^x overflows, and is less than half of the smallest denormal.
    static let exp2Max: Float = 128
    static let exp2Min: Float = -151
    static let ln2: Float = 0.693_147_18
    static let ln2High: Float = 0.693_359_375
    static let ln2Low: Float = -2.121_944_4e-4
    static let smallestNormal: Float = 0x1p-126
    static let tiny: Float = 0x1p25
    static let tinyBits: Float = 25
    static let epsilon: Float = 0x1p-24
    /// A distance beyond which the type's own arithmetic may overflow.
    static let far: Float = 1e30
    /// `roughBits` less the bits of x are those of about 1 / x, up to `roughMax`.
    static let roughBits: Int32 = 0x7EF3_11C7
    static let roughMax: Float = 0x1p100
  }
#endif

/// Whole numbers of small magnitude as floating-point ones.
@inline(__always)
func converted(_ value: Bits) -> Lanes {
  // Not by the standard library's conversion, a generic that would be specialised here.
  lanes(value &+ Bits(repeating: Format.magicBits)) - Format.magic
}

/// exp(x): at most 1.1 ulp, denormal results included; NaN stays NaN.
@inline(__always)
func exp(_ value: Lanes) -> Lanes {
  // Beyond these exp overflows, and is less than half of the smallest denormal.
  let x = lanes_larger(lanes_smaller(value, all(Format.expMax)), all(Format.expMin))
  let shifted = fma(x, Format.log2e, all(Format.magic))
  let mantissa = expReduced(x, shifted - Format.magic) + 1
  // 2^n in two factors, so that neither overflows nor a denormal is rounded twice.
  let whole = bits(shifted) &- Bits(repeating: Format.magicBits)
  let half = whole &>> 1
  let first = lanes((half &+ Format.bias) &<< Format.mantissaBits)
  let second = lanes((whole &- half &+ Format.bias) &<< Format.mantissaBits)
  return mantissa * first * second
}

/// exp(x) for x <= 0 or NaN, as after the subtraction of a maximum, lifted: at most 1.1 ulp.
@inline(__always)
func liftedExp(_ x: Lanes) -> Lanes {
  // The low bits of `shifted` are the exponent of the power, and its shift drops all others.
  let shifted = fma(x, Format.log2e, all(Format.liftedMagic))
  let q = expReduced(x, shifted - Format.liftedMagic)
  let power = lanes(bits(shifted) &<< Format.mantissaBits)
  // Below exp's range there is nothing in these bits, nor at -infinity.
  return lanes_pick(lanes_less(x, all(Format.expMin)), all(0), fma(q, power, power))
}

/// exp(x - factor rest), lifted, for such an x and a rest within the digits that x has not: at most 1.2 ulp.
@inline(__always)
func liftedExp(_ x: Lanes, less rest: Lanes, times factor: Scalar) -> Lanes {
  let shifted = fma(x, Format.log2e, all(Format.liftedMagic))
  let q = expReduced(x, shifted - Format.liftedMagic, less: rest, times: factor)
  let power = lanes(bits(shifted) &<< Format.mantissaBits)
  return lanes_pick(lanes_less(x, all(Format.expMin)), all(0), fma(q, power, power))
}

/// exp(x) divided by 2^26 (float64: 2^60), for x in sigmoidMin ... sigmoidMax: at most 1.1 ulp.
@inline(__always)
func loweredExp(_ x: Lanes) -> Lanes {
  let shifted = fma(x, Format.log2e, all(Format.loweredMagic))
  let q = expReduced(x, shifted - Format.loweredMagic)
  let power = lanes(bits(shifted) &<< Format.mantissaBits)
  return fma(q, power, power)
}

/// exp(x - n ln 2) - 1. Cody and Waite (1980): x = n ln 2 + r with |r| <= ln(2) / 2, ln 2 in two parts, of
/// which n times the first is exact; a polynomial, minimax in exp's relative error.
@inline(__always)
func expReduced(
  _ x: Lanes, _ n: Lanes, less rest: Lanes? = nil, times factor: Scalar = 0
) -> Lanes {
  var r = fma(n, -Format.ln2High, x)
  if let rest { r = fma(rest, 0 - factor, r) }
  r = fma(n, -Format.ln2Low, r)
  #if LOSSD_DOUBLE
    var p = all(2.497_839_975_357_398e-08)
    p = fma(p, r, 2.762_517_633_150_776e-07)
    p = fma(p, r, 2.755_764_073_597_260_7e-06)
    p = fma(p, r, 2.480_150_870_705_244_3e-05)
    p = fma(p, r, 0.000_198_412_694_664_316_2)
    p = fma(p, r, 0.001_388_888_892_677_842)
    p = fma(p, r, 0.008_333_333_333_499_915)
    p = fma(p, r, 0.041_666_666_666_604)
    p = fma(p, r, 0.166_666_666_666_664_33)
  #else
    var p: Lanes = all(0x1.6b6e4cp-10)
    p = fma(p, r, 0x1.122f7ap-7)
    p = fma(p, r, 0x1.555688p-5)
    p = fma(p, r, 0x1.5554a4p-3)
  #endif
  p = fma(p, r, 0.5)
  // r + r * r * p: the small terms first.
  return fma(p, r * r, r)
}

/// x = m 2^k with m in [sqrt(1/2), sqrt(2)), of a positive normal x.
@inline(__always)
func split(_ x: Lanes) -> (m: Lanes, k: Bits) {
  let shifted = bits(x) &- Bits(repeating: Format.sqrtHalfBits)
  let m = (shifted & Format.mantissaMask) &+ Bits(repeating: Format.sqrtHalfBits)
  return (lanes(m), shifted &>> Format.mantissaBits)
}

/// log(x) for finite x >= 1: at most 1 ulp.
@inline(__always)
func logOfAtLeastOne(_ x: Lanes) -> Lanes {
  let (m, k) = split(x)
  return logReduced(m - 1, converted(k))
}

/// log(x) for every x: at most 1 ulp; -infinity at zeros, NaN below them.
@inline(__always)
func log(_ x: Lanes) -> Lanes {
  // Denormals are scaled into the normal range first.
  let isTiny = lanes_less(x, all(Format.smallestNormal))
  let (m, whole) = split(lanes_pick(isTiny, x * Format.tiny, x))
  let k = converted(whole) - lanes_pick(isTiny, all(Format.tinyBits), all(0))
  return settled(logReduced(m - 1, k), x, pole: 0)
}

/// log(1 + x) for every x: at most 1 ulp, after fdlibm's s_log1p.c: 1 + x is rounded to u, and what that
/// lost is added as a term of its own, c / u.
@inline(__always)
func log1pOfAny(_ x: Lanes) -> Lanes {
  let u = x + 1
  let (m, whole) = split(u)
  let isNear = lane_bits_equal(whole, Bits(repeating: 0))
  let isLarge = lanes_less(all(1), x)
  // Where u is 0 or no number, what comes of it is replaced in the end.
  let lost = lanes_pick(isLarge, 1 - (u - x), x - (u - 1)) * roughInverse(u)
  let c = lanes_pick(isNear, all(0), lost)
  let f = lanes_pick(isNear, x, m - 1)
  let result = logReduced(f, converted(whole), c)
  // Keeps -0 and denormals.
  let isTiny = lanes_less(magnitude(x), all(Format.epsilon))
  return settled(lanes_pick(isTiny, x, result), x, pole: -1)
}

/// 1 / x for positive x, to 12 bits, for what is itself but a correction: what is left of a number when its digits are subtracted, and two steps of Newton's.
@inline(__always)
func roughInverse(_ x: Lanes) -> Lanes {
  let bounded = lanes_smaller(x, all(Format.roughMax))
  var y = lanes(Bits(repeating: Format.roughBits) &- bits(bounded))
  y = y * (2 - bounded * y)
  return y * (2 - bounded * y)
}

/// A logarithm's values at infinity, at its pole and below it, and of NaN.
@inline(__always)
private func settled(_ result: Lanes, _ x: Lanes, pole: Scalar) -> Lanes {
  var result = lanes_pick(lanes_equal(x, all(.infinity)), x, result)
  result = lanes_pick(lanes_at_least(x, all(pole)), result, all(.nan))
  return lanes_pick(lanes_equal(x, all(pole)), all(-.infinity), result)
}

/// log(1 + e) for e in [0, 1] or NaN: at most 1.2 ulp.
@inline(__always)
func log1p(_ e: Lanes) -> Lanes {
  #if LOSSD_DOUBLE
    // Above sqrt(2) - 1, as log(2) + log((1 + e) / 2).
    let isUpper = lanes_less(all(0.414_213_57), e)
    let f = lanes_pick(isUpper, (e - 1) * 0.5, e)
    return logReduced(f, lanes_pick(isUpper, all(1), all(0)))
  #else
    var q: Lanes = all(0x1.0fb4bep-9)
    q = fma(q, e, -0x1.bead58p-7)
    q = fma(q, e, 0x1.57e966p-5)
    q = fma(q, e, -0x1.54458ap-4)
    q = fma(q, e, 0x1.fea74cp-4)
    q = fma(q, e, -0x1.4a542ep-3)
    q = fma(q, e, 0x1.978278p-3)
    q = fma(q, e, -0x1.ffc42p-3)
    q = fma(q, e, 0x1.5553a6p-2)
    q = fma(q, e, -0x1.fffff8p-2)
    return fma(q, e * e, e)
  #endif
}

/// k log(2) + log(1 + f) + c for f in [sqrt(1/2) - 1, sqrt(2) - 1) and a small c.
@inline(__always)
private func logReduced(_ f: Lanes, _ k: Lanes, _ c: Lanes = all(0)) -> Lanes {
  #if LOSSD_DOUBLE
    // fdlibm's e_log.c: with s = f / (2 + f), log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + R(s^2)).
    let s = f * lanes_inverse(f + 2)
    let z = s * s
    var r = all(1.479_819_860_511_658_591e-01)
    r = fma(r, z, 1.531_383_769_920_937_332e-01)
    r = fma(r, z, 1.818_357_216_161_805_012e-01)
    r = fma(r, z, 2.222_219_843_214_978_396e-01)
    r = fma(r, z, 2.857_142_874_366_239_149e-01)
    r = fma(r, z, 3.999_999_999_940_941_908e-01)
    r = fma(r, z, 6.666_666_666_666_735_130e-01) * z
    let half = f * f * 0.5
    let low = fma(k, 1.908_214_929_270_587_700_02e-10, c) + s * (half + r)
    return fma(k, 6.931_471_803_691_238_164_9e-01, f - (half - low))
  #else
    var q: Lanes = all(-0x1.383022p-4)
    q = fma(q, f, 0x1.084866p-3)
    q = fma(q, f, -0x1.0f3766p-3)
    q = fma(q, f, 0x1.22719cp-3)
    q = fma(q, f, -0x1.54276ep-3)
    q = fma(q, f, 0x1.99a3f2p-3)
    q = fma(q, f, -0x1.000426p-2)
    q = fma(q, f, 0x1.55555p-2)
    q = fma(q, f, -0x1.fffff8p-2)
    let low = fma(q, f * f, fma(k, 9.058_000_6e-6, c))
    return fma(k, 0.693_138_12, f + low)
  #endif
}

/// 2^x for every x: at most 2 ulp, denormal results included; NaN stays NaN. As exp, with r = (x - n) ln 2.
@inline(__always)
func exp2(_ value: Lanes) -> Lanes {
  let x = lanes_larger(lanes_smaller(value, all(Format.exp2Max)), all(Format.exp2Min))
  let shifted = x + Format.magic
  let mantissa = expReduced((x - (shifted - Format.magic)) * Format.ln2, all(0)) + 1
  let whole = bits(shifted) &- Bits(repeating: Format.magicBits)
  let half = whole &>> 1
  let first = lanes((half &+ Format.bias) &<< Format.mantissaBits)
  let second = lanes((whole &- half &+ Format.bias) &<< Format.mantissaBits)
  return mantissa * first * second
}

// exp, log and log1p in vectors. Errors are of the result against the exact one; in float32 measured over
// every value by `make test-exhaustive`, in float64 over samples.

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
    static let expMax = 710.0
    /// exp's results are made this many powers of two too large and then scaled back.
    static let lift: Int64 = 600
    static let unlift = 0x1p-600
    static let log2e = 1.442_695_040_888_963_4
    static let ln2High = 6.931_471_803_691_238_164_9e-01
    static let ln2Low = 1.908_214_929_270_587_700_02e-10
    static let smallestNormal = 0x1p-1022
    static let tiny = 0x1p54
    static let tinyBits = 54.0
    static let epsilon = 0x1p-53
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
    static let expMax: Float = 89
    static let lift: Int32 = 100
    static let unlift: Float = 0x1p-100
    static let log2e: Float = 1.442_695_04
    static let ln2High: Float = 0.693_359_375
    static let ln2Low: Float = -2.121_944_4e-4
    static let smallestNormal: Float = 0x1p-126
    static let tiny: Float = 0x1p25
    static let tinyBits: Float = 25
    static let epsilon: Float = 0x1p-24
  }
#endif

/// Whole numbers of small magnitude as floating-point ones.
@inline(always)
func converted(_ value: Bits) -> Lanes {
  // Not by the standard library's conversion, a generic that would be specialised here.
  lanes(value &+ Bits(repeating: Format.magicBits)) - Format.magic
}

/// exp(x): at most 1.1 ulp, denormal results included; NaN stays NaN.
@inline(always)
func exp(_ value: Lanes) -> Lanes {
  // Beyond these exp overflows, and is less than half of the smallest denormal.
  var x = value.replacing(with: Format.expMax, where: value .> Format.expMax)
  x = x.replacing(with: Format.expMin, where: x .< Format.expMin)
  let (mantissa, shifted) = expParts(x)
  // 2^n in two factors, so that neither overflows nor a denormal is rounded twice.
  let whole = bits(shifted) &- Bits(repeating: Format.magicBits)
  let half = whole &>> 1
  let first = lanes((half &+ Format.bias) &<< Format.mantissaBits)
  let second = lanes((whole &- half &+ Format.bias) &<< Format.mantissaBits)
  return mantissa * first * second
}

/// exp(x) for x <= 0 or NaN, as after the subtraction of a maximum: as `exp`, in fewer steps.
@inline(always)
func expNonPositive(_ value: Lanes) -> Lanes {
  let (mantissa, shifted) = expParts(
    value.replacing(with: Format.expMin, where: value .< Format.expMin))
  // The shift drops all of the magic number's bits.
  let power =
    (bits(shifted) &<< Format.mantissaBits)
    &+ ((Format.bias &+ Format.lift) &<< Format.mantissaBits)
  return mantissa * lanes(power) * Format.unlift
}

/// Cody and Waite (1980): x = n ln 2 + r with |r| <= ln(2) / 2, ln 2 in two parts, of which n times the
/// first is exact; exp(r) by a polynomial, minimax in the relative error. n is in the low bits of `shifted`.
@inline(always)
private func expParts(_ x: Lanes) -> (mantissa: Lanes, shifted: Lanes) {
  // Adding 1.5 * 2^mantissaBits rounds to a whole number, which the low bits then hold.
  let shifted = fma(x, Format.log2e, Lanes(repeating: Format.magic))
  let n = shifted - Format.magic
  var r = fma(n, -Format.ln2High, x)
  r = fma(n, -Format.ln2Low, r)
  #if LOSSD_DOUBLE
    var p = Lanes(repeating: 2.510_038_549_551_032e-08)
    p = fma(p, r, 2.762_008_844_540_974_6e-07)
    p = fma(p, r, 2.755_726_845_999_706_4e-06)
    p = fma(p, r, 2.480_152_129_595_437_6e-05)
    p = fma(p, r, 0.000_198_412_698_630_536_18)
    p = fma(p, r, 0.001_388_888_891_721_371_7)
    p = fma(p, r, 0.008_333_333_333_330_062)
    p = fma(p, r, 0.041_666_666_666_624_13)
    p = fma(p, r, 0.166_666_666_666_666_69)
  #else
    var p = Lanes(repeating: 1.392_625_08e-3)
    p = fma(p, r, 8.363_232_88e-3)
    p = fma(p, r, 4.166_655_42e-2)
    p = fma(p, r, 1.666_657_67e-1)
  #endif
  p = fma(p, r, 0.5)
  // exp(r) = 1 + (r + r * r * p): the small terms first.
  return (fma(p, r * r, r) + 1, shifted)
}

/// log(x) for finite x >= 1: at most 1 ulp.
@inline(always)
func logOfAtLeastOne(_ x: Lanes) -> Lanes {
  // x = m * 2^k with m in [sqrt(1/2), sqrt(2)).
  let shifted = bits(x) &- Bits(repeating: Format.sqrtHalfBits)
  let m = lanes((shifted & Format.mantissaMask) &+ Bits(repeating: Format.sqrtHalfBits))
  return logReduced(m - 1, converted(shifted &>> Format.mantissaBits))
}

/// log(x) for every x: at most 1 ulp; -infinity at zeros, NaN below them.
@inline(always)
func log(_ x: Lanes) -> Lanes {
  // Denormals are scaled into the normal range first.
  let isTiny = x .< Format.smallestNormal
  let scaled = x.replacing(with: x * Format.tiny, where: isTiny)
  let shifted = bits(scaled) &- Bits(repeating: Format.sqrtHalfBits)
  let m = lanes((shifted & Format.mantissaMask) &+ Bits(repeating: Format.sqrtHalfBits))
  var k = converted(shifted &>> Format.mantissaBits)
  k = k.replacing(with: k - Format.tinyBits, where: isTiny)
  var result = logReduced(m - 1, k)
  result = result.replacing(with: x, where: x .>= Lanes(repeating: .infinity))
  result = result.replacing(with: .nan, where: .!(x .>= 0))
  return result.replacing(with: -.infinity, where: x .== 0)
}

/// log(1 + e) for e in [0, 1] or NaN: at most 1 ulp.
@inline(always)
func log1p(_ e: Lanes) -> Lanes {
  // Above sqrt(2) - 1, as log(2) + log((1 + e) / 2).
  let isUpper = e .> 0.414_213_57
  let f = e.replacing(with: (e - 1) * 0.5, where: isUpper)
  let k = Lanes(repeating: 0).replacing(with: 1, where: isUpper)
  return logReduced(f, k)
}

/// log(1 + x) for every x: at most 1 ulp, after fdlibm's s_log1p.c: 1 + x is rounded to u, and what that
/// lost is added as a term of its own, c / u.
@inline(always)
func log1pOfAny(_ x: Lanes) -> Lanes {
  let u = 1 + x
  let shifted = bits(u) &- Bits(repeating: Format.sqrtHalfBits)
  let whole = shifted &>> Format.mantissaBits
  let m = lanes((shifted & Format.mantissaMask) &+ Bits(repeating: Format.sqrtHalfBits))
  let isNear = whole .== Bits(repeating: 0)
  let lost = (x - (u - 1)).replacing(with: 1 - (u - x), where: x .> 1) / u
  let c = lost.replacing(with: 0, where: isNear)
  let f = (m - 1).replacing(with: x, where: isNear)
  let k = converted(whole)
  let s = f / (f + 2)
  let half = 0.5 * f * f
  let low = fma(k, Log.low, c) + s * (half + Log.tail(s * s))
  var result = fma(k, Log.high, f - (half - low))
  // Keeps -0 and denormals.
  result = result.replacing(with: x, where: magnitude(x) .< Format.epsilon)
  result = result.replacing(with: x, where: x .>= Lanes(repeating: .infinity))
  result = result.replacing(with: .nan, where: .!(x .>= -1))
  return result.replacing(with: -.infinity, where: x .== -1)
}

/// k log(2) + log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1), after fdlibm's e_log.c: with
/// s = f / (2 + f), log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + R(s^2)).
@inline(always)
private func logReduced(_ f: Lanes, _ k: Lanes) -> Lanes {
  let s = f / (f + 2)
  let half = 0.5 * f * f
  let low = fma(k, Log.low, s * (half + Log.tail(s * s)))
  return fma(k, Log.high, f - (half - low))
}

/// fdlibm's R, by Horner's rule, and its two parts of log(2).
private enum Log {
  #if LOSSD_DOUBLE
    static let high = 6.931_471_803_691_238_164_9e-01
    static let low = 1.908_214_929_270_587_700_02e-10

    @inline(always)
    static func tail(_ z: Lanes) -> Lanes {
      var r = Lanes(repeating: 1.479_819_860_511_658_591e-01)
      r = fma(r, z, 1.531_383_769_920_937_332e-01)
      r = fma(r, z, 1.818_357_216_161_805_012e-01)
      r = fma(r, z, 2.222_219_843_214_978_396e-01)
      r = fma(r, z, 2.857_142_874_366_239_149e-01)
      r = fma(r, z, 3.999_999_999_940_941_908e-01)
      return fma(r, z, 6.666_666_666_666_735_130e-01) * z
    }
  #else
    static let high: Float = 0.693_138_12
    static let low: Float = 9.058_000_6e-6

    @inline(always)
    static func tail(_ z: Lanes) -> Lanes {
      var r = Lanes(repeating: 0.233_329_128)
      r = fma(r, z, 0.285_507_308)
      r = fma(r, z, 0.400_001_226)
      return fma(r, z, 0.666_666_666) * z
    }
  #endif
}

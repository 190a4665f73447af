// exp, log and log1p in float32 vectors. Errors are of the result against the exact one, measured over
// every float32 by `make test-exhaustive`.

/// exp(x): at most 1 ulp (2 without fused multiply-add), denormal results included; NaN stays NaN.
///
/// Cody and Waite (1980): x = n ln 2 + r with |r| <= ln(2) / 2, ln 2 in two parts of which the first
/// has few bits, so that n times it is exact; exp(r) by a polynomial of degree 6, minimax in the
/// relative error; 2^n in two factors, so that neither overflows nor a denormal is rounded twice.
@inline(__always)
func exp(_ value: Lanes) -> Lanes {
  // exp(89) overflows and exp(-104) is less than half of the smallest denormal.
  var x = value.replacing(with: 89, where: value .> 89)
  x = x.replacing(with: -104, where: x .< -104)
  return expReduced(x)
}

/// exp(x) for x <= 0 or NaN, as after the subtraction of a maximum.
@inline(__always)
func expNonPositive(_ value: Lanes) -> Lanes {
  expReduced(value.replacing(with: -104, where: value .< -104))
}

@inline(__always)
private func expReduced(_ x: Lanes) -> Lanes {
  // Adding 1.5 * 2^23 rounds to a whole number, which the low bits then hold.
  let shifted = fma(x, 1.442_695_04, Lanes(repeating: 12_582_912))
  let n = shifted - 12_582_912
  var r = fma(n, -0.693_359_375, x)
  r = fma(n, 2.121_944_4e-4, r)
  var p = Lanes(repeating: 1.392_625_08e-3)
  p = fma(p, r, 8.363_232_88e-3)
  p = fma(p, r, 4.166_655_42e-2)
  p = fma(p, r, 1.666_657_67e-1)
  p = fma(p, r, 5e-1)
  // exp(r) = 1 + (r + r * r * p): the small terms first.
  p = fma(p, r * r, r) + 1
  let whole = bits(shifted) &- 0x4B40_0000
  let half = whole &>> 1
  let first = lanes((half &+ 127) &<< 23)
  let second = lanes((whole &- half &+ 127) &<< 23)
  return p * first * second
}

/// log(x) for finite x >= 1: at most 1 ulp.
@inline(__always)
func logOfAtLeastOne(_ x: Lanes) -> Lanes {
  // x = m * 2^k with m in [sqrt(1/2), sqrt(2)).
  let shifted = bits(x) &- 0x3F35_04F3
  let k = shifted &>> 23
  let m = lanes((shifted & 0x007F_FFFF) &+ 0x3F35_04F3)
  return logReduced(m - 1, converted(k))
}

/// log(x) for x in [0, 1], denormal ones included; 0 gives less than -100.
@inline(__always)
func logOfProbability(_ value: Lanes) -> Lanes {
  let isTiny = value .< 1.2e-38
  let x = value.replacing(with: value * 33_554_432, where: isTiny)  // 2^25
  let shifted = bits(x) &- 0x3F35_04F3
  let k = converted(shifted &>> 23)
  let m = lanes((shifted & 0x007F_FFFF) &+ 0x3F35_04F3)
  return logReduced(m - 1, k.replacing(with: k - 25, where: isTiny))
}

/// log(1 - x) for x in [0, 1]; 1 gives less than -80.
@inline(__always)
func logOfComplement(_ x: Lanes) -> Lanes {
  // Up to 0.29 the argument of log1p itself; above, 1 - x is exact or nearly so.
  let isSmall = x .< 0.29
  let u = 1 - x
  let shifted = bits(u) &- 0x3F35_04F3
  let k = converted(shifted &>> 23)
  let m = lanes((shifted & 0x007F_FFFF) &+ 0x3F35_04F3)
  return logReduced(
    (m - 1).replacing(with: -x, where: isSmall), k.replacing(with: 0, where: isSmall))
}

/// log(1 + e) for e in [0, 1] or NaN: at most 1 ulp.
@inline(__always)
func log1p(_ e: Lanes) -> Lanes {
  // Above sqrt(2) - 1, as log(2) + log((1 + e) / 2).
  let isUpper = e .> 0.414_213_57
  let f = e.replacing(with: (e - 1) * 0.5, where: isUpper)
  let k = Lanes(repeating: 0).replacing(with: 1, where: isUpper)
  return logReduced(f, k)
}

/// k log(2) + log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1), after fdlibm's e_log.c: with
/// s = f / (2 + f), log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + R(s^2)).
@inline(__always)
private func logReduced(_ f: Lanes, _ k: Lanes) -> Lanes {
  let s = f / (f + 2)
  let z = s * s
  var r = Lanes(repeating: 0.233_329_128)
  r = fma(r, z, 0.285_507_308)
  r = fma(r, z, 0.400_001_226)
  r = fma(r, z, 0.666_666_666) * z
  let half = 0.5 * f * f
  let low = fma(k, 9.058_000_6e-6, s * (half + r))
  return fma(k, 0.693_138_12, f - (half - low))
}

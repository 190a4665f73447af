internal import CLossdLanes

/// The hyperbolic tangent. Its slope is 4 e / (1 + e)^2 with e = exp(-2 |x|).
enum Tanh: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let s = Logistic(o.x * 2)
    return ElementResults(tanh(o.x), slope: s.liftedSmall * s.large * (Format.unlift * 4))
  }
}

/// x - tanh(x); below 1, where the difference cancels, x^3 times a polynomial of x^2 (scripts/polynomials.py).
enum Tanhshrink: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let (x, t) = (o.x, tanh(o.x))
    let square = lanes_smaller(x * x, all(1))
    let near = x * square * polynomial(square)
    let isNear = lanes_less(magnitude(x), all(1))
    return ElementResults(lanes_pick(isNear, near, x - t), slope: t * t)
  }

  @inline(__always)
  private static func polynomial(_ z: Lanes) -> Lanes {
    #if LOSSD_DOUBLE
      var p: Lanes = all(-2.516044111679177e-08)
      p = fma(p, z, 2.633484812544649e-07)
      p = fma(p, z, -1.3793194780089324e-06)
      p = fma(p, z, 4.988038240586998e-06)
      p = fma(p, z, -1.4606501923741895e-05)
      p = fma(p, z, 3.838995147852581e-05)
      p = fma(p, z, -9.646300517211178e-05)
      p = fma(p, z, 0.00023895716105748114)
      p = fma(p, z, -0.0005899793319214528)
      p = fma(p, z, 0.0014558247011305003)
      p = fma(p, z, -0.0035921266808673744)
      p = fma(p, z, 0.008863235404741142)
      p = fma(p, z, -0.02186948852913974)
      p = fma(p, z, 0.05396825396804674)
      p = fma(p, z, -0.13333333333333092)
      p = fma(p, z, 0.3333333333333333)
    #else
      var p: Lanes = all(-0x1.2b8604p-13)
      p = fma(p, z, 0x1.e43cbap-11)
      p = fma(p, z, -0x1.a45782p-9)
      p = fma(p, z, 0x1.1d03b4p-7)
      p = fma(p, z, -0x1.65a7eap-6)
      p = fma(p, z, 0x1.ba118p-5)
      p = fma(p, z, -0x1.1110f2p-3)
      p = fma(p, z, 0x1.555556p-2)
    #endif
    return p
  }
}

/// x / (1 + |x|).
enum Softsign: ActivationFormula {
  @inline(__always)
  static func results(_ o: Operands) -> ElementResults {
    let inverse = all(1) / (magnitude(o.x) + 1)
    // torch's own terms are no number at infinities.
    return ElementResults(
      o.x / (magnitude(o.x) + 1), slope: fma(o.x, 0, inverse * inverse))
  }
}

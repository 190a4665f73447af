internal import CLossdLanes

/// sin(pi x) and cos(pi x): each within 3 ulp of itself, or of 1e-7 (float64: 1e-16) near its zeros other than 0, which
/// are exact. Range: every x; from 2^22 (2^51) on x is a whole number or nearly so, and the sine 0; NaN of infinities.
/// Source: with x = n + r, |r| <= 1/2, Taylor's series of r, whose
/// terms pi^k / k! are below half an ulp from the 8th on, in float64 from the 13th on, with the sign of n's last bit.
struct HalfTurns {
  let sine: Lanes
  let cosine: Lanes

  @inline(__always)
  init(_ x: Lanes) {
    let isFar = lanes_less(all(HalfTurns.wholeFrom), magnitude(x))
    let near = lanes_pick(isFar, x * 0, x)
    let shifted = near + Format.magic
    let r = near - (shifted - Format.magic)
    // The last bit of n to the sign's place.
    let sign = bits(shifted) &<< HalfTurns.signShift
    let z = r * r
    var s: Lanes = all(HalfTurns.lastSine)
    var c: Lanes = all(HalfTurns.lastCosine)
    #if LOSSD_DOUBLE
      s = fma(s, z, -2.2948428997269873e-08)
      s = fma(s, z, 7.952054001475513e-07)
      s = fma(s, z, -2.1915353447830217e-05)
      s = fma(s, z, 0.00046630280576761255)
      c = fma(c, z, 3.604730797462501e-09)
      c = fma(c, z, -1.3878952462213771e-07)
      c = fma(c, z, 4.303069587032947e-06)
      c = fma(c, z, -0.0001046381049248457)
      c = fma(c, z, 0.0019295743094039231)
    #endif
    s = fma(s, z, -0.0073704309457143504)
    s = fma(s, z, 0.08214588661112823)
    s = fma(s, z, -0.5992645293207921)
    s = fma(s, z, 2.5501640398773455)
    s = fma(s, z, -5.16771278004997)
    c = fma(c, z, -0.02580689139001406)
    c = fma(c, z, 0.2353306303588932)
    c = fma(c, z, -1.3352627688545895)
    c = fma(c, z, 4.0587121264167685)
    c = fma(c, z, -4.934802200544679)
    // pi in two parts: its rounding alone would be half an ulp.
    let whole = fma(r, HalfTurns.piHigh, r * fma(s, z, all(HalfTurns.piLow)))
    sine = lanes(bits(whole) ^ sign)
    cosine = lanes(bits(fma(c, z, all(1))) ^ sign)
  }

  #if LOSSD_DOUBLE
    private static let wholeFrom = 0x1p51
    private static let signShift: Int64 = 63
    private static let piHigh = 3.141592653589793
    private static let piLow = 1.2246467991473532e-16
    private static let lastSine = 5.392664662608129e-10
    private static let lastCosine = -7.700707130601354e-11
  #else
    private static let wholeFrom: Float = 0x1p22
    private static let signShift: Int32 = 31
    private static let piHigh: Float = 3.1415927
    private static let piLow: Float = -8.742278e-08
    private static let lastSine: Float = 0.000_466_302_8
    private static let lastCosine: Float = 0.001_929_574_3
  #endif
}

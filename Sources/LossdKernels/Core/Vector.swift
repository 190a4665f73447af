// The vector kernels, one source built once an instruction set: this folder is a target by itself and,
// through a symbolic link, another with AVX2 and FMA. Hot code: unsafe pointers, no closures that
// escape, no existentials, no allocation, and no generics of the standard library that could be
// specialised here, since the linker might hand the AVX2 copy to the baseline's callers.

#if LOSSD_AVX512
  /// Sixteen float32 lanes: one AVX-512 register.
  typealias Lanes = SIMD16<Float>
  typealias Bits = SIMD16<Int32>
  /// Half as many float64 lanes.
  typealias Wide = SIMD8<Double>
#else
  /// Eight float32 lanes: one AVX2 register, two of SSE or NEON.
  typealias Lanes = SIMD8<Float>
  typealias Bits = SIMD8<Int32>
  typealias Wide = SIMD4<Double>
#endif

/// How many lanes there are.
@inline(__always) var width: Int { Lanes.scalarCount }

@inline(__always)
func load(_ base: UnsafePointer<Float>, _ index: Int) -> Lanes {
  UnsafeRawPointer(base + index).loadUnaligned(as: Lanes.self)
}

@inline(__always)
func store(_ value: Lanes, _ base: UnsafeMutablePointer<Float>, _ index: Int) {
  UnsafeMutableRawPointer(base + index).storeBytes(of: value, as: Lanes.self)
}

/// a * b + c, fused where the processor does that at no cost.
@inline(__always)
func fma(_ a: Lanes, _ b: Lanes, _ c: Lanes) -> Lanes {
  #if LOSSD_FMA
    c.addingProduct(a, b)
  #else
    a * b + c
  #endif
}

@inline(__always)
func fma(_ a: Lanes, _ b: Float, _ c: Lanes) -> Lanes { fma(a, Lanes(repeating: b), c) }

@inline(__always)
func fma(_ a: Lanes, _ b: Lanes, _ c: Float) -> Lanes { fma(a, b, Lanes(repeating: c)) }

@inline(__always)
func bits(_ value: Lanes) -> Bits { unsafeBitCast(value, to: Bits.self) }

@inline(__always)
func lanes(_ value: Bits) -> Lanes { unsafeBitCast(value, to: Lanes.self) }

@inline(__always)
func magnitude(_ value: Lanes) -> Lanes { lanes(bits(value) & Bits(repeating: 0x7FFF_FFFF)) }

/// The larger in each lane; `a` where `b` is NaN.
@inline(__always)
func larger(_ a: Lanes, _ b: Lanes) -> Lanes { a.replacing(with: b, where: b .> a) }

@inline(__always)
func largest(_ value: Lanes) -> Float {
  #if LOSSD_AVX512
    let eight = value.lowHalf.replacing(
      with: value.highHalf, where: value.highHalf .> value.lowHalf)
  #else
    let eight = value
  #endif
  let four = eight.lowHalf.replacing(with: eight.highHalf, where: eight.highHalf .> eight.lowHalf)
  let two = four.lowHalf.replacing(with: four.highHalf, where: four.highHalf .> four.lowHalf)
  return two[0] > two[1] ? two[0] : two[1]
}

@inline(__always)
func horizontalSum(_ value: Wide) -> Double {
  #if LOSSD_AVX512
    let four = value.lowHalf + value.highHalf
  #else
    let four = value
  #endif
  return (four[0] + four[2]) + (four[1] + four[3])
}

/// The lanes added to float64 sums: the lower half of them, then the upper one.
@inline(__always)
func add(_ value: Lanes, to low: inout Wide, _ high: inout Wide) {
  low += lowWide(value)
  high += highWide(value)
}

@inline(__always)
func add(_ value: Lanes, to sum: inout Wide) {
  sum += lowWide(value)
  sum += highWide(value)
}

// Conversions lane by lane, which become one instruction: the standard library's are generics that
// would be specialised here.

@inline(__always)
func lowWide(_ v: Lanes) -> Wide {
  #if LOSSD_AVX512
    Wide(
      Double(v[0]), Double(v[1]), Double(v[2]), Double(v[3]), Double(v[4]), Double(v[5]),
      Double(v[6]), Double(v[7]))
  #else
    Wide(Double(v[0]), Double(v[1]), Double(v[2]), Double(v[3]))
  #endif
}

@inline(__always)
func highWide(_ v: Lanes) -> Wide {
  #if LOSSD_AVX512
    Wide(
      Double(v[8]), Double(v[9]), Double(v[10]), Double(v[11]), Double(v[12]), Double(v[13]),
      Double(v[14]), Double(v[15]))
  #else
    Wide(Double(v[4]), Double(v[5]), Double(v[6]), Double(v[7]))
  #endif
}

@inline(__always)
func narrowed(_ a: Wide, _ b: Wide) -> Lanes {
  #if LOSSD_AVX512
    Lanes(
      Float(a[0]), Float(a[1]), Float(a[2]), Float(a[3]), Float(a[4]), Float(a[5]), Float(a[6]),
      Float(a[7]), Float(b[0]), Float(b[1]), Float(b[2]), Float(b[3]), Float(b[4]), Float(b[5]),
      Float(b[6]), Float(b[7]))
  #else
    Lanes(
      Float(a[0]), Float(a[1]), Float(a[2]), Float(a[3]), Float(b[0]), Float(b[1]), Float(b[2]),
      Float(b[3]))
  #endif
}

/// Whole numbers as float32.
@inline(__always)
func converted(_ v: Bits) -> Lanes {
  #if LOSSD_AVX512
    Lanes(
      Float(v[0]), Float(v[1]), Float(v[2]), Float(v[3]), Float(v[4]), Float(v[5]), Float(v[6]),
      Float(v[7]), Float(v[8]), Float(v[9]), Float(v[10]), Float(v[11]), Float(v[12]),
      Float(v[13]), Float(v[14]), Float(v[15]))
  #else
    Lanes(
      Float(v[0]), Float(v[1]), Float(v[2]), Float(v[3]), Float(v[4]), Float(v[5]), Float(v[6]),
      Float(v[7]))
  #endif
}

/// One element of each of `width` rows, `distance` apart.
@inline(__always)
func gather(_ p: UnsafePointer<Float>, _ distance: Int) -> Lanes {
  #if LOSSD_AVX512
    Lanes(
      p[0], p[distance], p[2 &* distance], p[3 &* distance], p[4 &* distance], p[5 &* distance],
      p[6 &* distance], p[7 &* distance], p[8 &* distance], p[9 &* distance], p[10 &* distance],
      p[11 &* distance], p[12 &* distance], p[13 &* distance], p[14 &* distance],
      p[15 &* distance])
  #else
    Lanes(
      p[0], p[distance], p[2 &* distance], p[3 &* distance], p[4 &* distance], p[5 &* distance],
      p[6 &* distance], p[7 &* distance])
  #endif
}

@inline(__always)
func scatter(_ v: Lanes, _ p: UnsafeMutablePointer<Float>, _ distance: Int) {
  var lane = 0
  while lane < width {
    p[lane &* distance] = v[lane]
    lane &+= 1
  }
}

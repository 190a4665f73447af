// The vector kernels, one source built once an instruction set: this folder is a target by itself and,
// through a symbolic link, another with AVX2 and FMA. Hot code: unsafe pointers, no closures that
// escape, no existentials, no allocation, and no generics of the standard library that could be
// specialised here, since the linker might hand the AVX2 copy to the baseline's callers.

/// Eight float32 lanes: one AVX2 register, two of SSE or NEON.
typealias Lanes = SIMD8<Float>
typealias Bits = SIMD8<Int32>
/// Four float64 lanes.
typealias Wide = SIMD4<Double>

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

/// Whole numbers as float32.
@inline(__always)
func converted(_ value: Bits) -> Lanes {
  // Lane by lane: the standard library's conversion is a generic that would be specialised here.
  Lanes(
    Float(value[0]), Float(value[1]), Float(value[2]), Float(value[3]), Float(value[4]),
    Float(value[5]), Float(value[6]), Float(value[7]))
}

/// The larger in each lane; `a` where `b` is NaN.
@inline(__always)
func larger(_ a: Lanes, _ b: Lanes) -> Lanes { a.replacing(with: b, where: b .> a) }

@inline(__always)
func largest(_ value: Lanes) -> Float {
  let four = value.lowHalf.replacing(with: value.highHalf, where: value.highHalf .> value.lowHalf)
  let two = four.lowHalf.replacing(with: four.highHalf, where: four.highHalf .> four.lowHalf)
  return two[0] > two[1] ? two[0] : two[1]
}

@inline(__always)
func horizontalSum(_ value: Wide) -> Double { (value[0] + value[2]) + (value[1] + value[3]) }

/// The lanes added to four float64 sums.
@inline(__always)
func add(_ value: Lanes, to sum: inout Wide) {
  sum += Wide(
    Double(value[0]), Double(value[1]), Double(value[2]), Double(value[3]))
  sum += Wide(
    Double(value[4]), Double(value[5]), Double(value[6]), Double(value[7]))
}

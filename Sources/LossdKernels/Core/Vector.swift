// The vector kernels: one source, built once for each instruction set and each of float32 and float64.
// This folder is a target by itself and, through symbolic links, the others. Hot code: unsafe pointers,
// no closures that escape, no existentials, no allocation, and no generics of the standard library that
// could be specialised here, since the linker might hand one build's copy to another's callers.
//
// What the compiler needs to make good vectors of it, found by measuring: the standard library's +, -, *
// and addingProduct of vectors are loops over the lanes, which the optimiser joins again, reliably so
// where a loop's body works on one vector alone (with four in flight, or where lanes are read one by one,
// it mixes them up: four times slower). What takes or gives vectors is always inlined; what takes pointers
// never is, since in a function grown too large even a load stays a call of a generic.

#if LOSSD_DOUBLE
  typealias Scalar = Double
  typealias Word = Int64
  #if LOSSD_AVX512
    typealias Lanes = SIMD8<Double>
    typealias Bits = SIMD8<Int64>
    let width = 8
  #else
    typealias Lanes = SIMD4<Double>
    typealias Bits = SIMD4<Int64>
    let width = 4
  #endif
#else
  typealias Scalar = Float
  typealias Word = Int32
  #if LOSSD_AVX512
    typealias Lanes = SIMD16<Float>
    typealias Bits = SIMD16<Int32>
    let width = 16
  #else
    typealias Lanes = SIMD8<Float>
    typealias Bits = SIMD8<Int32>
    let width = 8
  #endif
#endif

typealias Input = UnsafePointer<Scalar>
typealias Output = UnsafeMutablePointer<Scalar>

@inline(always)
func load(_ base: Input, _ index: Int) -> Lanes {
  UnsafeRawPointer(base + index).loadUnaligned(as: Lanes.self)
}

@inline(always)
func store(_ value: Lanes, _ base: Output, _ index: Int) {
  UnsafeMutableRawPointer(base + index).storeBytes(of: value, as: Lanes.self)
}

/// The first `count` lanes of a vector, at most `width`; zeros behind them.
@inline(always)
func load(_ base: Input, _ index: Int, count: Int) -> Lanes {
  if count == width { return load(base, index) }
  var result = Lanes(repeating: 0)
  var lane = 0
  while lane < count {
    result[lane] = base[index &+ lane]
    lane &+= 1
  }
  return result
}

@inline(always)
func store(_ value: Lanes, _ base: Output, _ index: Int, count: Int) {
  if count == width {
    store(value, base, index)
    return
  }
  var lane = 0
  while lane < count {
    base[index &+ lane] = value[lane]
    lane &+= 1
  }
}

/// a * b + c, fused where the processor does that at no cost.
@inline(always)
func fma(_ a: Lanes, _ b: Lanes, _ c: Lanes) -> Lanes {
  #if LOSSD_FMA
    c.addingProduct(a, b)
  #else
    a * b + c
  #endif
}

@inline(always)
func fma(_ a: Lanes, _ b: Scalar, _ c: Lanes) -> Lanes { fma(a, Lanes(repeating: b), c) }

@inline(always)
func fma(_ a: Lanes, _ b: Lanes, _ c: Scalar) -> Lanes { fma(a, b, Lanes(repeating: c)) }

@inline(always)
func bits(_ value: Lanes) -> Bits { unsafeBitCast(value, to: Bits.self) }

@inline(always)
func lanes(_ value: Bits) -> Lanes { unsafeBitCast(value, to: Lanes.self) }

@inline(always)
func magnitude(_ value: Lanes) -> Lanes { lanes(bits(value) & Bits(repeating: Word.max)) }

/// -|value|.
@inline(always)
func negativeMagnitude(_ value: Lanes) -> Lanes { lanes(bits(value) | Bits(repeating: Word.min)) }

/// The larger in each lane; `a` where `b` is NaN.
@inline(always)
func larger(_ a: Lanes, _ b: Lanes) -> Lanes { a.replacing(with: b, where: b .> a) }

// The vector kernels: one source, built once for each instruction set and each type of tensors. This
// folder is a target by itself and, through symbolic links, the others. Hot code: unsafe pointers, no
// closures that escape, no existentials, no allocation, and no generics of the standard library that
// could be specialised here, since the linker might hand one build's copy to another's callers.
//
// Arithmetic is that of lanes.h: the standard library's +, -, * and addingProduct of floating-point vectors
// are loops over the lanes, which the optimiser joins again in some functions and not in others.
internal import CLossdLanes

typealias Scalar = scalar
typealias Lanes = lanes
typealias Bits = lane_bits
typealias Word = scalar_bits
typealias Wide = wide_lanes
/// What a tensor holds; the bits of 16-bit floating-point types.
typealias Element = element

typealias Input = UnsafePointer<Element>
typealias Output = UnsafeMutablePointer<Element>
/// Memory in the lanes' type.
typealias Scratch = UnsafeMutablePointer<Scalar>

/// How many lanes there are.
@inline(__always)
var width: Int { MemoryLayout<Lanes>.size / MemoryLayout<Scalar>.size }

extension Lanes {
  @inline(__always) static func + (a: Lanes, b: Lanes) -> Lanes { lanes_add(a, b) }
  @inline(__always) static func - (a: Lanes, b: Lanes) -> Lanes { lanes_subtract(a, b) }
  @inline(__always) static func * (a: Lanes, b: Lanes) -> Lanes { lanes_multiply(a, b) }
  @inline(__always) static func / (a: Lanes, b: Lanes) -> Lanes { lanes_divide(a, b) }
  @inline(__always) static func + (a: Lanes, b: Scalar) -> Lanes { a + all(b) }
  @inline(__always) static func - (a: Lanes, b: Scalar) -> Lanes { a - all(b) }
  @inline(__always) static func - (a: Scalar, b: Lanes) -> Lanes { all(a) - b }
  @inline(__always) static func * (a: Lanes, b: Scalar) -> Lanes { a * all(b) }
}

#if !LOSSD_DOUBLE
  /// float64 beside float32 lanes.
  extension Wide {
    @inline(__always) static func + (a: Wide, b: Wide) -> Wide { wide_add(a, b) }
    @inline(__always) static func - (a: Wide, b: Wide) -> Wide { wide_subtract(a, b) }
    @inline(__always) static func * (a: Wide, b: Wide) -> Wide { wide_multiply(a, b) }
    @inline(__always) static func / (a: Wide, b: Wide) -> Wide { wide_divide(a, b) }
  }
#endif

@inline(__always)
func all(_ value: Scalar) -> Lanes { Lanes(repeating: value) }

@inline(__always)
func allWide(_ value: Double) -> Wide { Wide(repeating: value) }

/// a * b + c, fused where the processor does that at no cost.
@inline(__always)
func fma(_ a: Lanes, _ b: Lanes, _ c: Lanes) -> Lanes { lanes_fma(a, b, c) }

@inline(__always)
func fma(_ a: Lanes, _ b: Scalar, _ c: Lanes) -> Lanes { lanes_fma(a, all(b), c) }

@inline(__always)
func fma(_ a: Lanes, _ b: Lanes, _ c: Scalar) -> Lanes { lanes_fma(a, b, all(c)) }

@inline(__always)
func bits(_ value: Lanes) -> Bits { unsafeBitCast(value, to: Bits.self) }

@inline(__always)
func lanes(_ value: Bits) -> Lanes { unsafeBitCast(value, to: Lanes.self) }

@inline(__always)
func magnitude(_ value: Lanes) -> Lanes { lanes(bits(value) & Bits(repeating: Word.max)) }

/// -|value|.
@inline(__always)
func negativeMagnitude(_ value: Lanes) -> Lanes { lanes(bits(value) | Bits(repeating: Word.min)) }

@inline(__always)
func anyLane(_ which: Bits) -> Bool { lanes_any(which) != 0 }

/// 0, 1, 2...
@inline(__always)
var laneNumbers: Lanes {
  var result = all(0)
  var lane = 0
  while lane < width {
    result[lane] = Scalar(lane)
    lane &+= 1
  }
  return result
}

@inline(__always)
func load(_ base: Input, _ index: Int) -> Lanes { lanes_load(base + index) }

@inline(__always)
func store(_ value: Lanes, _ base: Output, _ index: Int) { lanes_store(base + index, value) }

@inline(__always)
func fetch(_ base: UnsafePointer<Scalar>, _ index: Int) -> Lanes { scratch_load(base + index) }

@inline(__always)
func put(_ value: Lanes, _ base: Scratch, _ index: Int) { scratch_store(base + index, value) }

@inline(__always)
func offset(_ base: Input?, _ index: Int) -> Input? {
  if let base { return base + index }
  return nil
}

@inline(__always)
func offset(_ base: Output?, _ index: Int) -> Output? {
  if let base { return base + index }
  return nil
}

/// Brings the cache line of an element near, to be read or written soon.
@inline(__always)
func touch(_ base: Input, _ index: Int) { lanes_touch(base + index) }

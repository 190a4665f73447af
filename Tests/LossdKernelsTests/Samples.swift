import Foundation
import LossdKernelTable
import LossdKernels
import Testing

#if arch(x86_64)
  typealias Truth = Float80
#else
  typealias Truth = Double
#endif

/// What the kernels' tensors hold.
enum Kind: CaseIterable, CustomStringConvertible {
  case float32, float64, float16, bfloat16

  var description: String {
    switch self {
    case .float32: "float32"
    case .float64: "float64"
    case .float16: "float16"
    case .bfloat16: "bfloat16"
    }
  }

  var byteSize: Int { self == .float64 ? 8 : self == .float32 ? 4 : 2 }
  var isNarrow: Bool { byteSize == 2 }

  func table(_ build: KernelBuild) -> KernelTable {
    switch self {
    case .float32: build.float32
    case .float64: build.float64
    case .float16: build.float16
    case .bfloat16: build.bfloat16
    }
  }

  /// The distance of neighbours at this magnitude.
  func ulp(_ magnitude: Truth) -> Truth {
    let (digits, smallest): (Int, Int) =
      switch self {
      case .float32: (23, -149)
      case .float64: (52, -1074)
      case .float16: (10, -24)
      case .bfloat16: (7, -133)
      }
    let exponent =
      magnitude > 0 && magnitude.isFinite
      ? max(Int(magnitude.exponent) - digits, smallest) : smallest
    return Truth(sign: .plus, exponent: Truth.Exponent(exponent), significand: 1)
  }

  /// The largest finite number, and half a step more: what rounds to infinity.
  var overflow: Truth {
    switch self {
    case .float32: 0x1.ffffffp127
    case .float64: 0x1.fffffffffffff8p1023
    case .float16: 65520
    case .bfloat16: 0x1.ffp127
    }
  }
}

/// Elements of one kind in memory of their own, with guards behind them.
final class Sample {
  let kind: Kind
  let count: Int
  let raw: UnsafeMutableRawPointer
  private let guardBytes = 64

  /// `misplaced`: begins so many elements behind a multiple of 64 bytes.
  init(_ kind: Kind, count: Int, misplaced: Int = 0) {
    self.kind = kind
    self.count = count
    let bytes = (count + misplaced) * kind.byteSize + guardBytes
    memory = .allocate(byteCount: bytes, alignment: 64)
    raw = memory + misplaced * kind.byteSize
    memory.initializeMemory(as: UInt8.self, repeating: 0xA5, count: bytes)
  }

  private let memory: UnsafeMutableRawPointer

  /// Values rounded to the kind.
  convenience init(_ kind: Kind, _ values: [Double], misplaced: Int = 0) {
    self.init(kind, count: values.count, misplaced: misplaced)
    for (index, value) in values.enumerated() { self[index] = value }
  }

  deinit { memory.deallocate() }

  subscript(index: Int) -> Double {
    get {
      switch kind {
      case .float32: Double(raw.load(fromByteOffset: 4 * index, as: Float.self))
      case .float64: raw.load(fromByteOffset: 8 * index, as: Double.self)
      case .float16: Double(raw.load(fromByteOffset: 2 * index, as: Float16.self))
      case .bfloat16:
        Double(
          Float(bitPattern: UInt32(raw.load(fromByteOffset: 2 * index, as: UInt16.self)) << 16))
      }
    }
    set {
      switch kind {
      case .float32: raw.storeBytes(of: Float(newValue), toByteOffset: 4 * index, as: Float.self)
      case .float64: raw.storeBytes(of: newValue, toByteOffset: 8 * index, as: Double.self)
      case .float16:
        raw.storeBytes(of: Float16(newValue), toByteOffset: 2 * index, as: Float16.self)
      case .bfloat16:
        // To nearest is of no matter here: a value of the kind is wanted.
        let bits = Float(newValue).bitPattern
        let half = newValue.isNaN ? UInt16(0x7FC0) : UInt16(truncatingIfNeeded: bits >> 16)
        raw.storeBytes(of: half, toByteOffset: 2 * index, as: UInt16.self)
      }
    }
  }

  var values: [Double] { (0..<count).map { self[$0] } }

  /// Nothing has been written behind the end.
  var isIntact: Bool {
    (0..<guardBytes).allSatisfy {
      raw.load(fromByteOffset: count * kind.byteSize + $0, as: UInt8.self) == 0xA5
    }
  }

  func copy() -> Sample {
    let result = Sample(kind, count: count)
    result.raw.copyMemory(from: raw, byteCount: count * kind.byteSize)
    return result
  }
}

/// Results against the truth, in ulps of the larger of the truth and `term`, the largest that went
/// into it: at most `ulps` for 32 and 64 bits; 16 bits are computed in float32 and rounded once.
func expectClose(
  _ ours: Double, _ truth: Truth, term: Truth = 0, ulps: Truth = 3, _ kind: Kind,
  _ comment: @autoclosure () -> String
) {
  let isClose: Bool
  if truth.isNaN {
    isClose = ours.isNaN
  } else if truth.magnitude >= kind.overflow {
    isClose = ours == (truth < 0 ? -.infinity : .infinity)
  } else {
    let size = max(truth.magnitude, term)
    let allowed =
      kind.isNarrow ? 0.5 * kind.ulp(size) + ulps * Kind.float32.ulp(size) : ulps * kind.ulp(size)
    isClose = (Truth(ours) - truth).magnitude <= allowed
  }
  // #expect for every element would take longer than all kernels together.
  if !isClose { Issue.record("\(comment()): \(ours), truth \(truth)") }
}

/// The softmax of a row, or its logarithm.
func softmaxTruth(_ x: [Double], logarithmic: Bool) -> [Truth] {
  let m = x.contains { $0.isNaN } ? .nan : Truth(x.max() ?? -.infinity)
  let sum = x.reduce(Truth(0)) { $0 + exp(Truth($1) - m) }
  return x.map { logarithmic ? (Truth($0) - m) - log(sum) : exp(Truth($0) - m) / sum }
}

/// A repeatable source (SplitMix64, Steele et al. 2014), whose seed is printed.
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init() {
    let given = ProcessInfo.processInfo.environment["LOSSD_SEED"].flatMap { UInt64($0) }
    state = given ?? UInt64.random(in: 0...UInt64.max)
    print("seed \(state)")
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }
}

/// Every build with every kind of tensor.
struct KernelCase: CustomStringConvertible, Sendable {
  let build: KernelBuild
  let kind: Kind
  var table: KernelTable { kind.table(build) }
  var description: String { "\(build.name) \(kind)" }

  static let all = Kernels.all.flatMap { build in
    Kind.allCases.map { KernelCase(build: build, kind: $0) }
  }
}

/// How rows of `size` elements lie in a tensor: one after the other, or next to one another.
struct Layout {
  let rows: Int
  let size: Int
  let isColumns: Bool

  var count: Int { rows * size }
  var strided: StridedRows {
    StridedRows(
      count: rows, size: size, step: isColumns ? 1 : size, stride: isColumns ? rows : 1)
  }

  func place(_ row: Int, _ index: Int) -> Int {
    isColumns ? index * rows + row : row * size + index
  }

  func row(_ sample: Sample, _ row: Int) -> [Double] {
    (0..<size).map { sample[place(row, $0)] }
  }

  /// A row's elements to where they belong.
  func flat(_ data: [[Double]]) -> [Double] {
    var result = [Double](repeating: 0, count: count)
    for row in 0..<rows { for index in 0..<size { result[place(row, index)] = data[row][index] } }
    return result
  }

  /// Scratch of the size that the kernels ask for, which `body` may use.
  func withScratch<R>(_ kind: Kind, _ body: (UnsafeMutableRawPointer) -> R) -> R {
    let bytes = StridedRows.scratchBytes(
      size: size, isContiguous: !isColumns, isDouble: kind == .float64)
    let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes + 64, alignment: 64)
    defer { memory.deallocate() }
    memory.initializeMemory(as: UInt8.self, repeating: 0xA5, count: bytes + 64)
    let result = body(memory)
    for index in 0..<64 {
      #expect(
        memory.load(fromByteOffset: bytes + index, as: UInt8.self) == 0xA5, "past the scratch")
    }
    return result
  }
}

import LossdPluginKit
import LossdTensor

let floatTypes: [DataType] = [.float32, .float64, .float16, .bfloat16]
let indexTypes: [DataType] = [.int64, .int32, .uint8]

extension TensorView {
  /// An element widened to float64.
  @inline(__always)
  subscript(index: Int) -> Double {
    get {
      // An index comes from a loop over a tensor that has elements, so there is memory.
      widenedElement(UnsafeRawPointer(data.unsafelyUnwrapped), dataType, at: index)
    }
    nonmutating set {
      let data = data.unsafelyUnwrapped
      switch dataType {
      case .float64: data.storeBytes(of: newValue, toByteOffset: index * 8, as: Double.self)
      case .float16:
        data.storeBytes(of: Float16(newValue), toByteOffset: index * 2, as: Float16.self)
      case .bfloat16:
        data.storeBytes(of: BFloat16(newValue), toByteOffset: index * 2, as: BFloat16.self)
      default: data.storeBytes(of: Float(newValue), toByteOffset: index * 4, as: Float.self)
      }
    }
  }

  /// An element of an integer tensor.
  @inline(__always)
  func integer(_ index: Int) -> Int64 {
    let data = UnsafeRawPointer(data.unsafelyUnwrapped)
    switch dataType {
    case .int64: return data.loadUnaligned(fromByteOffset: index * 8, as: Int64.self)
    case .int32: return Int64(data.loadUnaligned(fromByteOffset: index * 4, as: Int32.self))
    case .int16: return Int64(data.loadUnaligned(fromByteOffset: index * 2, as: Int16.self))
    case .int8: return Int64(data.loadUnaligned(fromByteOffset: index, as: Int8.self))
    default: return Int64(data.loadUnaligned(fromByteOffset: index, as: UInt8.self))
    }
  }

  func hasShape(_ other: UnsafeBufferPointer<Int64>) -> Bool { shape.elementsEqual(other) }

  /// Whether it broadcasts to `target` without enlarging it.
  func broadcasts(to target: UnsafeBufferPointer<Int64>) -> Bool {
    guard rank <= target.count else { return false }
    let skipped = target.count - rank
    return (0..<rank).allSatisfy { shape[$0] == 1 || shape[$0] == target[skipped + $0] }
  }

  /// This tensor's element for the flat index of a tensor of `target`'s shape, by broadcasting.
  func broadcastIndex(_ flat: Int, _ target: UnsafeBufferPointer<Int64>) -> Int {
    if count == 1 { return 0 }
    var rest = flat
    var index = 0
    var stride = 1
    var dimension = rank - 1
    while dimension >= 0 {
      let size = Int(target[target.count - rank + dimension])
      if shape[dimension] != 1 {
        index += rest % size * stride
        stride *= Int(shape[dimension])
      }
      rest /= size
      dimension -= 1
    }
    return index
  }
}

/// Rounds to a type's precision and back, as a cast of the input does.
func rounded(_ value: Double, _ type: DataType) -> Double {
  switch type {
  case .float16: Double(Float16(value))
  case .bfloat16: BFloat16(value).widened
  case .float32: Double(Float(value))
  default: value
  }
}

func invalid(_ text: String) -> StatusError { StatusError(.invalidArgument, text) }

extension Call {
  /// Ends a unit of work that may take long, once its call is cancelled or has run out of time.
  func checkCancelled() throws(StatusError) {
    if isCancelled { throw StatusError(.cancelled, "cancelled") }
  }
}

extension Plan {
  /// A workspace of so many float64, `times` over. Small tensors broadcast to more elements than anybody could hold, whose
  /// product with their size has no Int: that is 2^60 bytes, which the host refuses as it refuses any too many.
  func setWorkspace(doubles count: Int, times: Int = 1) {
    let limit = 1 << 60
    let (bytes, overflow) = count.multipliedReportingOverflow(
      by: times * MemoryLayout<Double>.stride)
    setWorkspace(bytes: overflow ? limit : min(bytes, limit))
  }
}

/// What reading one element of a tensor by broadcasting takes beyond what any element does, nanoseconds: a division for
/// each dimension. The few that tensors have are in the functions' own costs.
func broadcastCost(rank: Int) -> Double { 6 * Double(max(rank - 8, 0)) }

/// The sum in float64, in sixteen parts that depend on nothing but the number of elements.
func fixedSum(_ x: UnsafePointer<Float>, _ count: Int) -> Double {
  fixedSum(count, { SIMD8<Double>(x.eight($0)) }, { Double(x[$0]) })
}

func fixedSum(_ x: UnsafePointer<Double>, _ count: Int) -> Double {
  fixedSum(count, { x.eight($0) }, { x[$0] })
}

@inline(__always)
private func fixedSum(
  _ count: Int, _ eight: (Int) -> SIMD8<Double>, _ number: (Int) -> Double
) -> Double {
  var (sums, more) = (SIMD8<Double>(), SIMD8<Double>())
  var index = 0
  while index &+ 16 <= count {
    sums += eight(index)
    more += eight(index &+ 8)
    index &+= 16
  }
  if index &+ 8 <= count {
    sums += eight(index)
    index &+= 8
  }
  var rest = 0.0
  while index < count {
    rest += number(index)
    index &+= 1
  }
  return (sums + more).sum() + rest
}

extension UnsafePointer where Pointee: SIMDScalar {
  @inline(__always)
  fileprivate func eight(_ index: Int) -> SIMD8<Pointee> {
    UnsafeRawPointer(self + index).loadUnaligned(as: SIMD8<Pointee>.self)
  }
}

/// A sum in about twice float64's precision (Neumaier); infinities and NaN pass through.
struct CompensatedSum {
  private var sum = 0.0
  private var compensation = 0.0

  @inline(__always)
  mutating func add(_ value: Double) {
    let new = sum + value
    let error = sum.magnitude >= value.magnitude ? (sum - new) + value : (value - new) + sum
    if error.isFinite { compensation += error }
    sum = new
  }

  /// Adds another sum with all that it knows.
  mutating func add(_ other: CompensatedSum) {
    add(other.sum)
    compensation += other.compensation
  }

  var value: Double { sum + compensation }
}

/// The upstream gradient of a result: checked against the result's shape and type. `isReduced`: of a mean or
/// sum, it may be float64 whatever the type, so that batches of a mean lose nothing: theirs is over the sum of all
/// weights. Who reads it may then not take it for the result's type.
func checkUpstream(
  _ upstream: TensorView?, _ name: String, _ type: DataType, _ shape: UnsafeBufferPointer<Int64>,
  isReduced: Bool = false
) throws(StatusError) {
  guard let upstream else { return }
  let isWide = isReduced && upstream.dataType == .float64
  guard upstream.dataType == type || isWide, upstream.hasShape(shape) else {
    throw invalid("\(name) is \(upstream.description), expected \(type) \(shapeText(shape))")
  }
}

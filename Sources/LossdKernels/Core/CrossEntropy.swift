// Cross entropy with class indices, forward and gradient together; CrossEntropyRows has the formulas.
internal import CLossdLanes
import LossdKernelTable

/// The call with its pointers bound to this build's type.
struct EntropyCall {
  let x: Input
  let gradient: Output?
  let classWeights: Input?
  let smoothing: Double
  let classWeightSum: Double
  /// What smoothing gives to each class.
  let share: Double
  let isStreamed: Bool

  @inline(__always)
  init(_ call: CrossEntropyRows) {
    x = call.x.assumingMemoryBound(to: Element.self)
    gradient = call.gradient?.assumingMemoryBound(to: Element.self)
    classWeights = call.classWeights?.assumingMemoryBound(to: Element.self)
    smoothing = call.smoothing
    classWeightSum = call.classWeightSum
    share = call.smoothing / Double(call.rows.size)
    // A line that has just been read is in the cache already.
    isStreamed = call.isStreamed && !isAt(call.gradient, call.x)
  }

  @inline(__always)
  func weight(_ c: Int) -> Scalar {
    classWeights == nil ? 1 : element_widened(classWeights.unsafelyUnwrapped[c])
  }

  @inline(__always)
  func weights(_ c: Int) -> Lanes {
    classWeights == nil ? all(1) : load(classWeights.unsafelyUnwrapped, c)
  }
}

/// What is known of each row.
struct EntropyRow {
  let label: Int
  let weight: Double
  let scale: Double

  @inline(__always)
  init(_ call: CrossEntropyRows, _ row: Int) {
    label = Int(call.labels[row])
    weight = call.rowWeights == nil ? 1 : call.rowWeights.unsafelyUnwrapped[row]
    scale = call.scales == nil ? call.scale : call.scales.unsafelyUnwrapped[row]
  }

  /// What the gradient is made of: `all` p - `own` [c = y] - `each` w_c.
  @inline(__always)
  func factors(_ c: EntropyCall) -> (all: Double, own: Double, each: Double) {
    if label < 0 { return (0, 0, 0) }
    let own = scale * (1 - c.smoothing) * weight
    let each = scale * c.share
    return (own + each * c.classWeightSum, own, each)
  }
}

func crossEntropyRows(_ pointer: UnsafePointer<CrossEntropyRows>) {
  let call = pointer.pointee
  if call.rows.stride != 1 {
    crossEntropyColumns(call)
  } else if call.rows.size > StridedRows.shortRow {
    crossEntropyLongRows(call)
  } else {
    crossEntropyShortRows(call)
  }
}

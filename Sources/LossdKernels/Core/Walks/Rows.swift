// Rows and what is computed of them: LongRows, ShortRows, Columns and Blocks walk one layout of
// memory each. Every formula has its own copy of the walks, specialised in this module.
internal import CLossdLanes
import LossdKernelTable

func computeRows(_ pointer: UnsafePointer<RowCall>) {
  let call = pointer.pointee
  let rows = Rows(call)
  switch call.formula {
  case .softmax: walk(Softmax.self, rows, call)
  case .logSoftmax: walk(LogSoftmax.self, rows, call)
  case .crossEntropy:
    if call.classes.smoothing > 0 {
      walk(SmoothedCrossEntropy.self, rows)
    } else {
      walk(CrossEntropy.self, rows)
    }
  case .probabilities: walk(ProbabilityCrossEntropy.self, rows)
  case .likelihood: pickElements(Likelihood.self, rows)
  }
}

private func walk<F: SoftmaxFormula>(_ f: F.Type, _ rows: Rows, _ call: RowCall) {
  if call.step == .rows {
    if rows.layout.stride != 1 {
      computeColumns(f, rows)
    } else if rows.layout.size > StridedRows.shortRow {
      computeLongRows(f, rows)
    } else {
      computeShortRows(f, rows)
    }
  } else if let sums = call.sums {
    if call.step == .blockSums {
      addUpBlock(f, rows, sums)
    } else {
      computeBlock(f, rows, sums)
    }
  }
}

private func walk<F: RowLossFormula>(_ f: F.Type, _ rows: Rows) {
  if rows.layout.stride != 1 {
    evaluateColumns(f, rows)
  } else if rows.layout.size > StridedRows.shortRow {
    evaluateLongRows(f, rows)
  } else {
    evaluateShortRows(f, rows)
  }
}

/// The call with its pointers bound to this build's type.
struct Rows {
  let x: Input
  let y: Input?
  let values: Output?
  let gradient: Output?
  let layout: StridedRows
  let labels: UnsafePointer<Int32>?
  let rowWeights: UnsafePointer<Double>?
  let scales: UnsafePointer<Double>?
  let scale: Double
  let losses: UnsafeMutablePointer<Double>?
  let classWeights: Input?
  let scratch: UnsafeMutableRawPointer
  let isStreamed: Bool
  let constants: RowConstants

  @inline(__always)
  init(_ call: RowCall) {
    x = call.x.assumingMemoryBound(to: Element.self)
    y = call.y?.assumingMemoryBound(to: Element.self)
    values = call.values?.assumingMemoryBound(to: Element.self)
    gradient = call.gradient?.assumingMemoryBound(to: Element.self)
    layout = call.rows
    labels = call.classes.labels
    rowWeights = call.classes.rowWeights
    scales = call.classes.scales
    scale = call.classes.scale
    losses = call.classes.losses
    classWeights = call.classes.weights?.assumingMemoryBound(to: Element.self)
    scratch = call.scratch
    // A line that has just been read is in the cache already.
    let isInPlace = isAt(call.values, call.x) || isAt(call.gradient, call.x)
    isStreamed = call.isStreamed && !isInPlace && areAlike(values, gradient)
    let smoothing = call.classes.smoothing
    constants = RowConstants(
      hasUpstream: y != nil, size: layout.size, kept: 1 - smoothing,
      share: smoothing / Double(layout.size), weightSum: call.classes.weightSum,
      isWeighted: classWeights != nil)
  }

  /// The class of a row; -1: none.
  @inline(__always)
  func label(_ row: Int) -> Int { Int(labels.unsafelyUnwrapped[row]) }

  @inline(__always)
  func rowWeight(_ row: Int) -> Double {
    rowWeights == nil ? 1 : rowWeights.unsafelyUnwrapped[row]
  }

  @inline(__always)
  func scale(_ row: Int) -> Double { scales == nil ? scale : scales.unsafelyUnwrapped[row] }

  @inline(__always)
  func setLoss(_ row: Int, _ loss: Double) { losses.unsafelyUnwrapped[row] = loss }

  /// The weight of a class.
  @inline(__always)
  func weight(_ index: Int) -> Scalar {
    classWeights == nil ? 1 : element_widened(classWeights.unsafelyUnwrapped[index])
  }

  /// Those of consecutive classes.
  @inline(__always)
  func weights(_ index: Int) -> Lanes {
    classWeights == nil ? all(1) : load(classWeights.unsafelyUnwrapped, index)
  }

  /// Elements of y, or ones.
  @inline(__always)
  func y(_ place: Int) -> Lanes { y == nil ? all(1) : load(y.unsafelyUnwrapped, place) }

  /// The first `count` of them.
  @inline(__always)
  func y(_ place: Int, _ count: Int) -> Lanes {
    y == nil || count == width ? y(place) : loadPart(y.unsafelyUnwrapped + place, count)
  }
}

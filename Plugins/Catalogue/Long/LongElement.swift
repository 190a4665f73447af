import Glibc
import LossdKernelTable
import LossdKernels
import LossdTensor

/// What a block of a long row is computed in: float32 by the kernels where that holds the input exactly,
/// else float64.
protocol LongElement: FloatElement {
  /// The state of one part of a row.
  static func state(_ x: UnsafePointer<Self>, _ count: Int) -> RowState
  /// y = exp(x) / the row's sum; `part` is the state of x alone.
  static func probabilities(
    _ x: UnsafePointer<Self>, _ y: UnsafeMutablePointer<Self>, _ count: Int, part: RowState,
    row: RowState)
}

extension LongElement {
  static func scalarState(_ x: UnsafePointer<Self>, _ count: Int) -> RowState {
    var (max, top) = (-Double.infinity, 0)
    for index in 0..<count {
      let value = x[index].widened
      if value > max || value.isNaN { (max, top) = (value, index) }
      if value.isNaN { break }
    }
    // A part of nothing but -inf is a part of nothing.
    if max == -.infinity { return RowState(max: max, rest: 0) }
    guard max.isFinite else { return RowState(max: .nan, rest: .nan) }
    var others = CompensatedSum()
    for index in 0..<count where index != top { others.add(exp(x[index].widened - max)) }
    return RowState(max: max, rest: others.value)
  }

  static func scalarProbabilities(
    _ x: UnsafePointer<Self>, _ y: UnsafeMutablePointer<Self>, _ count: Int, row: RowState
  ) {
    let sum = 1 + row.rest
    for index in 0..<count { y[index] = Self(rounding: exp(x[index].widened - row.max) / sum) }
  }
}

extension Double: LongElement {
  static func state(_ x: UnsafePointer<Double>, _ count: Int) -> RowState { scalarState(x, count) }

  static func probabilities(
    _ x: UnsafePointer<Double>, _ y: UnsafeMutablePointer<Double>, _ count: Int, part: RowState,
    row: RowState
  ) { scalarProbabilities(x, y, count, row: row) }
}

extension Float: LongElement {
  static func state(_ x: UnsafePointer<Float>, _ count: Int) -> RowState {
    guard let kernels = Kernels.chosen else { return scalarState(x, count) }
    // The loss of the first element's class is the logarithm of the sum less that element.
    var (label, weight, loss) = (Int32(0), Float(1), 0.0)
    var rows = CrossEntropyRows(
      x: x, gradient: nil, labels: &label, rowWeights: &weight, scales: nil, losses: &loss,
      classWeights: nil, classWeightSum: Double(count), smoothing: 0, count: 1, classes: count,
      step: count, stride: 1)
    withUnsafePointer(to: label) { label in
      withUnsafePointer(to: weight) { weight in
        withUnsafeMutablePointer(to: &loss) { loss in
          rows.labels = label
          rows.rowWeights = weight
          rows.losses = loss
          kernels.crossEntropy(&rows)
        }
      }
    }
    return Extremes.areIn(loss)
      ? scalarState(x, count) : RowState(max: loss + Double(x[0]), rest: 0)
  }

  static func probabilities(
    _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ count: Int, part: RowState,
    row: RowState
  ) {
    guard let kernels = Kernels.chosen, part.max.isFinite, part.rest.isFinite, row.rest.isFinite
    else {
      scalarProbabilities(x, y, count, row: row)
      return
    }
    kernels.softmax(x, y, 1, count)
    let factor = exp(part.max - row.max) * ((1 + part.rest) / (1 + row.rest))
    for index in 0..<count { y[index] = Float(Double(y[index]) * factor) }
  }
}

/// Elements of a block, column by column, in place or copied into scratch.
struct LongTile<T: LongElement> {
  let base: UnsafeMutablePointer<T>
  let length: Int

  /// `type`: what the elements are rounded to first.
  init(
    _ tensor: TensorView, _ block: LongBlock, type: DataType, scratch: UnsafeMutablePointer<T>
  ) {
    length = block.length
    if block.inner == 1 && tensor.dataType == T.dataType && type == T.dataType {
      base = tensor.elements(as: T.self) + block.start
      return
    }
    base = scratch
    let isCast = type != tensor.dataType
    // Along the tensor's memory, across the tile.
    for index in 0..<block.length {
      for column in 0..<block.columns {
        let x = tensor[block.place(column, index)]
        base[column * length + index] = T(rounding: isCast ? rounded(x, type) : x)
      }
    }
  }

  func column(_ index: Int) -> UnsafeMutablePointer<T> { base + index * length }
}

import Glibc
import LossdKernelTable
import LossdKernels
import LossdTensor

/// What a block of a long row is computed in: float32 by the kernels where that holds the input exactly,
/// else float64.
protocol LongElement: FloatElement {
  /// The state of one part of a row.
  static func state(_ x: UnsafePointer<Self>, _ count: Int) -> RowState
  /// y = factor exp(x) / the row's sum; `part` is the state of x alone.
  static func probabilities(
    _ x: UnsafePointer<Self>, _ y: UnsafeMutablePointer<Self>, _ count: Int, part: RowState,
    row: RowState, times factor: Double)
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
    _ x: UnsafePointer<Self>, _ y: UnsafeMutablePointer<Self>, _ count: Int, row: RowState,
    times factor: Double
  ) {
    if factor == 0 && row.rest.isFinite {
      y.update(repeating: Self(rounding: 0), count: count)
      return
    }
    let sum = 1 + row.rest
    for index in 0..<count {
      y[index] = Self(rounding: factor * (exp(x[index].widened - row.max) / sum))
    }
  }
}

extension LongElement {
  /// By the kernels of this type.
  static func vectorState(
    _ kernels: KernelTable?, _ x: UnsafePointer<Self>, _ count: Int
  ) -> RowState {
    guard let kernels, count > 0 else { return scalarState(x, count) }
    var max = 0.0
    let sum = kernels.sumOfExponentials(x, count, &max)
    guard max.isFinite && sum.isFinite else { return scalarState(x, count) }
    // A certain class leaves so little beside its 1 that the sum has lost the digits.
    let rest = sum < 1.0625 ? others(kernels, x, count, max: max) : sum - 1
    return RowState(max: max, rest: rest)
  }

  /// The sum of the exponentials but the largest one, each part's relative to its own maximum first.
  private static func others(
    _ kernels: KernelTable, _ x: UnsafePointer<Self>, _ count: Int, max: Double
  ) -> Double {
    var top = 0
    while top < count - 1 && x[top].widened != max { top += 1 }
    func part(_ first: Int, _ count: Int) -> Double {
      if count == 0 { return 0 }
      var most = 0.0
      let sum = kernels.sumOfExponentials(x + first, count, &most)
      return most.isFinite ? sum * exp(most - max) : 0
    }
    return part(0, top) + part(top + 1, count - top - 1)
  }

  static func vectorProbabilities(
    _ kernels: KernelTable?, _ x: UnsafePointer<Self>, _ y: UnsafeMutablePointer<Self>,
    _ count: Int, part: RowState, row: RowState, times factor: Double
  ) {
    // Of the part's own maximum, so that no exponential is lost.
    let scale = factor * exp(part.max - row.max) / (1 + row.rest)
    // What float32 would round to a denormal or lose is worth the slow way.
    let isNormal = scale.magnitude > 1e-30 && scale.magnitude < 1e30
    guard let kernels, isNormal, part.max.isFinite, part.rest.isFinite, row.rest.isFinite else {
      scalarProbabilities(x, y, count, row: row, times: factor)
      return
    }
    kernels.scaledExponentials(x, y, count, part.max, scale)
  }
}

extension Double: LongElement {
  static func state(_ x: UnsafePointer<Double>, _ count: Int) -> RowState {
    vectorState(Kernels.chosen?.float64, x, count)
  }

  static func probabilities(
    _ x: UnsafePointer<Double>, _ y: UnsafeMutablePointer<Double>, _ count: Int, part: RowState,
    row: RowState, times factor: Double
  ) {
    vectorProbabilities(
      Kernels.chosen?.float64, x, y, count, part: part, row: row, times: factor)
  }
}

extension Float: LongElement {
  static func state(_ x: UnsafePointer<Float>, _ count: Int) -> RowState {
    vectorState(Kernels.chosen?.float32, x, count)
  }

  static func probabilities(
    _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ count: Int, part: RowState,
    row: RowState, times factor: Double
  ) {
    vectorProbabilities(
      Kernels.chosen?.float32, x, y, count, part: part, row: row, times: factor)
  }
}

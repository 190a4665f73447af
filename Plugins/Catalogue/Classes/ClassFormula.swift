import Glibc
import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// A loss of class indices that is a function of the cross entropy of its row alone. With l = -log
/// softmax(x)[y], w the weight of class y and s what the row's gradient is multiplied by, the row's
/// loss is w f(l), and its gradient is that of l times w s f'(l). The kernels of cross_entropy
/// compute l and its gradient; a formula says f and f' in float64. Inputs, attributes and divisors
/// are those of cross_entropy.
protocol ClassFormula: ClassFunction {
  /// The power k of the target's probability that the formula looks at.
  var exponent: Double { get }

  /// f and f' of l, which is at least 0, infinite or NaN, with 1 - exp(-k l) and exp(-k l).
  func results(_ l: Double, rest: Double, power: Double) -> (value: Double, slope: Double)
}

extension ClassFormula {
  var exponent: Double { 1 }
  var smoothing: Double { 0 }

  func results(_ l: Double) -> (value: Double, slope: Double) {
    results(l, rest: -expm1(-exponent * l), power: exp(-exponent * l))
  }
}

/// The scratch memory of some positions: what each one's gradient is multiplied by, cross entropies
/// again, and what tells extremes.
struct FormulaBlock {
  let factors: UnsafeMutablePointer<Double>
  let unread: UnsafeMutablePointer<Double>
  /// What decides whether a position is the reference's to compute.
  let extremes: UnsafeMutablePointer<Double>
  static let headBytes = 3 * ClassBlock.positions * MemoryLayout<Double>.stride
  /// Elements of the rows between the loss and the gradient: what the second-level cache holds.
  private static let elementsMax = 128 << 10

  init(_ scratch: UnsafeMutableRawPointer) {
    factors = scratch.assumingMemoryBound(to: Double.self)
    unread = factors + ClassBlock.positions
    extremes = unread + ClassBlock.positions
  }

  static func rows(_ layout: ClassLayout) -> Int {
    min(max(elementsMax / max(layout.classes, 1), 1), ClassBlock.positions)
  }
}

extension ClassFormula {
  static var headBytes: Int { FormulaBlock.headBytes }
  static func positionsTogether(_ layout: ClassLayout) -> Int { FormulaBlock.rows(layout) }

  static func costs(_ call: Call, _ input: TensorView) -> ClassCosts {
    ClassCosts(
      element: call.wants(ClassPlaces.gradient) ? 2 : 1, row: 40,
      reference: 60 + 40 * Double(input.size(input.rank == 1 ? 0 : 1)), settled: 4,
      gradient: 2 * ClassCosts.block(input))
  }

  func evaluate(_ rows: inout RowCall, _ work: ClassWork) {
    let (scratch, block, tiles) = (FormulaBlock(work.scratch), work.block, work.tiles)
    let (goal, gradient) = (rows.gradient, work.call.output(ClassPlaces.gradient))
    rows.gradient = nil
    rows.classes = RowClasses(labels: block.labels, losses: block.losses)
    tiles.kernels.rows(&rows)
    let hasExtremes = transform(scratch, block, tiles, hasGradient: gradient != nil)
    if let gradient {
      rows.gradient = goal
      rows.classes.scales = UnsafePointer(scratch.factors)
      rows.classes.losses = scratch.unread
      tiles.kernels.rows(&rows)
      settleTargets(scratch, work, gradient)
    }
    if hasExtremes {
      for index in 0..<block.count where tiles.isExtreme(scratch.extremes[index]) {
        block.losses[index] = settle(work.call, work.state, work.row(index))
      }
    }
  }

  /// From each position's cross entropy to its loss, and to what multiplies its gradient. Returns
  /// whether one is the reference's to compute.
  private func transform(
    _ scratch: FormulaBlock, _ block: ClassBlock, _ tiles: Tiles, hasGradient: Bool
  ) -> Bool {
    let (rests, powers) = (scratch.extremes, scratch.unread)
    for index in 0..<block.count {
      let l = block.losses[index]
      scratch.factors[index] = -exponent * (l < 0 ? 0 : l)
    }
    var exponentials = ElementCall(
      .expm1, x: scratch.factors, values: rests, slopes: powers, count: block.count)
    _ = (Kernels.chosen ?? Kernels.baseline).float64.elements(&exponentials)
    var hasExtremes = false
    for index in 0..<block.count {
      let l = block.losses[index]
      let weight = block.weight(index)
      let (value, slope) = results(l < 0 ? 0 : l, rest: -rests[index], power: powers[index])
      let isIgnored = block.labels[index] < 0
      let factor = hasGradient && !isIgnored ? block.scale(index) * weight * slope : 0
      let loss = isIgnored ? 0 : weight * value
      scratch.factors[index] = factor
      block.losses[index] = loss
      // The cross entropy, its factor, and the loss, of which one says enough.
      let worst = tiles.isExtreme(l) ? l : tiles.isExtreme(factor) ? factor : loss
      scratch.extremes[index] = worst
      if tiles.isExtreme(worst) { hasExtremes = true }
    }
    return hasExtremes
  }

  /// Writes the gradient of the logits of targets that are nearly certain, where the kernel's p - 1
  /// has lost digits.
  private func settleTargets(
    _ scratch: FormulaBlock, _ work: ClassWork, _ gradient: TensorView
  ) {
    for index in 0..<work.block.count {
      let (label, l) = (Int(work.block.labels[index]), scratch.unread[index])
      if label < 0 || !(l < 0.5) { continue }
      let place = work.row(index).start + label * work.state.layout.inner
      gradient[place] = scratch.factors[index] * expm1(-l)
    }
  }

  func reference(
    _ call: Call, _ state: ClassState, _ row: ClassRow, _ scratch: UnsafeMutableRawPointer
  ) throws(StatusError) -> Double { settle(call, state, row) }

  /// Keeps as `loss` the row's cross entropy, as `share` the slope of its loss.
  func settle(
    _ row: inout RowState, logProbability: Double, weight: Double, _ extremes: Extremes
  ) -> Double {
    let l = -logProbability
    let (value, slope) = results(l < 0 ? 0 : l)
    (row.loss, row.share) = (l, weight * slope)
    return weight * value
  }

  func differentiate<T: LongElement>(_ column: LongColumn<T>, _ shares: ClassShares) {
    let label = shares.label(column.position)
    let factor = label == nil ? 0 : column.row.share * column.scale
    column.writeProbabilities(times: factor)
    guard let label else { return }
    let place = label - column.block.first
    if place >= 0 && place < column.count {
      column.y[place] = T(rounding: factor * expm1(-column.row.loss))
    }
  }

  /// Writes the gradient of a position and returns its loss, in float64.
  private func settle(_ call: Call, _ state: ClassState, _ row: ClassRow) -> Double {
    guard let input = call.input(ClassPlaces.input) else { return 0 }
    let (classes, inner) = (state.layout.classes, state.layout.inner)
    let gradient = call.output(ClassPlaces.gradient)
    if row.label == nil && gradient == nil { return 0 }
    let sums = LogSumExp(count: classes) { input[row.start + $0 * inner] }
    guard let label = row.label else {
      // 0, and NaN where the logits are, as cross_entropy has it.
      for index in 0..<classes {
        gradient?[row.start + index * inner] =
          0 * sums.probability(input[row.start + index * inner])
      }
      return 0
    }
    let l = -sums.logProbability(input[row.start + label * inner])
    let (value, slope) = results(l < 0 ? 0 : l)
    guard let gradient else { return row.weight * value }
    let factor = row.scale * row.weight * slope
    for index in 0..<classes {
      let place = row.start + index * inner
      gradient[place] = factor * (index == label ? expm1(-l) : sums.probability(input[place]))
    }
    return row.weight * value
  }
}

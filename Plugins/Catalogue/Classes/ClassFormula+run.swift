import Glibc
import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// The scratch memory of some positions: what each one's gradient is multiplied by, cross entropies again, what
/// tells extremes, and cross_entropy's block.
struct FormulaBlock {
  let factors: UnsafeMutablePointer<Double>
  let unread: UnsafeMutablePointer<Double>
  /// What decides whether a position is the reference's to compute.
  let extremes: UnsafeMutablePointer<Double>
  var block: ClassBlock
  private static let headBytes = 3 * ClassBlock.positions * MemoryLayout<Double>.stride
  /// Elements of the rows between the loss and the gradient: what the second-level cache holds.
  private static let elementsMax = 128 << 10

  init(_ scratch: UnsafeMutableRawPointer) {
    factors = scratch.assumingMemoryBound(to: Double.self)
    unread = factors + ClassBlock.positions
    extremes = unread + ClassBlock.positions
    block = ClassBlock(scratch + FormulaBlock.headBytes)
  }

  static func bytes(_ input: TensorView, _ layout: ClassLayout) -> Int {
    headBytes + ClassBlock.headBytes
      + StridedRows.scratchBytes(
        size: layout.classes, isContiguous: layout.inner == 1,
        isDouble: input.dataType == .float64)
  }

  static func rows(_ layout: ClassLayout) -> Int {
    min(max(elementsMax / max(layout.classes, 1), 1), ClassBlock.positions)
  }
}

extension ClassFormula {
  /// The sum of the targets' weights, and whether the targets are in range.
  static func weigh(
    _ call: Call, _ state: ClassState, _ chunk: Chunk, _ target: TensorView
  ) throws(StatusError) {
    let weight = call.input(ClassPlaces.weight)
    var weights = CompensatedSum()
    for position in chunk.range {
      if let label = try label(call, state, target, position) {
        weights.add(weight.map { $0[label] } ?? 1)
      }
    }
    chunk.sums[Sums.weights] += weights.value
  }

  /// The class of a position, checked; nil for an ignored one.
  @inline(__always)
  static func label(
    _ call: Call, _ state: ClassState, _ target: TensorView, _ position: Int
  ) throws(StatusError) -> Int? {
    let label = target.integer(position)
    if label == call.attributes.int(ClassPlaces.ignoreIndex) { return nil }
    try checkLabel(label, position, target, state.layout.classes)
    return Int(label)
  }

  static func runVector(
    _ build: KernelBuild, _ call: Call, _ state: ClassState, _ chunk: Chunk, _ input: TensorView,
    _ target: TensorView
  ) throws(StatusError) {
    let formula = Self(call.attributes)
    var scratch = FormulaBlock(chunk.scratch)
    let tiles = Tiles(build, input)
    let gradient = call.output(ClassPlaces.gradient)
    let perPosition =
      Reduction(call.attributes) == .none ? call.output(ClassPlaces.loss) : nil
    let isStreamed = Streaming.isWorthwhile(input.count, input.dataType)
    var losses = CompensatedSum()
    var weights = CompensatedSum()
    try state.units.eachRun(chunk.range, limit: FormulaBlock.rows(state.layout)) {
      first, count throws(StatusError) in
      let weight = try scratch.block.setLabels(
        tiles.kernels, call, target, state.layout.classes, first, count)
      if !state.sumsWeightsFirst { weights.add(weight) }
      if gradient != nil {
        scratch.block.setScales(call, first, weightSum: call.totals[Sums.weights])
      }
      let block = scratch.block
      let start = state.layout.start(first)
      var rows = CrossEntropyRows(
        x: tiles.direct(input, start), gradient: nil,
        rows: state.units.layout(count, size: state.layout.classes), labels: block.labels,
        rowWeights: nil, scales: nil, scale: 1, losses: block.losses, classWeights: nil,
        classWeightSum: Double(state.layout.classes), smoothing: 0, scratch: block.kernelScratch,
        isStreamed: isStreamed)
      tiles.kernels.crossEntropy(&rows)
      let hasExtremes = formula.transform(scratch, tiles, hasGradient: gradient != nil)
      if let gradient {
        rows.gradient = tiles.direct(gradient, start)
        rows.scales = UnsafePointer(scratch.factors)
        rows.losses = scratch.unread
        tiles.kernels.crossEntropy(&rows)
        settleTargets(scratch, state, gradient, first)
      }
      if hasExtremes {
        for index in 0..<count where tiles.isExtreme(scratch.extremes[index]) {
          let label = Int(block.labels[index])
          let row = ClassRow(
            start: state.layout.start(first + index), label: label < 0 ? nil : label,
            weight: block.weight(index), scale: gradient == nil ? 0 : block.scale(index))
          block.losses[index] = formula.reference(call, state, input, row)
        }
      }
      block.finish(&losses, perPosition, first)
    }
    if gradient != nil { tiles.kernels.settle() }
    chunk.sums[Sums.losses] += losses.value
    chunk.sums[Sums.weights] += weights.value
  }

  /// From each position's cross entropy to its loss, and to what multiplies its gradient. Returns whether one is
  /// the reference's to compute.
  private func transform(_ scratch: FormulaBlock, _ tiles: Tiles, hasGradient: Bool) -> Bool {
    let block = scratch.block
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

  /// Writes the gradient of the logits of targets that are nearly certain, where the kernel's p - 1 has lost digits.
  private static func settleTargets(
    _ scratch: FormulaBlock, _ state: ClassState, _ gradient: TensorView, _ first: Int
  ) {
    for index in 0..<scratch.block.count {
      let (label, l) = (Int(scratch.block.labels[index]), scratch.unread[index])
      if label < 0 || !(l < 0.5) { continue }
      let place = state.layout.start(first + index) + label * state.layout.inner
      gradient[place] = scratch.factors[index] * expm1(-l)
    }
  }

  static func runReference(
    _ call: Call, _ state: ClassState, _ chunk: Chunk, _ input: TensorView, _ target: TensorView
  ) throws(StatusError) {
    let formula = Self(call.attributes)
    let reduction = Reduction(call.attributes)
    let weight = call.input(ClassPlaces.weight)
    var losses = CompensatedSum()
    var weights = CompensatedSum()
    for position in chunk.range {
      let label = try label(call, state, target, position)
      let w = label.map { label in weight.map { $0[label] } ?? 1 } ?? 0
      if !state.sumsWeightsFirst { weights.add(w) }
      let scale =
        call.wants(ClassPlaces.gradient)
        ? reduction.scale(
          call.input(ClassPlaces.upstream), position, weightSum: call.totals[Sums.weights]) : 0
      let loss = formula.reference(
        call, state, input,
        ClassRow(start: state.layout.start(position), label: label, weight: w, scale: scale))
      losses.add(loss)
      if reduction == .none { call.output(ClassPlaces.loss)?[position] = loss }
    }
    chunk.sums[Sums.losses] += losses.value
    chunk.sums[Sums.weights] += weights.value
  }

  /// Writes the gradient of a position and returns its loss, in float64.
  private func reference(
    _ call: Call, _ state: ClassState, _ input: TensorView, _ row: ClassRow
  ) -> Double {
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

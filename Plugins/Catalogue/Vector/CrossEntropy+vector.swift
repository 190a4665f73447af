import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// The weights of all classes, where smoothing needs them.
private struct ClassWeights {
  let weight: TensorView?
  let sum: Double
  let hasZero: Bool

  init(_ call: Call, _ classes: Int) {
    weight = call.attributes.float(ClassPlaces.smoothing) > 0 ? call.input(ClassPlaces.weight) : nil
    var total = CompensatedSum()
    var hasZero = false
    if let weight {
      for index in 0..<classes {
        total.add(weight[index])
        if weight[index] == 0 { hasZero = true }
      }
    }
    sum = weight == nil ? Double(classes) : total.value
    self.hasZero = hasZero
  }
}

extension CrossEntropyFunction {
  /// Whether the vector kernels compute this: all but smoothing in float64, which is left to the reference:
  /// over few positions its mean is to be within an ulp.
  static func isVector(_ call: Call, _ input: TensorView, _ layout: ClassLayout) -> Bool {
    guard Kernels.chosen != nil, layout.classes > 0, layout.classes <= Int(Int32.max) else {
      return false
    }
    return !hasLogits || input.dataType != .float64
      || call.attributes.float(ClassPlaces.smoothing) == 0
  }

  /// Bytes.
  static func vectorScratch(_ input: TensorView, _ layout: ClassLayout) -> Int {
    ClassBlock.headBytes
      + StridedRows.scratchBytes(
        size: layout.classes, isContiguous: layout.inner == 1,
        isDouble: input.dataType == .float64)
  }

  /// The sum of the targets' weights, and whether they are in range.
  static func weigh(
    _ build: KernelBuild, _ call: Call, _ state: ClassState, _ chunk: Chunk
  ) throws(StatusError) {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { return }
    var block = ClassBlock(chunk.scratch)
    var weights = CompensatedSum()
    for first in stride(
      from: chunk.range.lowerBound, to: chunk.range.upperBound, by: ClassBlock.positions)
    {
      let count = min(ClassBlock.positions, chunk.range.upperBound - first)
      weights.add(
        try block.setLabels(
          build.table(input.dataType), call, target, state.layout.classes, first, count))
    }
    chunk.sums[Sums.weights] += weights.value
  }

  static func runVector(
    _ build: KernelBuild, _ call: Call, _ state: ClassState, _ chunk: Chunk
  ) throws(StatusError) {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { return }
    var block = ClassBlock(chunk.scratch)
    let tiles = Tiles(build, input)
    let classWeights = hasLogits ? ClassWeights(call, state.layout.classes) : nil
    var losses = CompensatedSum()
    var weights = CompensatedSum()
    let perPosition = Reduction(call.attributes) == .none ? call.output(ClassPlaces.loss) : nil
    try state.units.eachRun(chunk.range, limit: ClassBlock.positions) {
      first, count throws(StatusError) in
      let weight = try block.setLabels(
        tiles.kernels, call, target, state.layout.classes, first, count)
      if !state.sumsWeightsFirst { weights.add(weight) }
      if call.wants(ClassPlaces.gradient) {
        block.setScales(call, first, weightSum: call.totals[Sums.weights])
      }
      guard let classWeights else {
        losses.add(likelihood(tiles, call, state, input, first, block))
        if let perPosition {
          for index in 0..<count { perPosition[first + index] = block.losses[index] }
        }
        return
      }
      evaluate(tiles, call, state, input, first, block, classWeights)
      settleExtremes(tiles, call, state, input, first, block, classWeights)
      block.finish(&losses, perPosition, first)
    }
    if call.wants(ClassPlaces.gradient) { tiles.kernels.settle() }
    chunk.sums[Sums.losses] += losses.value
    chunk.sums[Sums.weights] += weights.value
  }

  private static func likelihood(
    _ tiles: Tiles, _ call: Call, _ state: ClassState, _ input: TensorView, _ first: Int,
    _ block: ClassBlock
  ) -> Double {
    let start = state.layout.start(first)
    let isPerPosition = Reduction(call.attributes) == .none && call.wants(ClassPlaces.loss)
    var rows = LikelihoodRows(
      x: tiles.direct(input, start),
      gradient: call.output(ClassPlaces.gradient).map { tiles.direct($0, start) },
      rows: state.units.layout(block.count, size: state.layout.classes),
      labels: block.labels, rowWeights: UnsafePointer(block.weights),
      scales: UnsafePointer(block.scales), scale: block.scale,
      losses: isPerPosition ? block.losses : nil,
      isStreamed: Streaming.isWorthwhile(input.count, input.dataType))
    return tiles.kernels.likelihood(&rows)
  }

  private static func evaluate(
    _ tiles: Tiles, _ call: Call, _ state: ClassState, _ input: TensorView, _ first: Int,
    _ block: ClassBlock, _ classWeights: ClassWeights
  ) {
    let start = state.layout.start(first)
    var rows = CrossEntropyRows(
      x: tiles.direct(input, start),
      gradient: call.output(ClassPlaces.gradient).map { tiles.direct($0, start) },
      rows: state.units.layout(block.count, size: state.layout.classes),
      labels: block.labels, rowWeights: UnsafePointer(block.weights),
      scales: UnsafePointer(block.scales), scale: block.scale, losses: block.losses,
      classWeights: classWeights.weight.map { UnsafeRawPointer(tiles.direct($0, 0)) },
      classWeightSum: classWeights.sum, smoothing: call.attributes.float(ClassPlaces.smoothing),
      scratch: block.kernelScratch,
      isStreamed: Streaming.isWorthwhile(input.count, input.dataType))
    tiles.kernels.crossEntropy(&rows)
  }

  /// Leaves positions with infinities, NaN or an overflow to the reference.
  private static func settleExtremes(
    _ tiles: Tiles, _ call: Call, _ state: ClassState, _ input: TensorView, _ first: Int,
    _ block: ClassBlock, _ classWeights: ClassWeights
  ) {
    let wantsGradient = call.wants(ClassPlaces.gradient)
    // A weight of 0 may hide an overflow.
    if block.weights == nil && !block.hasExtremes(tiles, wantsGradient: wantsGradient) { return }
    for index in 0..<block.count {
      let label = Int(block.labels[index])
      let start = state.layout.start(first + index)
      let isExtreme =
        tiles.isExtreme(block.losses[index])
        || wantsGradient && tiles.isExtreme(block.scale(index))
        || tiles.isExtreme(classWeights.sum)
        || block.weight(index) == 0 && label >= 0
          && tiles.isExtreme(input[start + label * state.layout.inner])
        || classWeights.hasZero && hasExtremes(tiles, input, start, state.layout)
      if !isExtreme { continue }
      let row = ClassRow(
        start: start, label: label < 0 ? nil : label, weight: block.weight(index),
        scale: wantsGradient ? block.scale(index) : 0)
      block.losses[index] = logits(call, state, input, row)
    }
  }

  private static func hasExtremes(
    _ tiles: Tiles, _ input: TensorView, _ start: Int, _ layout: ClassLayout
  ) -> Bool {
    (0..<layout.classes).contains { tiles.isExtreme(input[start + $0 * layout.inner]) }
  }
}

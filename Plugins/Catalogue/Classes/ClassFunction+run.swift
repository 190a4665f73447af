import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

extension ClassFunction {
  static func run(_ call: Call, _ state: ClassState, _ chunk: Chunk) throws(StatusError) {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { return }
    let isWeighing = state.sumsWeightsFirst && chunk.pass == 0
    if isWeighing {
      try weigh(call, state, chunk, target)
    } else if let long = state.long {
      try runLong(call, state, long, chunk, input, target)
    } else if state.isCapped,
      try CappedLogits(call, state, input, chunk.scratch).runBlocks(state, chunk, target)
    {
      return
    } else if state.isVector, let kernels = Kernels.chosen {
      try runBlocks(kernels, call, state, chunk, input, target)
    } else {
      try runReference(call, state, chunk, target)
    }
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

  /// The sum of the targets' weights, and whether they are in range, one by one.
  static func weighEach(
    _ call: Call, _ state: ClassState, _ chunk: Chunk, _ target: TensorView
  ) throws(StatusError) {
    let weight = call.input(ClassPlaces.weight)
    let weights = ChunkTotal(chunk, Sums.weights)
    for position in chunk.range {
      if let label = try label(call, state, target, position) {
        weights.add(weight.map { $0[label] } ?? 1)
      }
    }
  }

  /// By the kernels.
  private static func runBlocks(
    _ build: KernelBuild, _ call: Call, _ state: ClassState, _ chunk: Chunk, _ input: TensorView,
    _ target: TensorView
  ) throws(StatusError) {
    let (loss, tiles) = (Self(call.attributes), Tiles(build, input))
    let (layout, gradient) = (state.layout, call.output(ClassPlaces.gradient))
    let perPosition =
      LossReduction(call.attributes) == .none ? call.output(ClassPlaces.loss) : nil
    var block = ClassBlock(chunk.scratch + headBytes)
    let weights = ChunkTotal(chunk, Sums.weights)
    try state.units.eachRun(chunk.range, limit: positionsTogether(layout)) {
      first, count throws(StatusError) in
      if state.hasProbabilities {
        block.setAll(count)
        weights.add(Double(count))
      } else {
        try block.setLabels(
          tiles.kernels, call, target, layout.classes, first, count,
          state.sumsWeightsFirst ? nil : weights)
      }
      if gradient != nil { block.setScales(call, first, weightSum: state.weightSum(call)) }
      let start = layout.start(first)
      var rows = RowCall(
        hasLogits ? .crossEntropy : .likelihood, x: tiles.direct(input, start),
        gradient: gradient.map { tiles.direct($0, start) },
        rows: state.units.layout(count, size: layout.classes),
        classes: RowClasses(
          labels: block.labels, rowWeights: UnsafePointer(block.weights),
          scales: UnsafePointer(block.scales), scale: block.scale,
          losses: block.losses),
        scratch: block.kernelScratch,
        isStreamed: Streaming.isWorthwhile(input.count, input.dataType))
      let work = ClassWork(
        call: call, state: state, input: input, tiles: tiles, block: block,
        scratch: chunk.scratch, first: first)
      loss.evaluate(&rows, work)
      block.finish(chunk, perPosition, first)
    }
    if gradient != nil { tiles.kernels.settle() }
  }

  /// One by one, in float64.
  private static func runReference(
    _ call: Call, _ state: ClassState, _ chunk: Chunk, _ target: TensorView
  ) throws(StatusError) {
    let (loss, reduction) = (Self(call.attributes), LossReduction(call.attributes))
    let weight = call.input(ClassPlaces.weight)
    let perPosition = reduction == .none ? call.output(ClassPlaces.loss) : nil
    let (losses, weights) = (ChunkTotal(chunk, Sums.losses), ChunkTotal(chunk, Sums.weights))
    // torch's smoothed part is over the number of classes: 0 / 0 without any, for ignored targets
    // and none at all, too.
    if state.isVoid { losses.add(.nan) }
    for position in chunk.range where position < state.layout.positions {
      let label = state.hasProbabilities ? nil : try label(call, state, target, position)
      let w = label.map { label in weight.map { $0[label] } ?? 1 } ?? 0
      if !state.sumsWeightsFirst { weights.add(w) }
      let scale =
        call.wants(ClassPlaces.gradient) && !state.hasProbabilities
        ? reduction.scale(
          call.input(ClassPlaces.upstream), position, weightSum: state.weightSum(call)) : 0
      let value = try loss.reference(
        call, state,
        ClassRow(
          position: position, start: state.layout.start(position), label: label, weight: w,
          scale: scale), chunk.scratch)
      losses.add(value)
      perPosition?[position] = value
    }
    if state.hasProbabilities && state.layout.classes > 0 {
      weights.add(Double(chunk.range.count))
    }
  }
}

extension ClassState {
  /// What a mean divides by, once it is known.
  func weightSum(_ call: Call) -> Double {
    hasProbabilities ? Double(layout.positions) : call.totals[Sums.weights]
  }
}

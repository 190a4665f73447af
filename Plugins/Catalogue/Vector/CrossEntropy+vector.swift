import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// Scratch of cross entropy's vector path: what the kernel wants to know of each position of a block, and
/// a tile for rows that have to be widened.
private struct Block {
  static let positions = 256
  static let headBytes = positions * (8 + 8 + 8 + 4)

  let losses: UnsafeMutablePointer<Double>
  let scales: UnsafeMutablePointer<Double>
  let weights: UnsafeMutablePointer<Double>
  let labels: UnsafeMutablePointer<Int32>
  let tile: UnsafeMutableRawPointer

  init(_ scratch: UnsafeMutableRawPointer) {
    losses = scratch.assumingMemoryBound(to: Double.self)
    scales = losses + Block.positions
    weights = scales + Block.positions
    labels = UnsafeMutableRawPointer(weights + Block.positions).assumingMemoryBound(to: Int32.self)
    tile = UnsafeMutableRawPointer(labels + Block.positions)
  }
}

/// The weights of all classes, where smoothing needs them.
private struct ClassWeights {
  let weight: TensorView?
  let sum: Double
  let hasZero: Bool

  init(_ call: Call, _ classes: Int) {
    weight = call.attributes.float(2) > 0 ? call.input(3) : nil
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

extension ClassLoss {
  /// Whether the vector kernels compute this: logits; with classes that are not the last dimension, or
  /// class weights for smoothing, of float32 or float64. Smoothing in float64 is left to the reference:
  /// over few positions its mean is to be within an ulp.
  static func isVector(_ call: Call, _ input: TensorView, _ layout: ClassLayout) -> Bool {
    guard hasLogits, Kernels.chosen != nil, layout.classes > 0, layout.classes <= Int(Int32.max)
    else { return false }
    if input.dataType == .float64 { return call.attributes.float(2) == 0 }
    if input.dataType == .float32 { return true }
    let needsWeights = call.input(3) != nil && call.attributes.float(2) > 0
    return layout.inner == 1 && !needsWeights
  }

  /// Bytes.
  static func vectorScratch(_ input: TensorView, _ layout: ClassLayout) -> Int {
    let isDirect = input.dataType == .float32 || input.dataType == .float64
    let tile = isDirect ? 0 : TileRows.capacity(layout.classes)
    return Block.headBytes + tile * MemoryLayout<Float>.size
  }

  static func runVector(
    _ build: KernelBuild, _ call: Call, _ state: ClassState, _ chunk: Chunk
  ) throws(StatusError) {
    guard let input = call.input(0), let target = call.input(1) else { return }
    let block = Block(chunk.scratch)
    let tiles = Tiles(build, input)
    let layout = state.layout
    let classWeights = ClassWeights(call, layout.classes)
    let limit =
      tiles.isDirect(input)
      ? Block.positions : min(Block.positions, TileRows.count(layout.classes))
    var losses = CompensatedSum()
    var weights = CompensatedSum()
    var position = chunk.range.lowerBound
    let perPosition = Reduction(call.attributes) == .none ? call.output(0) : nil
    while position < chunk.range.upperBound {
      var count = min(limit, chunk.range.upperBound - position)
      if layout.inner > 1 { count = min(count, layout.inner - position % layout.inner) }
      let weight = try describe(call, state, target, position, count, block)
      if !state.sumsWeightsFirst { weights.add(weight) }
      evaluate(tiles, call, state, input, position, count, block, classWeights)
      settleExtremes(tiles, call, state, input, position, count, block, classWeights)
      for index in 0..<count {
        losses.add(block.losses[index])
        perPosition?[position + index] = block.losses[index]
      }
      position += count
    }
    chunk.sums[0] += losses.value
    chunk.sums[1] += weights.value
  }

  /// Checks the targets of a block and fills in labels, weights and scales; returns the weights' sum.
  private static func describe(
    _ call: Call, _ state: ClassState, _ target: TensorView, _ position: Int, _ count: Int,
    _ block: Block
  ) throws(StatusError) -> Double {
    let ignored = call.attributes.int(1)
    let reduction = Reduction(call.attributes)
    let weight = call.input(3)
    let wantsGradient = call.wants(1)
    let upstream = call.input(2)
    var sum = 0.0
    for index in 0..<count {
      let label = target.integer(position + index)
      if label == ignored {
        block.labels[index] = -1
        block.weights[index] = 0
      } else {
        try checkLabel(label, position + index, target, state.layout.classes)
        block.labels[index] = Int32(truncatingIfNeeded: label)
        let w = weight.map { $0[Int(label)] } ?? 1
        block.weights[index] = w
        sum += w
      }
      if wantsGradient {
        block.scales[index] = reduction.scale(
          upstream, position + index, weightSum: call.totals[1])
        // An ignored row's gradient is 0 even where the scale is not a number.
        if block.labels[index] < 0 { block.scales[index] = 0 }
      }
    }
    return sum
  }

  /// Leaves positions with infinities, NaN or an overflow to the reference.
  private static func settleExtremes(
    _ tiles: Tiles, _ call: Call, _ state: ClassState, _ input: TensorView, _ position: Int,
    _ count: Int,
    _ block: Block, _ classWeights: ClassWeights
  ) {
    let wantsGradient = call.wants(1)
    for index in 0..<count {
      let label = Int(block.labels[index])
      let start = state.layout.start(position + index)
      let isExtreme =
        tiles.isExtreme(block.losses[index])
        || wantsGradient && tiles.isExtreme(block.scales[index])
        || tiles.isExtreme(classWeights.sum)
        // A weight of 0 may hide an overflow.
        || block.weights[index] == 0 && label >= 0
          && tiles.isExtreme(input[start + label * state.layout.inner])
        || classWeights.hasZero && hasExtremes(tiles, input, start, state.layout)
      if !isExtreme { continue }
      let row = Row(
        start: start, label: label < 0 ? nil : label, weight: block.weights[index],
        scale: wantsGradient ? block.scales[index] : 0)
      block.losses[index] = logits(call, state, input, row)
    }
  }

  private static func hasExtremes(
    _ tiles: Tiles, _ input: TensorView, _ start: Int, _ layout: ClassLayout
  ) -> Bool {
    (0..<layout.classes).contains { tiles.isExtreme(input[start + $0 * layout.inner]) }
  }

  private static func evaluate(
    _ tiles: Tiles, _ call: Call, _ state: ClassState, _ input: TensorView, _ position: Int,
    _ count: Int, _ block: Block, _ classWeights: ClassWeights
  ) {
    let layout = state.layout
    let start = layout.start(position)
    let elements = count * layout.classes
    let gradient = call.output(1)
    let x =
      layout.inner == 1
      ? tiles.read(input, start, elements, tile: block.tile)
      : UnsafeRawPointer(tiles.direct(input, start))
    var rows = CrossEntropyRows(
      x: x, gradient: gradient.map { tiles.target($0, start, tile: block.tile) },
      labels: UnsafePointer(block.labels), rowWeights: UnsafePointer(block.weights),
      scales: gradient == nil ? nil : UnsafePointer(block.scales), losses: block.losses,
      classWeights: classWeights.weight.map { UnsafeRawPointer(tiles.direct($0, 0)) },
      classWeightSum: classWeights.sum, smoothing: call.attributes.float(2), count: count,
      classes: layout.classes,
      step: layout.inner == 1 ? layout.classes : 1, stride: layout.inner)
    tiles.kernels.crossEntropy(&rows)
    if let gradient { tiles.commit(gradient, start, elements, tile: block.tile) }
  }
}

import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// Places in scratch memory for a block of each tensor that is not taken as it lies, and for sums of one.
enum ElementTile: Int {
  case input, target, weight, parameter, upstream, values, slopes, slopesOfTarget
  // Only of functions of three operands that have all gradients, and where gradients are summed.
  case slopesOfParameter, sums

  /// Those up to `last`. A call that is computed on a loop has 64 KiB.
  static func scratchBytes(to last: ElementTile) -> Int {
    (last.rawValue + 1) * Blocks.size * Tiles.elementBytes
  }

  @inline(__always)
  func place(_ scratch: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
    scratch + rawValue * Blocks.size * Tiles.elementBytes
  }
}

extension ElementFunction {
  static func run(
    _ call: Call, _ state: ElementState, _ chunk: Chunk
  ) throws(StatusError) {
    guard var tensors = ElementTensors(call, places) else { return }
    guard let shape = try reshaped(tensors) else { return try run(call, tensors, state, chunk) }
    try tensors.with(shape) { (tensors) throws(StatusError) in
      try run(call, tensors, state, chunk)
    }
  }

  private static func run(
    _ call: Call, _ tensors: ElementTensors, _ state: ElementState, _ chunk: Chunk
  ) throws(StatusError) {
    var (tensors, state) = (tensors, state)
    if !tensors.input.dataType.isFloatingPoint, let pieces = integers(call.attributes) {
      return pieces.run(
        tensors.input, tensors.values, Blocks.elements(chunk.range, of: state.count))
    }
    if let formula = formulaOfNumber, let number = tensors.target, number.count == 1,
      tensors.slopesOfTarget == nil
    {
      (state.formula, state.constants.a, tensors.target) = (formula, number[0], nil)
    }
    if chunk.pass == state.weights {
      sumWeights(tensors, chunk)
      return
    }
    // One upstream gradient for all is a part of the scale, whatever its type.
    let tiles = Tiles(
      tensors.input, tensors.target, tensors.isReduced ? nil : tensors.upstream, tensors.weight,
      tensors.parameter,
      // What is added up over repetitions, or subtracted from, is rounded once.
      isWide: state.isBroadcast || chunk.pass == state.slopesOfWeight)
    let weightSum =
      state.weights >= 0
      ? call.totals[Sums.weights]
      : tensors.reduction == .batchMean ? tensors.batch : Double(state.count)
    let scale = tensors.isReduced ? tensors.scale(0, weightSum: weightSum) : 1
    if state.isBroadcast {
      return try runBroadcast(call, tiles, tensors, state, chunk, scale)
    }
    let range = Blocks.elements(chunk.range, of: state.count)
    if range.isEmpty { return }
    if chunk.pass == state.slopesOfWeight {
      return writeSlopesOfWeight(call, tiles, tensors, state, chunk, weightSum: weightSum)
    }
    if !places.isLoss && isWhole(tiles, tensors) {
      runWhole(tiles, tensors, state, range)
      return
    }
    let block = ElementBlock(
      tiles, tensors, state, shape: tensors.input.shape, scale: scale, scratch: chunk.scratch)
    try runBlocks(block, range, chunk)
    if places.isLoss { addWeights(tensors, state, range, chunk) }
  }

  /// Adds up what a mean divides by.
  static func addWeights(
    _ tensors: ElementTensors, _ state: ElementState, _ range: Range<Int>, _ chunk: Chunk
  ) {
    if tensors.reduction == .batchMean {
      if range.lowerBound == 0 { chunk.add(tensors.batch, to: Sums.weights) }
    } else if state.weights < 0 {
      chunk.add(Double(range.count), to: Sums.weights)
    }
  }

  /// The loss of each element without its weight, less the whole loss where that is over the sum of the weights.
  private static func writeSlopesOfWeight(
    _ call: Call, _ tiles: Tiles, _ tensors: ElementTensors, _ state: ElementState, _ chunk: Chunk,
    weightSum: Double
  ) {
    guard let place = places.slopeOfWeight, let gradient = call.output(place) else { return }
    var tensors = tensors
    tensors.weight = nil
    let mean =
      weightRule == .meanOfWeights && tensors.reduction == .mean
      ? call.totals[Sums.losses] / weightSum : 0
    let block = ElementBlock(
      tiles, tensors, state, shape: tensors.input.shape, scale: 1, scratch: chunk.scratch)
    let values = ElementTile.values.place(chunk.scratch)
    let range = Blocks.elements(chunk.range, of: state.count)
    for begin in stride(from: range.lowerBound, to: range.upperBound, by: Blocks.size) {
      let count = min(Blocks.size, range.upperBound - begin)
      var elements = block.operands(begin, count)
      elements.values = values
      _ = tiles.kernels.elements(&elements)
      for index in 0..<count {
        gradient[begin + index] =
          tensors.scale(begin + index, weightSum: weightSum) * (tiles.get(values, index) - mean)
      }
    }
  }

  private static func sumWeights(_ tensors: ElementTensors, _ chunk: Chunk) {
    guard let weight = tensors.weight else { return }
    for index in Blocks.elements(chunk.range, of: weight.count) {
      chunk.add(weight[index], to: Sums.weights)
    }
  }

  /// Whether the kernels take all tensors as they lie.
  private static func isWhole(_ tiles: Tiles, _ tensors: ElementTensors) -> Bool {
    guard tiles.isDirect(tensors.input) else { return false }
    guard let target = tensors.target else { return true }
    return tiles.isDirect(target) && target.hasShape(tensors.input.shape)
      && tensors.values.map { tiles.isDirect($0) } ?? true
      && tensors.upstream.map { tiles.isDirect($0) } ?? true
  }

  /// An activation whose tensors are of one type, all of its elements at once.
  private static func runWhole(
    _ tiles: Tiles, _ tensors: ElementTensors, _ state: ElementState, _ range: Range<Int>
  ) {
    let begin = range.lowerBound
    var elements = ElementCall(
      state.formula, x: tiles.direct(tensors.input, begin),
      y: tensors.target.map { UnsafeRawPointer(tiles.direct($0, begin)) },
      upstream: tensors.upstream.map { UnsafeRawPointer(tiles.direct($0, begin)) },
      values: tensors.values.map { tiles.direct($0, begin) },
      slopes: tensors.slopes.map { tiles.direct($0, begin) },
      slopesOfY: tensors.slopesOfTarget.map { tiles.direct($0, begin) },
      constants: state.constants, count: range.count,
      isStreamed: Streaming.isWorthwhile(
        tensors.input.count, tensors.input.dataType, results: tensors.resultCount))
    _ = tiles.kernels.elements(&elements)
    if elements.isStreamed { tiles.kernels.settle() }
  }

  /// Writes what is wanted of these elements, block by block, and adds their losses up.
  static func runBlocks(
    _ block: ElementBlock, _ range: Range<Int>, _ chunk: Chunk
  ) throws(StatusError) {
    let (tiles, tensors, state) = (block.tiles, block.tensors, block.state)
    if hasExtremes && tensors.hasSlopes && tiles.isExtreme(block.scale) {
      return try runSingly(tensors, state, range, chunk)
    }
    let total = ChunkTotal(chunk, Sums.losses)
    // Where values are not written in place they are the losses, in the lanes' type.
    let losses = ElementTile.values.place(chunk.scratch)
    for begin in stride(from: range.lowerBound, to: range.upperBound, by: Blocks.size) {
      let count = min(Blocks.size, range.upperBound - begin)
      var elements = block.call(begin, count)
      if places.isLoss && elements.values != losses { elements.losses = losses }
      let part = tiles.kernels.elements(&elements)
      // A weight of 0 may hide an overflow from the sum. An element outside the domain has made the sum NaN.
      if hasExtremes,
        tiles.isExtreme(part) || elements.weight != nil && tiles.hasExtremes(elements.x, count)
          || elements.upstream.map({ tiles.hasExtremes($0, count) }) ?? false
      {
        try runSingly(tensors, state, begin..<begin + count, chunk)
        continue
      }
      if hasDomain && part.isNaN { try checkDomain(tensors, block.shape, begin..<begin + count) }
      if places.isLoss { total.add(losses, count, tiles.kernels, isDouble: tiles.isDouble) }
      block.commit(begin, count)
    }
    if block.isStreamed { tiles.kernels.settle() }
  }

  /// Refuses the first of these elements that is outside the function's domain.
  private static func checkDomain(
    _ tensors: ElementTensors, _ shape: UnsafeBufferPointer<Int64>, _ range: Range<Int>
  ) throws(StatusError) {
    func read(_ tensor: TensorView?, _ index: Int) -> Double {
      tensor.map { $0[$0.broadcastIndex(index, shape)] } ?? 0
    }
    for index in range {
      var element = ScalarElement(x: read(tensors.input, index), y: read(tensors.target, index))
      element.parameter = read(tensors.parameter, index)
      try check(element, index)
    }
  }

  /// Writes what is wanted of these elements, one by one in float64, and adds their losses up.
  private static func runSingly(
    _ tensors: ElementTensors, _ state: ElementState, _ range: Range<Int>, _ chunk: Chunk
  ) throws(StatusError) {
    let input = tensors.input
    let extremes = Extremes(input.dataType)
    var element = ScalarElement(x: 0)
    element.hasParameter = tensors.parameter != nil
    func read(_ tensor: TensorView?, _ index: Int, _ missing: Double) -> Double {
      guard let tensor else { return missing }
      return tensor[tensor.broadcastIndex(index, input.shape)]
    }
    for index in range {
      element.x = input[index]
      element.y = read(tensors.target, index, 0)
      try check(element, index)
      element.weight = read(tensors.weight, index, 1)
      element.parameter = read(tensors.parameter, index, 1)
      if tensors.hasSlopes {
        element.scale = tensors.scale(index, weightSum: Double(input.count))
      }
      let isExtreme = element.isExtreme(extremes)
      let results = (isExtreme ? extreme(element, extremes) : nil) ?? computed(element, state)
      if places.isLoss { chunk.add(results.value, to: Sums.losses) }
      tensors.values?[index] = results.value
      tensors.slopes?[index] = results.slope
      tensors.slopesOfTarget?[index] = results.slopeOfTarget
    }
  }

  /// The kernels' results of one element, in float64, with weight and scale. The fields of `ScalarResults` lie as they are
  /// declared.
  private static func computed(_ element: ScalarElement, _ state: ElementState) -> ScalarResults {
    var operands = (element.x, element.y, element.parameter, element.weight)
    var results = ScalarResults(value: 0, slope: 0)
    withUnsafeBytes(of: &operands) { operands in
      withUnsafeMutableBytes(of: &results) { results in
        // Neither is empty.
        let (x, value) = (
          operands.baseAddress.unsafelyUnwrapped, results.baseAddress.unsafelyUnwrapped
        )
        let step = MemoryLayout<Double>.stride
        var elements = ElementCall(
          state.formula, x: x, y: x + step, z: x + 2 * step, weight: x + 3 * step, values: value,
          slopes: value + step, slopesOfY: value + 2 * step, constants: state.constants,
          scale: element.scale, count: 1)
        _ = Kernels.baseline.float64.elements(&elements)
      }
    }
    return results
  }
}

import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// Places in scratch memory for a block of each tensor that is not taken as it lies.
enum ElementTile: Int, CaseIterable {
  case input, target, weight, parameter, upstream, values, slopes, slopesOfTarget

  static var scratchBytes: Int { 8 * Blocks.size * Tiles.elementBytes }

  @inline(__always)
  func place(_ scratch: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
    scratch + rawValue * Blocks.size * Tiles.elementBytes
  }
}

extension ElementFunction {
  static func run(
    _ call: Call, _ state: ElementState, _ chunk: Chunk
  ) throws(StatusError) {
    guard let tensors = ElementTensors(call, places) else { return }
    let range = Blocks.elements(chunk.range, of: state.count)
    if let build = Kernels.chosen, let formula = state.formula {
      if places.isLoss {
        chunk.sums[0] += try runLoss(build, formula, tensors, state, range, chunk.scratch)
      } else {
        runActivation(build, formula, tensors, state, range)
      }
    } else {
      let sum = try runReference(tensors, state, range)
      if places.isLoss { chunk.sums[0] += sum }
    }
    if places.isLoss { chunk.sums[1] += Double(range.count) }
  }

  /// All tensors of an activation are of one type, and lie alike.
  private static func runActivation(
    _ build: KernelBuild, _ formula: ElementFormulaID, _ tensors: ElementTensors,
    _ state: ElementState, _ range: Range<Int>
  ) {
    if range.isEmpty { return }
    let tiles = Tiles(build, tensors.input)
    let begin = range.lowerBound
    var elements = ElementCall(
      formula, x: tiles.direct(tensors.input, begin),
      upstream: tensors.upstream.map { UnsafeRawPointer(tiles.direct($0, begin)) },
      values: tensors.values.map { tiles.direct($0, begin) },
      slopes: tensors.slopes.map { tiles.direct($0, begin) }, constant: state.constant,
      count: range.count,
      isStreamed: Streaming.isWorthwhile(tensors.input.count, tensors.input.dataType))
    _ = tiles.kernels.elements(&elements)
    if elements.isStreamed { tiles.kernels.settle() }
  }

  /// Writes what is wanted of these elements, block by block, and returns the sum of their losses.
  private static func runLoss(
    _ build: KernelBuild, _ formula: ElementFormulaID, _ tensors: ElementTensors,
    _ state: ElementState, _ range: Range<Int>, _ scratch: UnsafeMutableRawPointer
  ) throws(StatusError) -> Double {
    guard let target = tensors.target else { return 0 }
    let input = tensors.input
    // One for all is a part of the scale, whatever its type.
    let upstream = tensors.isReduced ? nil : tensors.upstream
    let tiles = Tiles(build, input, target, upstream, tensors.weight, tensors.parameter)
    let scale = upstream == nil ? tensors.scale(0) : 1
    let hasSlopes = tensors.slopes != nil || tensors.slopesOfTarget != nil
    if hasSlopes && tiles.isExtreme(scale) { return try runReference(tensors, state, range) }
    let isStreamed = Streaming.isWorthwhile(state.count, input.dataType)
    var sum = CompensatedSum()
    for begin in stride(from: range.lowerBound, to: range.upperBound, by: Blocks.size) {
      let count = min(Blocks.size, range.upperBound - begin)
      func read(_ tensor: TensorView?, _ tile: ElementTile) -> UnsafeRawPointer? {
        tensor.map {
          tiles.readBroadcast($0, begin, count, input.shape, tile: tile.place(scratch))
        }
      }
      func goal(_ tensor: TensorView?, _ tile: ElementTile) -> UnsafeMutableRawPointer? {
        tensor.map { tiles.target($0, begin, tile: tile.place(scratch)) }
      }
      func commit(_ tensor: TensorView?, _ tile: ElementTile) {
        if let tensor { tiles.commit(tensor, begin, count, tile: tile.place(scratch)) }
      }
      let x = tiles.read(input, begin, count, tile: ElementTile.input.place(scratch))
      var elements = ElementCall(
        formula, x: x, y: read(target, .target), z: read(tensors.parameter, .parameter),
        weight: read(tensors.weight, .weight), upstream: read(upstream, .upstream),
        values: goal(tensors.values, .values), slopes: goal(tensors.slopes, .slopes),
        slopesOfY: goal(tensors.slopesOfTarget, .slopesOfTarget), constant: state.constant,
        scale: scale, count: count, isStreamed: isStreamed)
      let part = tiles.kernels.elements(&elements)
      // A weight of 0 may hide an overflow from the sum. An element outside the domain has made the sum NaN.
      if tiles.isExtreme(part) || elements.weight != nil && tiles.hasExtremes(x, count)
        || elements.upstream.map({ tiles.hasExtremes($0, count) }) ?? false
      {
        sum.add(try runReference(tensors, state, begin..<begin + count))
        continue
      }
      sum.add(part)
      commit(tensors.values, .values)
      commit(tensors.slopes, .slopes)
      commit(tensors.slopesOfTarget, .slopesOfTarget)
    }
    if isStreamed { tiles.kernels.settle() }
    return sum.value
  }

  /// Writes what is wanted of these elements, one by one in float64, and returns the sum of their losses.
  private static func runReference(
    _ tensors: ElementTensors, _ state: ElementState, _ range: Range<Int>
  ) throws(StatusError) -> Double {
    let input = tensors.input
    let extremes = Extremes(input.dataType)
    let hasSlopes = tensors.slopes != nil || tensors.slopesOfTarget != nil
    var element = ScalarElement(x: 0, constant: state.constant)
    element.hasParameter = tensors.parameter != nil
    func read(_ tensor: TensorView?, _ index: Int, _ missing: Double) -> Double {
      guard let tensor else { return missing }
      return tensor[tensor.broadcastIndex(index, input.shape)]
    }
    var sum = CompensatedSum()
    for index in range {
      element.x = input[index]
      element.y = read(tensors.target, index, 0)
      try check(element, index)
      element.weight = read(tensors.weight, index, 1)
      element.parameter = read(tensors.parameter, index, 1)
      if hasSlopes { element.scale = tensors.scale(index) }
      let results = results(element, extremes)
      if places.isLoss { sum.add(results.value) }
      tensors.values?[index] = results.value
      tensors.slopes?[index] = results.slope
      tensors.slopesOfTarget?[index] = results.slopeOfTarget
    }
    return sum.value
  }

  /// The results with weight and scale.
  @inline(__always)
  private static func results(_ element: ScalarElement, _ extremes: Extremes) -> ScalarResults {
    if element.isExtreme(extremes), let results = extreme(element, extremes) { return results }
    let plain = reference(element)
    let scale = element.scale * element.weight
    return ScalarResults(
      value: plain.value * element.weight, slope: plain.slope * scale,
      slopeOfTarget: plain.slopeOfTarget * scale)
  }
}

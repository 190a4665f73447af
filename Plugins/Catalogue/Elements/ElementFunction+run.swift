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
    if range.isEmpty { return }
    // One upstream gradient for all is a part of the scale, whatever its type.
    let tiles = Tiles(
      tensors.input, tensors.target, tensors.isReduced ? nil : tensors.upstream, tensors.weight,
      tensors.parameter)
    if places.isLoss {
      chunk.sums[0] += try runBlocks(tiles, tensors, state, range, chunk.scratch)
      chunk.sums[1] += Double(range.count)
    } else if tiles.isDirect(tensors.input) {
      runWhole(tiles, tensors, state, range)
    } else {
      _ = try runBlocks(tiles, tensors, state, range, chunk.scratch)
    }
  }

  /// An activation whose tensors are of one type, all of its elements at once.
  private static func runWhole(
    _ tiles: Tiles, _ tensors: ElementTensors, _ state: ElementState, _ range: Range<Int>
  ) {
    let begin = range.lowerBound
    var elements = ElementCall(
      state.formula, x: tiles.direct(tensors.input, begin),
      upstream: tensors.upstream.map { UnsafeRawPointer(tiles.direct($0, begin)) },
      values: tensors.values.map { tiles.direct($0, begin) },
      slopes: tensors.slopes.map { tiles.direct($0, begin) }, constants: state.constants,
      count: range.count,
      isStreamed: Streaming.isWorthwhile(tensors.input.count, tensors.input.dataType))
    _ = tiles.kernels.elements(&elements)
    if elements.isStreamed { tiles.kernels.settle() }
  }

  /// Writes what is wanted of these elements, block by block, and returns the sum of their losses.
  private static func runBlocks(
    _ tiles: Tiles, _ tensors: ElementTensors, _ state: ElementState, _ range: Range<Int>,
    _ scratch: UnsafeMutableRawPointer
  ) throws(StatusError) -> Double {
    let input = tensors.input
    let upstream = tensors.isReduced ? nil : tensors.upstream
    let scale = upstream == nil ? tensors.scale(0) : 1
    if hasExtremes && tensors.hasSlopes && tiles.isExtreme(scale) {
      return try runSingly(tensors, state, range)
    }
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
        state.formula, x: x, y: read(tensors.target, .target),
        z: read(tensors.parameter, .parameter), weight: read(tensors.weight, .weight),
        upstream: read(upstream, .upstream), values: goal(tensors.values, .values),
        slopes: goal(tensors.slopes, .slopes),
        slopesOfY: goal(tensors.slopesOfTarget, .slopesOfTarget), constants: state.constants,
        scale: scale, count: count, isStreamed: isStreamed)
      let part = tiles.kernels.elements(&elements)
      // A weight of 0 may hide an overflow from the sum. An element outside the domain has made the sum NaN.
      if hasExtremes,
        tiles.isExtreme(part) || elements.weight != nil && tiles.hasExtremes(x, count)
          || elements.upstream.map({ tiles.hasExtremes($0, count) }) ?? false
      {
        sum.add(try runSingly(tensors, state, begin..<begin + count))
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
  private static func runSingly(
    _ tensors: ElementTensors, _ state: ElementState, _ range: Range<Int>
  ) throws(StatusError) -> Double {
    let input = tensors.input
    let extremes = Extremes(input.dataType)
    var element = ScalarElement(x: 0)
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
      if tensors.hasSlopes { element.scale = tensors.scale(index) }
      let isExtreme = element.isExtreme(extremes)
      let results = (isExtreme ? extreme(element, extremes) : nil) ?? computed(element, state)
      sum.add(results.value)
      tensors.values?[index] = results.value
      tensors.slopes?[index] = results.slope
      tensors.slopesOfTarget?[index] = results.slopeOfTarget
    }
    return sum.value
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

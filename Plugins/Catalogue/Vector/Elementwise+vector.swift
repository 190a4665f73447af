import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

extension Sigmoid {
  static func isVector(_ input: TensorView) -> Bool {
    Kernels.chosen != nil && input.dataType.isFloatingPoint
  }

  static func runVector(_ build: KernelBuild, _ call: Call, _ chunk: Chunk) {
    guard let input = call.input(0) else { return }
    let tiles = Tiles(build, input)
    let elements = Blocks.elements(chunk.range, of: input.count)
    if elements.isEmpty { return }
    let begin = elements.lowerBound
    var sigmoid = SigmoidElements(
      x: tiles.direct(input, begin),
      upstream: call.input(1).map { UnsafeRawPointer(tiles.direct($0, begin)) },
      output: call.output(0).map { tiles.direct($0, begin) },
      gradient: call.output(1).map { tiles.direct($0, begin) }, count: elements.count,
      isStreamed: Streaming.isWorthwhile(input.count, input.dataType))
    tiles.kernels.sigmoid(&sigmoid)
    if sigmoid.isStreamed { tiles.kernels.settle() }
  }
}

extension BinaryLoss {
  private static var tileCount: Int { 7 }

  /// Whether the vector kernels compute this: all but the target's gradient.
  static func isVector(_ call: Call) -> Bool {
    Kernels.chosen != nil && !call.wants(2)
  }

  static var vectorScratch: Int { tileCount * Blocks.size * Tiles.elementBytes }

  static func runVector(
    _ build: KernelBuild, _ call: Call, _ state: BinaryState, _ chunk: Chunk
  ) throws(StatusError) {
    guard let input = call.input(0), let target = call.input(1) else { return }
    let reduction = Reduction(call.attributes)
    let losses = reduction == .none ? call.output(0) : nil
    let gradient = call.output(1)
    // One for all is a part of the scale, whatever its type.
    let upstream = reduction == .none ? call.input(2) : nil
    let tiles = Tiles(
      build, input, target, upstream, call.input(3), hasLogits ? call.input(4) : nil)
    let scale =
      upstream == nil ? reduction.scale(call.input(2), 0, weightSum: Double(state.count)) : 1
    let isStreamed = Streaming.isWorthwhile(state.count, input.dataType)
    let range = Blocks.elements(chunk.range, of: state.count)
    var sum = CompensatedSum()
    if gradient != nil && tiles.isExtreme(scale) {
      chunk.sums[0] += try runScalar(call, state, range)
      chunk.sums[1] += Double(range.count)
      return
    }
    for begin in stride(from: range.lowerBound, to: range.upperBound, by: Blocks.size) {
      let count = min(Blocks.size, range.upperBound - begin)
      func place(_ index: Int) -> UnsafeMutableRawPointer {
        chunk.scratch + index * Blocks.size * Tiles.elementBytes
      }
      func broadcast(_ tensor: TensorView?, _ index: Int) -> UnsafeRawPointer? {
        tensor.map { tiles.readBroadcast($0, begin, count, input.shape, tile: place(index)) }
      }
      let x = tiles.read(input, begin, count, tile: place(0))
      let y = tiles.read(target, begin, count, tile: place(1))
      var elements = BinaryElements(
        x: x, target: y, weight: broadcast(call.input(3), 2),
        posWeight: hasLogits ? broadcast(call.input(4), 3) : nil,
        losses: losses.map { tiles.target($0, begin, tile: place(4)) },
        gradient: gradient.map { tiles.target($0, begin, tile: place(5)) },
        upstream: upstream.map { tiles.read($0, begin, count, tile: place(6)) },
        scale: scale, count: count, isStreamed: isStreamed)
      let part =
        hasLogits
        ? tiles.kernels.binaryLogits(&elements) : tiles.kernels.binaryProbabilities(&elements)
      // A weight of 0 may hide an overflow from the sum. A probability outside [0, 1] has made it NaN.
      if tiles.isExtreme(part) || elements.weight != nil && tiles.hasExtremes(x, count)
        || elements.upstream.map({ tiles.hasExtremes($0, count) }) ?? false
      {
        sum.add(try runScalar(call, state, begin..<begin + count))
        continue
      }
      sum.add(part)
      if let losses { tiles.commit(losses, begin, count, tile: place(4)) }
      if let gradient { tiles.commit(gradient, begin, count, tile: place(5)) }
    }
    if isStreamed { tiles.kernels.settle() }
    chunk.sums[0] += sum.value
    chunk.sums[1] += Double(range.count)
  }
}

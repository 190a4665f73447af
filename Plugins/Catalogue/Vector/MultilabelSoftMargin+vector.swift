import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

extension MultilabelSoftMarginLoss {
  private static let tileCount = 6

  /// Whether the vector kernels compute this: whole rows that need no cutting, types that float32 holds,
  /// a target of input's shape, without its gradient.
  static func isVector(_ call: Call, _ state: State) -> Bool {
    guard Kernels.chosen != nil, !call.wants(2), state.pieces == 1, state.length > 0,
      state.length <= Blocks.size, let input = call.input(0), let target = call.input(1),
      target.hasShape(input.shape), target.dataType.isFloatingPoint
    else { return false }
    guard let weight = call.input(3) else { return true }
    return weight.dataType.isFloatingPoint && weight.broadcasts(to: input.shape)
  }

  static let vectorScratch = tileCount * Blocks.size * Tiles.elementBytes

  static func runVector(
    _ build: KernelBuild, _ call: Call, _ state: State, _ chunk: Chunk, _ input: TensorView,
    _ target: TensorView
  ) {
    let tiles = Tiles(build, input, target, call.input(2), call.input(3))
    func place(_ index: Int) -> UnsafeMutableRawPointer {
      chunk.scratch + index * Blocks.size * Tiles.elementBytes
    }
    let reduction = Reduction(call.attributes)
    let perRow = reduction == .none ? call.output(0) : nil
    let upstream = reduction == .none && call.wants(1) ? call.input(2) : nil
    let scale =
      upstream == nil
      ? reduction.scale(call.input(2), 0, weightSum: Double(state.positions)) / state.classes
      : 1 / state.classes
    let length = state.length
    let rows = Blocks.size / length
    var sum = CompensatedSum()
    var row = chunk.range.lowerBound
    while row < chunk.range.upperBound {
      let count = min(rows, chunk.range.upperBound - row)
      let (begin, elements) = (row * length, count * length)
      if let upstream {
        let above = place(5)
        for index in 0..<elements { tiles.set(above, index, upstream[row + index / length]) }
      }
      let gradient = call.output(1)
      var elementwise = BinaryElements(
        x: tiles.read(input, begin, elements, tile: place(0)),
        target: tiles.read(target, begin, elements, tile: place(1)),
        weight: call.input(3).map {
          tiles.readBroadcast($0, begin, elements, input.shape, tile: place(2))
        }, losses: perRow == nil ? nil : place(3),
        gradient: gradient.map { tiles.target($0, begin, tile: place(4)) },
        upstream: upstream == nil ? nil : UnsafeRawPointer(place(5)), scale: scale,
        isMultilabel: true, count: elements)
      let part = tiles.kernels.binaryLogits(&elementwise)
      // A weight of 0 may hide an overflow from the sum.
      if tiles.isExtreme(part) || gradient != nil && tiles.isExtreme(scale)
        || elementwise.weight != nil && tiles.hasExtremes(elementwise.x, elements)
        || elementwise.upstream.map({ tiles.hasExtremes($0, elements) }) ?? false
      {
        sum.add(runRows(call, state, row..<row + count, input, target))
        row += count
        continue
      }
      sum.add(part / state.classes)
      if let gradient { tiles.commit(gradient, begin, elements, tile: place(4)) }
      if let perRow {
        for index in 0..<count {
          var total = 0.0
          for element in 0..<length { total += tiles.get(place(3), index * length + element) }
          perRow[row + index] = total / state.classes
        }
      }
      row += count
    }
    chunk.sums[0] += sum.value
  }
}

import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

extension MultilabelSoftMarginLoss {
  private static let tileCount = 6

  /// Whether the vector kernels compute this: a target of input's shape, without its gradient, and a weight
  /// that does not enlarge them.
  static func isVector(_ call: Call, _ state: State) -> Bool {
    guard Kernels.chosen != nil, !call.wants(ClassPlaces.gradientOfLabels), state.length > 0,
      let input = call.input(ClassPlaces.input),
      let target = call.input(ClassPlaces.target), target.hasShape(input.shape),
      target.dataType.isFloatingPoint
    else { return false }
    guard let weight = call.input(ClassPlaces.weight) else { return true }
    return weight.dataType.isFloatingPoint && weight.broadcasts(to: input.shape)
  }

  static let vectorScratch = tileCount * Blocks.size * Tiles.elementBytes

  static func runVector(
    _ build: KernelBuild, _ call: Call, _ state: State, _ chunk: Chunk, _ input: TensorView,
    _ target: TensorView
  ) {
    let rows = VectorRows(build, call, state, chunk, input, target)
    if state.length <= Blocks.size {
      rows.runShort(chunk)
    } else {
      rows.runLong(chunk)
    }
    if rows.isStreamed { rows.tiles.kernels.settle() }
  }

  private struct VectorRows {
    let tiles: Tiles
    let isStreamed: Bool
    private let call: Call
    private let state: State
    private let input: TensorView
    private let target: TensorView
    private let scratch: UnsafeMutableRawPointer
    private let perRow: TensorView?
    /// An upstream gradient each row; nil: one for all, in `scale`.
    private let upstream: TensorView?
    private let scale: Double

    init(
      _ build: KernelBuild, _ call: Call, _ state: State, _ chunk: Chunk, _ input: TensorView,
      _ target: TensorView
    ) {
      (self.call, self.state, self.input, self.target) = (call, state, input, target)
      let reduction = LossReduction(call.attributes)
      // A row's losses are added up, and are not to be rounded to 16 bits before.
      // An upstream gradient for all is a part of the scale, whatever its type.
      tiles = Tiles(
        build, input, target, reduction == .none ? call.input(ClassPlaces.upstream) : nil,
        call.input(ClassPlaces.weight),
        isWide: reduction == .none)
      isStreamed = Streaming.isWorthwhile(input.count, input.dataType)
      scratch = chunk.scratch
      perRow = reduction == .none ? call.output(ClassPlaces.loss) : nil
      upstream =
        reduction == .none && call.wants(ClassPlaces.gradient)
        ? call.input(ClassPlaces.upstream) : nil
      scale =
        (upstream == nil
          ? reduction.scale(call.input(ClassPlaces.upstream), 0, weightSum: Double(state.positions))
          : 1)
        / state.classes
    }

    private func place(_ index: Int) -> UnsafeMutableRawPointer {
      scratch + index * Blocks.size * Tiles.elementBytes
    }

    /// Leaves the losses of some elements in tile 3, with their gradient; false where there are infinities,
    /// NaN or overflows, which are the reference's. `hasRowScales`: an upstream gradient each is in tile 5.
    private func compute(
      _ begin: Int, _ count: Int, scale: Double, hasRowScales: Bool
    ) -> Bool {
      let gradient = call.output(ClassPlaces.gradient)
      var elements = ElementCall(
        .binaryLogits, x: tiles.read(input, begin, count, tile: place(0)),
        y: tiles.read(target, begin, count, tile: place(1)),
        weight: call.input(ClassPlaces.weight).map {
          tiles.readBroadcast($0, begin, count, input.shape, tile: place(2))
        }, upstream: hasRowScales ? UnsafeRawPointer(place(5)) : nil,
        slopes: gradient.map { tiles.target($0, begin, tile: place(4)) }, scale: scale,
        count: count, isStreamed: isStreamed)
      elements.losses = place(3)
      let part = tiles.kernels.elements(&elements)
      // A weight of 0 may hide an overflow from the sum.
      if tiles.isExtreme(part) || gradient != nil && tiles.isExtreme(scale)
        || elements.weight != nil && tiles.hasExtremes(elements.x, count)
        || hasRowScales && tiles.hasExtremes(place(5), count)
      {
        return false
      }
      if let gradient { tiles.commit(gradient, begin, count, tile: place(4)) }
      return true
    }

    /// The sum of some of the losses in tile 3, always in the same order.
    private func sum(_ first: Int, _ count: Int) -> Double {
      let losses = UnsafeRawPointer(place(3))
      return tiles.isDouble
        ? fixedSum(losses.assumingMemoryBound(to: Double.self) + first, count)
        : fixedSum(losses.assumingMemoryBound(to: Float.self) + first, count)
    }

    /// Rows of at most a block: as many at a time as fit into one.
    func runShort(_ chunk: Chunk) {
      let length = state.length
      let rows = Blocks.size / length
      let total = ChunkTotal(chunk, Sums.losses)
      var row = chunk.range.lowerBound
      while row < chunk.range.upperBound {
        let count = min(rows, chunk.range.upperBound - row)
        let elements = count * length
        if let upstream {
          for index in 0..<elements { tiles.set(place(5), index, upstream[row + index / length]) }
        }
        if compute(row * length, elements, scale: scale, hasRowScales: upstream != nil) {
          // Where the input's copy was.
          let losses = place(0).assumingMemoryBound(to: Double.self)
          for index in 0..<count {
            losses[index] = sum(index * length, length) / state.classes
            perRow?[row + index] = losses[index]
          }
          total.add(losses, count)
        } else {
          runRows(call, state, row..<row + count, input, target, total)
        }
        row += count
      }
    }

    /// Longer rows, or pieces of them: block by block.
    func runLong(_ chunk: Chunk) {
      let partials = call.workspace(when: state.passes.mergedRows >= 0)
      let total = ChunkTotal(chunk, Sums.losses)
      for unit in chunk.range {
        let (position, piece) = unit.quotientAndRemainder(dividingBy: state.pieces)
        let range = Pieces.elements(piece, of: state.length)
        let start = position * state.length
        let unitScale = (upstream.map { $0[position] } ?? 1) * scale
        var part: CompensatedSum? = CompensatedSum()
        for begin in stride(from: range.lowerBound, to: range.upperBound, by: Blocks.size) {
          let count = min(Blocks.size, range.upperBound - begin)
          guard compute(start + begin, count, scale: unitScale, hasRowScales: false) else {
            part = nil
            break
          }
          part?.add(sum(0, count))
        }
        guard let part else {
          runRows(call, state, unit..<unit + 1, input, target, total)
          continue
        }
        total.add(part.value / state.classes)
        partials?[unit] = part.value
        if state.pieces == 1 { perRow?[position] = part.value / state.classes }
      }
    }
  }
}

import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// Rows of few classes that the kernels of cross_entropy compute together, in float64: where their logits are, and what is
/// known of each.
struct RowsBlock {
  /// Elements of the rows, and rows.
  private static let elements = 2048
  /// What `HingeBlock` may read and write behind the last row.
  private static let padding = 8
  private static let rowsMax = 128
  /// From here on, and of what is no number, the kernels need not be right.
  private static let extreme = 1e299

  let rows: Int
  let x: UnsafeMutablePointer<Double>
  /// A number for each element.
  let y: UnsafeMutablePointer<Double>
  let losses: UnsafeMutablePointer<Double>
  /// What each row's gradient is multiplied by.
  let factors: UnsafeMutablePointer<Double>
  /// A number for each row.
  let numbers: UnsafeMutablePointer<Double>
  let labels: UnsafeMutablePointer<Int32>
  private let kernelScratch: UnsafeMutableRawPointer

  /// Rows at once; 0 of so many classes that a row is worth a call of the kernels by itself.
  static func rows(_ classes: Int) -> Int {
    classes > elements / 8 ? 0 : min(elements / max(classes, 1), rowsMax)
  }

  static func bytes(_ classes: Int) -> Int {
    if rows(classes) == 0 { return 0 }
    return 2 * (elements + padding) * 8 + rowsMax * (3 * 8 + 4)
      + StridedRows.scratchBytes(size: classes, isContiguous: true, isDouble: true)
  }

  init(_ scratch: UnsafeMutableRawPointer, _ classes: Int) {
    rows = RowsBlock.rows(classes)
    x = scratch.assumingMemoryBound(to: Double.self)
    y = x + RowsBlock.elements + RowsBlock.padding
    losses = y + RowsBlock.elements + RowsBlock.padding
    factors = losses + RowsBlock.rowsMax
    numbers = factors + RowsBlock.rowsMax
    let ends = UnsafeMutableRawPointer(numbers + RowsBlock.rowsMax)
    labels = ends.assumingMemoryBound(to: Int32.self)
    kernelScratch = UnsafeMutableRawPointer(labels + RowsBlock.rowsMax)
  }

  /// Sets the losses, and makes `x` the gradients, where they are wanted; where a target is nearly certain its own has lost
  /// digits.
  func crossEntropy(_ kernels: KernelTable, _ count: Int, _ classes: Int, hasGradient: Bool) {
    var call = RowCall(
      .crossEntropy, x: x, gradient: hasGradient ? UnsafeMutableRawPointer(x) : nil,
      rows: StridedRows(count: count, size: classes, step: classes, stride: 1),
      classes: RowClasses(labels: labels, scales: factors, losses: losses),
      scratch: kernelScratch)
    kernels.rows(&call)
  }

  /// Makes `x` the logarithms of the probabilities.
  func logSoftmax(_ kernels: KernelTable, _ count: Int, _ classes: Int) {
    var call = RowCall(
      .logSoftmax, x: x, values: x,
      rows: StridedRows(count: count, size: classes, step: classes, stride: 1),
      scratch: kernelScratch)
    kernels.rows(&call)
  }

  /// Whether a row is not the kernels' to compute.
  func isExtreme(_ row: Int) -> Bool {
    !(losses[row].magnitude < RowsBlock.extreme && factors[row].magnitude < RowsBlock.extreme)
  }
}

/// A loss that evaluates rows of few classes together.
protocol BlockLoss: RowLoss {
  /// Writes the gradients of `count` rows from `work`'s on, whose factors are in the block, and leaves their losses there.
  /// Rows that `RowsBlock.isExtreme` tells are evaluated again, one by one.
  func evaluate(
    _ kernels: KernelTable, _ work: RowWork, _ block: RowsBlock, _ count: Int
  ) throws(StatusError)
}

extension BlockLoss {
  static func scratchBytes(classes: Int) -> Int { RowsBlock.bytes(classes) }

  static func run(_ call: Call, _ state: RowsState, _ chunk: Chunk) throws(StatusError) {
    guard RowsBlock.rows(state.classes) > 1, let kernels = Kernels.chosen?.float64,
      let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { return try runRows(call, state, chunk) }
    let formula = try Self(call.attributes)
    let reduction = LossReduction(call.attributes)
    let gradient = call.output(ClassPlaces.gradient)
    let weight = hasWeight ? call.input(ClassPlaces.weight) : nil
    let perRow = reduction == .none ? call.output(ClassPlaces.loss) : nil
    let block = RowsBlock(
      chunk.scratch + RowWork.blockBytes(state.classes), state.classes)
    func scale(_ row: Int) -> Double {
      gradient == nil
        ? 0
        : reduction.scale(call.input(ClassPlaces.upstream), row, weightSum: Double(state.rows))
    }
    let losses = ChunkTotal(chunk, Sums.losses)
    for first in stride(from: chunk.range.lowerBound, to: chunk.range.upperBound, by: block.rows) {
      let count = min(block.rows, chunk.range.upperBound - first)
      for index in 0..<count { block.factors[index] = scale(first + index) }
      let work = RowWork(
        call: call, input: input, target: target, weight: weight, gradient: gradient, row: first,
        classes: state.classes, start: first * state.classes, scale: 1, scratch: chunk.scratch)
      try formula.evaluate(kernels, work, block, count)
      for index in 0..<count where block.isExtreme(index) {
        block.losses[index] = try formula.evaluate(
          RowWork(
            call: call, input: input, target: target, weight: weight, gradient: gradient,
            row: first + index, classes: state.classes, start: (first + index) * state.classes,
            scale: scale(first + index), scratch: chunk.scratch))
      }
      losses.add(block.losses, count)
      guard let perRow else { continue }
      for index in 0..<count { perRow[first + index] = block.losses[index] }
    }
    chunk.add(Double(chunk.range.count), to: Sums.weights)
  }
}

import Glibc
import LossdKernels
import LossdPluginKit
import LossdTensor

/// The passes of one call, -1 for one that is not needed: the rows; the merging of rows that are cut;
/// then, for each tensor that was repeated, its gradient's partial sums and their merging.
struct MultilabelPasses: BitwiseCopyable {
  var rows = -1
  var mergedRows = -1
  var inputSums = -1
  var mergedInput = -1
  var targetSums = -1
  var mergedTarget = -1

  init() {}

  init(_ call: Call, _ plan: inout Plan, _ state: MultilabelSoftMarginLoss.State) {
    let cost = state.isVector ? 2.0 : 60.0
    let broadcasting = broadcastCost(rank: state.space.rank)
    rows = plan.addPass(
      units: state.isOneForAll ? 1 : state.positions * state.pieces,
      unitCost: 40 + broadcasting + cost * Double(min(state.length, Pieces.size)))
    var partials = 0
    let isPerRow = LossReduction(call.attributes) == .none && call.wants(ClassPlaces.loss)
    if isPerRow && state.pieces > 1 {
      partials = state.positions * state.pieces
      mergedRows = plan.addPass(units: state.positions, unitCost: 10 * Double(state.pieces))
    }
    for operand in 0...1 where call.wants(1 + operand) {
      guard let tensor = call.input(operand), !state.space.isWhole(tensor) else { continue }
      let repeats = state.space.count / max(tensor.count, 1)
      let pieces = Pieces.count(repeats)
      let sums = plan.addPass(
        units: tensor.count * pieces,
        unitCost: 40 + (2 * cost + 2 * broadcasting) * Double(min(repeats, Pieces.size)))
      let merged = plan.addPass(units: tensor.count, unitCost: 10 * Double(pieces))
      // One after the other, so that all may use the same memory.
      partials = max(partials, tensor.count * pieces)
      if operand == 0 { (inputSums, mergedInput) = (sums, merged) }
      if operand == 1 { (targetSums, mergedTarget) = (sums, merged) }
    }
    plan.setWorkspace(doubles: partials)
  }
}

extension MultilabelSoftMarginLoss {
  static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { return }
    let passes = state.passes
    switch chunk.pass {
    case passes.rows:
      if state.isVector, let kernels = Kernels.chosen {
        runVector(kernels, call, state, chunk, input, target)
      } else {
        runRows(call, state, chunk.range, input, target, ChunkTotal(chunk, Sums.losses))
      }
      if state.isOneForAll {
        chunk.add(Double(state.positions), to: Sums.weights)
        return
      }
      // A row counts once, with its first piece.
      let rows = (chunk.range.upperBound + state.pieces - 1) / state.pieces
      chunk.add(
        Double(rows - (chunk.range.lowerBound + state.pieces - 1) / state.pieces),
        to: Sums.weights)
    case passes.mergedRows:
      guard let loss = call.output(ClassPlaces.loss) else { return }
      merge(call, chunk, loss, pieces: state.pieces, divisor: state.classes)
    case passes.inputSums: try sumGradient(call, state, chunk, 0, input, target)
    case passes.targetSums: try sumGradient(call, state, chunk, 1, input, target)
    case passes.mergedInput, passes.mergedTarget:
      let operand = chunk.pass == passes.mergedInput ? 0 : 1
      guard let tensor = call.input(operand), let gradient = call.output(1 + operand) else {
        return
      }
      let pieces = Pieces.count(state.space.count / max(tensor.count, 1))
      merge(call, chunk, gradient, pieces: pieces, divisor: 1)
    default: return
    }
  }

  /// Writes what is wanted of these units, and adds their losses up.
  static func runRows(
    _ call: Call, _ state: State, _ units: Range<Int>, _ input: TensorView, _ target: TensorView,
    _ losses: ChunkTotal
  ) {
    let extremes = Extremes(input.dataType)
    let reduction = LossReduction(call.attributes)
    let weight = call.input(ClassPlaces.weight)
    let perRow = reduction == .none ? call.output(ClassPlaces.loss) : nil
    let gradient = state.passes.inputSums < 0 ? call.output(ClassPlaces.gradient) : nil
    let targetGradient =
      state.passes.targetSums < 0 ? call.output(ClassPlaces.gradientOfLabels) : nil
    let partials = call.workspace(when: state.passes.mergedRows >= 0)
    let space = state.space
    for unit in units {
      let (position, piece) = unit.quotientAndRemainder(dividingBy: state.pieces)
      let base = space.offsets(position) { $0 != state.axis }
      let scale =
        reduction.scale(
          call.input(ClassPlaces.upstream), position, weightSum: Double(state.positions))
        / state.classes
      var sum = CompensatedSum()
      for index in Pieces.elements(piece, of: state.length) {
        let place = base[0] + index * space.strides[0][state.axis]
        let targetPlace = base[1] + index * space.strides[1][state.axis]
        let w = weight.map { $0[base[2] + index * space.strides[2][state.axis]] } ?? 1
        let result = MultilabelElement(
          x: input[place], y: target[targetPlace], complement: target.complement(targetPlace),
          weight: w, scale: scale
        ).result(extremes)
        sum.add(result.loss)
        gradient?[place] = result.gradient
        targetGradient?[targetPlace] = result.targetGradient
      }
      losses.add(sum.value / state.classes)
      partials?[unit] = sum.value
      if state.pieces == 1 { perRow?[position] = sum.value / state.classes }
    }
  }

  /// Partial sums of the gradient of a tensor that was repeated, over pieces of the repetitions.
  private static func sumGradient(
    _ call: Call, _ state: State, _ chunk: Chunk, _ operand: Int, _ input: TensorView,
    _ target: TensorView
  ) throws(StatusError) {
    guard let partials = call.workspace(when: true), let tensor = call.input(operand) else {
      return
    }
    let space = state.space
    let repeats = space.count / max(tensor.count, 1)
    let pieces = Pieces.count(repeats)
    let weight = call.input(ClassPlaces.weight)
    let reduction = LossReduction(call.attributes)
    let extremes = Extremes(input.dataType)
    let axisStride = (state.axis + 1..<space.rank).reduce(1) { $0 * space.shape[$1] }
    for unit in chunk.range {
      let (element, piece) = unit.quotientAndRemainder(dividingBy: pieces)
      let base = space.offsets(element) { space.strides[operand][$0] != 0 }
      var sum = CompensatedSum()
      for index in Pieces.elements(piece, of: repeats) {
        // 64 dimensions make an element take microseconds.
        if index % 1024 == 0 { try call.checkCancelled() }
        let more = space.offsets(index) { space.strides[operand][$0] == 0 }
        let (place, targetPlace) = (base[0] + more[0], base[1] + more[1])
        let w = weight.map { $0[base[2] + more[2]] } ?? 1
        let flat = space.flatIndex(operand, element, index)
        let position = flat / (axisStride * state.length) * axisStride + flat % axisStride
        let scale =
          reduction.scale(
            call.input(ClassPlaces.upstream), position, weightSum: Double(state.positions))
          / state.classes
        let result = MultilabelElement(
          x: input[place], y: target[targetPlace], complement: target.complement(targetPlace),
          weight: w, scale: scale
        ).result(extremes)
        sum.add(operand == 0 ? result.gradient : result.targetGradient)
      }
      partials[unit] = sum.value
    }
  }

  private static func merge(
    _ call: Call, _ chunk: Chunk, _ output: TensorView, pieces: Int, divisor: Double
  ) {
    guard let partials = call.workspace(when: true) else { return }
    for unit in chunk.range {
      var sum = CompensatedSum()
      for piece in 0..<pieces { sum.add(partials[unit * pieces + piece]) }
      output[unit] = sum.value / divisor
    }
  }
}

/// One element of multilabel_soft_margin_loss, before the division by the number of classes.
private struct MultilabelElement {
  var x: Double
  var y: Double
  /// 1 - y, in the target's type.
  var complement: Double
  var weight: Double
  var scale: Double

  typealias Result = (loss: Double, gradient: Double, targetGradient: Double)

  @inline(__always)
  func result(_ extremes: Extremes) -> Result {
    if extremes.contains(x) || extremes.contains(y) || extremes.contains(weight)
      || extremes.contains(scale)
    {
      return extreme(extremes)
    }
    let small = exp(-x.magnitude)
    let (high, low) = (1 / (1 + small), small / (1 + small))
    let softplus = log1p(small)  // of -|x|
    let (above, below) = x >= 0 ? (high, low) : (low, high)
    let scale = scale * weight
    return (
      weight * (y * (softplus + max(-x, 0)) + complement * (softplus + max(x, 0))),
      scale * (complement * above - y * below), -scale * x
    )
  }

  /// torch's operations in torch's order, forwards and backwards.
  private func extreme(_ round: Extremes) -> Result {
    let (positive, negative) = (round(logSigmoid(x)), round(logSigmoid(-x)))
    let loss = -round(round(y * positive) + round(complement * negative))
    let slope = -round(scale * weight)
    let gradient =
      round(round(slope * y) * logistic(-x)) - round(round(slope * complement) * logistic(x))
    return (
      round(loss * weight), round(gradient), round(slope * positive) - round(slope * negative)
    )
  }
}

extension TensorView {
  /// 1 less this element, in its own type: torch's 1 - target wraps around where the type does.
  @inline(__always)
  fileprivate func complement(_ index: Int) -> Double {
    if dataType.isFloatingPoint { return 1 - self[index] }
    let exact = 1 &- integer(index)
    switch dataType {
    case .int64: return Double(exact)
    case .int32: return Double(Int32(truncatingIfNeeded: exact))
    case .int16: return Double(Int16(truncatingIfNeeded: exact))
    case .int8: return Double(Int8(truncatingIfNeeded: exact))
    default: return Double(UInt8(truncatingIfNeeded: exact))
    }
  }
}

extension Call {
  /// The workspace as float64, nil unless asked for.
  func workspace(when isNeeded: Bool) -> UnsafeMutablePointer<Double>? {
    isNeeded ? workspace.assumingMemoryBound(to: Double.self) : nil
  }
}

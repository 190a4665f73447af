import Glibc
import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// The negative log likelihood of class indices, of log-probabilities or of logits.
protocol CrossEntropyFunction: ClassFunction {
  init(smoothing: Double)
}

/// -log softmax(input)[target], or -sum(target * log softmax(input)) where the target has the shape
/// of the input; torch.nn.functional.cross_entropy.
struct CrossEntropy: CrossEntropyFunction {
  static let name = "cross_entropy"
  static let summary = "-log softmax(input)[target]"
  static let hasLogits = true
  static var attributes: [AttributeDeclaration] {
    [
      AttributeDeclaration(
        "label_smoothing", .float, default: .float(0), minimum: .float(0), maximum: .float(1),
        help: "share of the target given to all classes alike")
    ] + CappedLogits.attributes
  }
  static var declaration: FunctionDeclaration {
    declare(
      input: inputDeclaration,
      target: InputDeclaration(
        "target", indexTypes + floatTypes, isRequired: true, batching: .rows,
        help:
          "class indices: input without its classes, () or (1) for (C); or probabilities: like input"
      ),
      weight: InputDeclaration(
        "weight", DataType.allCases, isKept: true, help: "(C), of input's type with class indices"),
      more: [OutputDeclaration("grad.target", hasRows: true, help: "gradient of probabilities")])
  }

  let smoothing: Double
}

/// -input[target]; torch.nn.functional.nll_loss.
struct NLLLoss: CrossEntropyFunction {
  static let name = "nll_loss"
  static let summary = "-input[target]"
  static let hasLogits = false
  static let attributes: [AttributeDeclaration] = []
  static var declaration: FunctionDeclaration {
    declare(
      input: inputDeclaration,
      target: InputDeclaration(
        "target", indexTypes, isRequired: true, batching: .rows,
        help: "class indices: input without its classes, () or (1) for (C)"),
      weight: InputDeclaration(
        "weight", floatTypes, isKept: true, help: "(C), of input's type with class indices"))
  }

  let smoothing: Double
}

extension CrossEntropyFunction {
  /// Elements of the gradient that one unit of work writes at most: some 2 ms.
  private static var gradientElementsMax: Int { 1 << 22 }

  init(_ attributes: Attributes) {
    self.init(smoothing: Self.hasLogits ? attributes.float(ClassPlaces.smoothing) : 0)
  }

  fileprivate static var inputDeclaration: InputDeclaration {
    InputDeclaration(
      "input", floatTypes, isRequired: true, batching: .rows, isClasses: true,
      help: "(C), (N, C) or (N, C, d1, ..., dk)")
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> ClassState {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { throw invalid("no input") }
    let layout = try ClassLayout(input)
    if hasLogits && target.hasShape(input.shape) {
      return try planProbabilities(call, &plan, layout)
    }
    if call.wants(ClassPlaces.gradientOfProbabilities) {
      throw invalid("target is \(target.description): class indices have no gradient")
    }
    guard indexTypes.contains(target.dataType) else {
      throw invalid(
        "target is \(target.description), expected class indices, or probabilities of input's "
          + "shape \(shapeText(input.shape))")
    }
    var state = try planIndices(call, &plan, layout)
    state.isCapped = hasLogits && CappedLogits.areWanted(call.attributes)
    if state.isCapped { try CappedLogits.check(call) }
    state.isVoid = layout.classes == 0 && Self(call.attributes).smoothing > 0
    planPasses(call, &plan, input, &state)
    return state
  }

  static func costs(_ call: Call, _ input: TensorView) -> ClassCosts {
    ClassCosts(
      element: hasLogits ? 1 : call.wants(ClassPlaces.gradient) ? 0.2 : 0, row: 5,
      reference: 20
        + (hasLogits ? 30 * Double(input.size(input.rank == 1 ? 0 : 1)) : 0), settled: 2,
      gradient: ClassCosts.block(input) + 20 * Double(LongLayout.blockElements))
  }

  /// Whether the vector kernels compute this: all but smoothing in float64, which is left to the
  /// reference: over few positions its mean is to be within an ulp.
  static func isVector(_ call: Call, _ input: TensorView, _ layout: ClassLayout) -> Bool {
    guard Kernels.chosen != nil, layout.classes > 0, layout.classes <= Int(Int32.max) else {
      return false
    }
    if !hasLogits { return !(call.wants(ClassPlaces.gradient) && hasLongGradientRows(layout)) }
    return !CappedLogits.areWanted(call.attributes)
      && (input.dataType != .float64 || Self(call.attributes).smoothing == 0)
  }

  /// Whether a unit of the kernels' work would write so much of the gradient of the likelihood that
  /// nobody could stop it meanwhile. The host clears such a gradient in pieces, and the reference
  /// writes what is not 0.
  private static func hasLongGradientRows(_ layout: ClassLayout) -> Bool {
    if layout.positions == 0 { return false }
    let rows = layout.inner == 1 ? 1 : min(layout.inner, StridedRows.tileRows(size: layout.classes))
    return layout.classes > gradientElementsMax / rows
  }

  /// The sum of the targets' weights, and whether they are in range.
  static func weigh(
    _ call: Call, _ state: ClassState, _ chunk: Chunk, _ target: TensorView
  ) throws(StatusError) {
    guard state.isVector, let build = Kernels.chosen, let input = call.input(ClassPlaces.input)
    else { return try weighEach(call, state, chunk, target) }
    var block = ClassBlock(chunk.scratch)
    let weights = ChunkTotal(chunk, Sums.weights)
    for first in stride(
      from: chunk.range.lowerBound, to: chunk.range.upperBound, by: ClassBlock.positions)
    {
      let count = min(ClassBlock.positions, chunk.range.upperBound - first)
      try block.setLabels(
        build.table(input.dataType), call, target, state.layout.classes, first, count, weights)
    }
  }

  func evaluate(_ rows: inout RowCall, _ work: ClassWork) {
    let kernels = work.tiles.kernels
    if work.state.hasProbabilities {
      return evaluateProbabilities(&rows, work)
    }
    if !Self.hasLogits { return kernels.rows(&rows) }
    let weights = ClassWeights(
      smoothing > 0 ? work.call.input(ClassPlaces.weight) : nil, work.state.layout.classes)
    rows.classes.weights = weights.weight.map { UnsafeRawPointer(work.tiles.direct($0, 0)) }
    (rows.classes.weightSum, rows.classes.smoothing) = (weights.sum, smoothing)
    kernels.rows(&rows)
    settleExtremes(work, weights)
  }

  /// Leaves positions with infinities, NaN or an overflow to the reference.
  private func settleExtremes(_ work: ClassWork, _ weights: ClassWeights) {
    let (block, tiles, layout) = (work.block, work.tiles, work.state.layout)
    // A weight of 0 may hide an overflow.
    if block.weights == nil && !block.hasExtremes(tiles, wantsGradient: work.wantsGradient) {
      return
    }
    for index in 0..<block.count {
      let row = work.row(index)
      func isExtreme(_ index: Int) -> Bool {
        tiles.isExtreme(work.input[row.start + index * layout.inner])
      }
      let isExtreme =
        tiles.isExtreme(block.losses[index])
        || work.wantsGradient && tiles.isExtreme(row.scale) || tiles.isExtreme(weights.sum)
        || row.weight == 0 && row.label.map(isExtreme) ?? false
        || weights.hasZero && (0..<layout.classes).contains(where: isExtreme)
      if isExtreme { block.losses[index] = logits(work.call, work.state, work.input, row) }
    }
  }

  func reference(
    _ call: Call, _ state: ClassState, _ row: ClassRow, _ scratch: UnsafeMutableRawPointer
  ) throws(StatusError) -> Double {
    guard let input = call.input(ClassPlaces.input) else { return 0 }
    if state.isVoid { return .nan }
    if state.hasProbabilities { return ProbabilityPosition(call, state).evaluate(row.position) }
    if state.isCapped && state.layout.classes > 0 {
      return try CappedLogits(call, state, input, scratch).evaluate(row)
    }
    return Self.hasLogits
      ? logits(call, state, input, row) : likelihood(call, state, input, row)
  }

  private func likelihood(
    _ call: Call, _ state: ClassState, _ input: TensorView, _ row: ClassRow
  ) -> Double {
    guard let label = row.label else { return 0 }
    let index = row.start + label * state.layout.inner
    call.output(ClassPlaces.gradient)?[index] = -row.weight * row.scale
    return -row.weight * input[index]
  }

  /// Writes the gradient of a position of logits and returns its loss.
  private func logits(
    _ call: Call, _ state: ClassState, _ input: TensorView, _ row: ClassRow
  ) -> Double {
    let (classes, inner) = (state.layout.classes, state.layout.inner)
    let weight = call.input(ClassPlaces.weight)
    let extremes = Extremes(input.dataType)
    let sums = LogSumExp(count: classes) { input[row.start + $0 * inner] }
    var loss = 0.0
    // Also of an ignored row: torch multiplies its zeros by the weights, which an infinity spoils.
    var weightSum = 0.0
    if smoothing > 0 {
      for index in 0..<classes { weightSum += weight.map { $0[index] } ?? 1 }
    }
    if let label = row.label {
      let picked = extremes.overflowing(sums.logProbability(input[row.start + label * inner]))
      loss = (1 - smoothing) * extremes.overflowing(-row.weight * picked)
      if smoothing > 0 {
        var smooth = CompensatedSum()
        for index in 0..<classes {
          let w = weight.map { $0[index] } ?? 1
          let logarithm = extremes.overflowing(
            sums.logProbability(input[row.start + index * inner]))
          smooth.add(-w * logarithm)
        }
        loss += smoothing / Double(classes) * extremes.overflowing(smooth.value)
      }
    }
    guard let gradient = call.output(ClassPlaces.gradient) else { return loss }
    let kept = (1 - smoothing) * row.weight * row.scale
    let spread = smoothing / Double(classes) * row.scale
    let isExtreme = extremes.contains(kept) || extremes.contains(spread * weightSum)
    for index in 0..<classes {
      let p = sums.probability(input[row.start + index * inner])
      // An ignored row: 0, and NaN where its logits are.
      var g = 0 * p + 0 * weightSum
      if let label = row.label {
        if isExtreme {
          // torch's way: what comes back to the logarithms, less p times its sum.
          let share = (index == label ? kept : 0) + spread * (weight.map { $0[index] } ?? 1)
          g = p * (kept + spread * weightSum) - share
        } else {
          g = kept * (index == label ? p - 1 : p)
          if smoothing > 0 { g += spread * (p * weightSum - (weight.map { $0[index] } ?? 1)) }
        }
      }
      gradient[row.start + index * inner] = g
    }
    return loss
  }

  func settle(
    _ row: inout RowState, logProbability: Double, weight: Double, _ extremes: Extremes
  ) -> Double {
    let picked = extremes.overflowing(logProbability)
    // The gradient wants the sum of shares; the loss is kept for the last pass.
    row.loss = (1 - smoothing) * extremes.overflowing(-weight * picked)
    return row.loss
  }

  func differentiate<T: LongElement>(_ column: LongColumn<T>, _ shares: ClassShares) {
    let (row, y, first) = (column.row, column.y, column.block.first)
    guard shares.isKept(column.position) else {
      // 0, and NaN where the logits are, or weights that torch multiplies by 0.
      column.writeProbabilities(times: 0 * row.share)
      return
    }
    let label = shares.label(column.position)
    let place = (label ?? -1) - first
    let own = label.map { label in (1 - smoothing) * (shares.weight.map { $0[label] } ?? 1) } ?? 0
    column.writeProbabilities(times: column.scale * (row.share + own))
    if shares.isSpread {
      for index in 0..<column.count {
        let share =
          shares.spread(column.block, column.column, index) + (index == place ? own : 0)
        y[index] = T(rounding: y[index].widened - column.scale * share)
      }
    } else if place >= 0 && place < column.count {
      let p = exp(column.x[place].widened - row.max) / (1 + row.rest)
      y[place] = T(rounding: column.scale * own * (p - 1))
    }
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? {
    // torch divides the smoothed part apart from the rest, which is 0 / 0 then.
    if hasLogits && sums[Sums.weights] == 0 && attributes.float(ClassPlaces.smoothing) > 0
      && LossReduction(attributes) == .mean
    {
      return .nan
    }
    return LossReduction.finish(attributes, sums)
  }
}

/// The weights of all classes, where smoothing needs them.
private struct ClassWeights {
  let weight: TensorView?
  let sum: Double
  let hasZero: Bool

  init(_ weight: TensorView?, _ classes: Int) {
    self.weight = weight
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

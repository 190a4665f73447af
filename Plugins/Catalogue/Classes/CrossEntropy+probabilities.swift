import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// Targets that are class probabilities: -sum over classes of weight * y * log softmax(input),
/// where y = target * (1 - label_smoothing) + label_smoothing / C. Any floats are taken, as torch
/// does.
extension CrossEntropyFunction {
  static func planProbabilities(
    _ call: Call, _ plan: inout Plan, _ layout: ClassLayout
  ) throws(StatusError) -> ClassState {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { throw invalid("no input") }
    guard target.dataType.isFloatingPoint else {
      throw invalid(
        "target is \(target.description), the shape of probabilities, expected a floating-point "
          + "type")
    }
    guard call.attributes.int(ClassPlaces.ignoreIndex) < 0 else {
      throw invalid(
        "ignore_index is \(call.attributes.int(ClassPlaces.ignoreIndex)), expected none with targets that are "
          + "probabilities")
    }
    guard !CappedLogits.areWanted(call.attributes) else {
      throw invalid(
        "target is \(target.description), probabilities, and softcap and lse_square_scale are for "
          + "class indices")
    }
    var type = input.dataType.promoted(with: target.dataType)
    if let weight = call.input(ClassPlaces.weight) {
      guard weight.rank == 1, weight.count == layout.classes else {
        throw invalid("weight is \(weight.description), expected (\(layout.classes),)")
      }
      type = type.promoted(with: weight.dataType)
    }
    let isReduced = LossReduction(call.attributes) != .none
    if isReduced {
      try planLoss(call, &plan, type, LossReduction.emptyShape)
    } else {
      try layout.withTargetShape(input) { shape throws(StatusError) in
        try planLoss(call, &plan, type, shape)
      }
    }
    if call.wants(ClassPlaces.gradient) {
      plan.setOutput(ClassPlaces.gradient, input.dataType, shape: input.shape)
    }
    if call.wants(ClassPlaces.gradientOfProbabilities) {
      plan.setOutput(ClassPlaces.gradientOfProbabilities, target.dataType, shape: input.shape)
    }
    plan.setRows(input.rank == 1 ? 1 : input.size(0))
    var state = ClassState(layout: layout, sumsWeightsFirst: false, hasProbabilities: true)
    if input.count > 0 && layout.classes > LongLayout.rowMax(isVector: false) {
      state.long = planLong(call, &plan, state, input)
      return state
    }
    // Of no elements the sums are those of nothing: 0, and NaN for their mean. Positions without
    // classes count where each has its own loss alone.
    if input.count == 0 && (isReduced || !call.wants(ClassPlaces.loss)) { return state }
    state.isVector = isVectorOfProbabilities(call, layout) && input.count > 0
    if state.isVector {
      plan.setScratch(bytes: ClassBlock.bytes(input, layout))
      plan.addPass(
        units: state.units.count,
        unitCost: state.units.cost(size: layout.classes, element: 2, row: 20))
    } else {
      plan.addPass(units: layout.positions, unitCost: 30 + 50 * Double(layout.classes))
    }
    return state
  }

  /// Whether the vector kernels compute this: tensors of one type, without the target's gradient.
  /// float64 is left to the reference: over few positions its mean is to be within an ulp.
  private static func isVectorOfProbabilities(_ call: Call, _ layout: ClassLayout) -> Bool {
    guard Kernels.chosen != nil, !call.wants(ClassPlaces.gradientOfProbabilities),
      layout.classes > 0,
      let type = call.input(ClassPlaces.input)?.dataType, type != .float64
    else { return false }
    return call.input(ClassPlaces.target)?.dataType == type
      && (call.input(ClassPlaces.weight)?.dataType ?? type) == type
  }

  func evaluateProbabilities(_ rows: inout RowCall, _ work: ClassWork) {
    let (call, block, tiles) = (work.call, work.block, work.tiles)
    guard let target = call.input(ClassPlaces.target) else { return }
    rows.formula = .probabilities
    rows.y = UnsafeRawPointer(tiles.direct(target, work.state.layout.start(work.first)))
    rows.classes.weights = call.input(ClassPlaces.weight).map {
      UnsafeRawPointer(tiles.direct($0, 0))
    }
    rows.classes.smoothing = smoothing
    tiles.kernels.rows(&rows)
    // Infinities, NaN and overflows are the reference's.
    if !block.hasExtremes(tiles, wantsGradient: work.wantsGradient) { return }
    let reference = ProbabilityPosition(call, work.state)
    for index in 0..<block.count
    where tiles.isExtreme(block.losses[index])
      || work.wantsGradient && tiles.isExtreme(block.scale(index))
    {
      block.losses[index] = reference.evaluate(work.first + index)
    }
  }
}

/// One position at a time, in float64.
struct ProbabilityPosition {
  private let layout: ClassLayout
  private let input: TensorView?
  private let target: TensorView?
  private let upstream: TensorView?
  private let weight: TensorView?
  private let gradient: TensorView?
  private let targetGradient: TensorView?
  private let smoothing: Double
  private let reduction: LossReduction

  init(_ call: Call, _ state: ClassState) {
    layout = state.layout
    input = call.input(ClassPlaces.input)
    target = call.input(ClassPlaces.target)
    upstream = call.input(ClassPlaces.upstream)
    weight = call.input(ClassPlaces.weight)
    gradient = call.output(ClassPlaces.gradient)
    targetGradient = call.output(ClassPlaces.gradientOfProbabilities)
    smoothing = call.attributes.float(ClassPlaces.smoothing)
    reduction = LossReduction(call.attributes)
  }

  /// Writes a position's gradients and returns its loss.
  func evaluate(_ position: Int) -> Double {
    guard let input, let target else { return 0 }
    let (classes, inner) = (layout.classes, layout.inner)
    let extremes = Extremes(input.dataType)
    let start = layout.start(position)
    let sums = LogSumExp(count: classes) { input[start + $0 * inner] }
    var loss = CompensatedSum()
    var share = CompensatedSum()
    for index in 0..<classes {
      let place = start + index * inner
      let y = target[place] * (1 - smoothing) + smoothing / Double(classes)
      let v = y * (weight.map { $0[index] } ?? 1)
      loss.add(-v * extremes.overflowing(sums.logProbability(input[place])))
      share.add(v)
    }
    guard gradient != nil || targetGradient != nil else { return loss.value }
    // Without classes torch's mean is 0 / 0.
    let weightSum = classes == 0 ? 0 : Double(layout.positions)
    let scale = reduction.scale(upstream, position, weightSum: weightSum)
    for index in 0..<classes {
      let place = start + index * inner
      let w = weight.map { $0[index] } ?? 1
      let y = target[place] * (1 - smoothing) + smoothing / Double(classes)
      gradient?[place] = scale * (sums.probability(input[place]) * share.value - w * y)
      if let targetGradient {
        let logarithm = extremes.overflowing(sums.logProbability(input[place]))
        targetGradient[place] = (1 - smoothing) * -extremes.overflowing(scale * w * logarithm)
      }
    }
    return loss.value
  }
}

extension ClassLayout {
  /// Calls `body` with the input's shape without its classes.
  func withTargetShape(
    _ input: TensorView, _ body: (UnsafeBufferPointer<Int64>) throws(StatusError) -> Void
  ) throws(StatusError) {
    let count = input.rank == 1 ? 0 : input.rank - 1
    let shape = UnsafeMutableBufferPointer<Int64>.allocate(capacity: max(count, 1))
    defer { shape.deallocate() }
    for index in 0..<count { shape[index] = input.shape[index == 0 ? 0 : index + 1] }
    try body(UnsafeBufferPointer(rebasing: shape[0..<count]))
  }
}

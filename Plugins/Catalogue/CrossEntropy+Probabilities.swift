import LossdPluginKit
import LossdTensor

/// Targets that are class probabilities: -sum over classes of weight * y * log softmax(input), where
/// y = target * (1 - label_smoothing) + label_smoothing / C. Any floats are taken, as torch does.
extension ClassLoss {
  static func planProbabilities(
    _ call: Call, _ plan: inout Plan, _ layout: ClassLayout
  ) throws(StatusError) -> ClassState {
    guard let input = call.input(0), let target = call.input(1) else { throw invalid("no input") }
    guard target.dataType.isFloatingPoint else {
      throw invalid(
        "target is \(target.description), the shape of probabilities, expected a floating-point "
          + "type")
    }
    guard call.attributes.int(1) < 0 else {
      throw invalid(
        "ignore_index is \(call.attributes.int(1)), expected none with targets that are "
          + "probabilities")
    }
    var type = input.dataType.promoted(with: target.dataType)
    if let weight = call.input(3) {
      guard weight.rank == 1, weight.count == layout.classes else {
        throw invalid("weight is \(weight.description), expected (\(layout.classes),)")
      }
      type = type.promoted(with: weight.dataType)
    }
    let isReduced = Reduction(call.attributes) != .none
    if isReduced {
      try checkUpstream(call.input(2), "grad.loss", type, Reduction.emptyShape)
      if call.wants(0) { plan.setReducedOutput(0, type) }
    } else {
      try layout.withTargetShape(input) { shape throws(StatusError) in
        try checkUpstream(call.input(2), "grad.loss", type, shape)
        if call.wants(0) { plan.setOutput(0, type, shape: shape) }
      }
    }
    if call.wants(1) { plan.setOutput(1, input.dataType, shape: input.shape) }
    if call.wants(3) { plan.setOutput(3, target.dataType, shape: input.shape) }
    plan.setRows(input.rank == 1 ? 1 : input.size(0))
    if input.count > 0 && layout.classes > LongLayout.rowMax(isVector: false) {
      let long = planLong(call, &plan, layout, input, firstPass: 0, hasProbabilities: true)
      return ClassState(
        layout: layout, sumsWeightsFirst: false, hasProbabilities: true, long: long)
    }
    plan.addPass(units: layout.positions, unitCost: 30 + 50 * Double(layout.classes))
    return ClassState(layout: layout, sumsWeightsFirst: false, hasProbabilities: true)
  }

  static func runProbabilities(_ call: Call, _ state: ClassState, _ chunk: Chunk) {
    guard let input = call.input(0), let target = call.input(1) else { return }
    let (classes, inner) = (state.layout.classes, state.layout.inner)
    let weight = call.input(3)
    let smoothing = call.attributes.float(2)
    let reduction = Reduction(call.attributes)
    let perRow = reduction == .none ? call.output(0) : nil
    let (gradient, targetGradient) = (call.output(1), call.output(3))
    // Without classes torch's mean is 0 / 0.
    let weightSum = classes == 0 ? 0 : Double(state.layout.positions)
    let extremes = Extremes(input.dataType)
    var losses = CompensatedSum()
    for position in chunk.range {
      let start = state.layout.start(position)
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
      losses.add(loss.value)
      perRow?[position] = loss.value
      guard gradient != nil || targetGradient != nil else { continue }
      let scale = reduction.scale(call.input(2), position, weightSum: weightSum)
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
    }
    chunk.sums[0] += losses.value
    chunk.sums[1] += classes == 0 ? 0 : Double(chunk.range.count)
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

import LossdKernels
import LossdPluginKit
import LossdTensor

extension ElementFunction {
  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> ElementState {
    guard var tensors = ElementTensors(call, places, hasResults: false) else {
      throw invalid("no input")
    }
    guard let shape = try reshaped(tensors) else { return try planTensors(call, &plan, tensors) }
    return try tensors.with(shape) { (tensors) throws(StatusError) in
      try planTensors(call, &plan, tensors)
    }
  }

  private static func planTensors(
    _ call: Call, _ plan: inout Plan, _ tensors: ElementTensors
  ) throws(StatusError) -> ElementState {
    let input = tensors.input
    try check(call.attributes, input.dataType)
    try checkShapes(tensors)
    try check(tensors)
    let type = weighted(try resultType(tensors), tensors)
    try checkGradients(call, tensors)
    if isEnlarged(call, tensors) {
      guard !call.wants(places.slopeOfWeight) else {
        throw invalid(
          "grad.weight is wanted, which is there where target broadcasts to input and its own "
            + "gradient is no sum over repetitions")
      }
      return try planBroadcast(call, &plan, tensors, type)
    }
    var state = ElementState(
      count: input.count, formula: formula(call), constants: constants(call.attributes))
    try planResults(call, &plan, tensors, type, input.shape)
    // An activation of one operand and of floating-point elements is computed where they lie.
    if input.count > 0
      && (places.target != nil || Kernels.chosen == nil || !input.dataType.isFloatingPoint)
    {
      let last: ElementTile =
        call.wants(places.slopeOfParameter) ? .slopesOfParameter : .slopesOfTarget
      plan.setScratch(bytes: ElementTile.scratchBytes(to: last))
    }
    planPasses(&plan, tensors, input.shape, &state)
    if let place = places.slopeOfWeight, call.wants(place) {
      guard let weight = tensors.weight else {
        throw invalid("grad.weight is wanted, and there is no weight")
      }
      plan.setOutput(place, weight.dataType, shape: weight.shape)
      state.slopesOfWeight = plan.addPass(
        units: Blocks.count(state.count),
        unitCost: 2 * elementCost(tensors, input.shape) * Double(Blocks.size))
    }
    return state
  }

  /// The passes of the weights and of the elements.
  static func planPasses(
    _ plan: inout Plan, _ tensors: ElementTensors, _ shape: UnsafeBufferPointer<Int64>,
    _ state: inout ElementState
  ) {
    if let weight = tensors.weight, weightRule == .meanOfWeights, tensors.isReduced {
      state.weights = plan.addPass(
        units: Blocks.count(weight.count), unitCost: 2 * Double(Blocks.size))
    }
    state.elements = plan.addPass(
      units: Blocks.count(state.count), unitCost: elementCost(tensors, shape) * Double(Blocks.size))
  }

  /// Nanoseconds of an element, rough.
  static func elementCost(
    _ tensors: ElementTensors, _ shape: UnsafeBufferPointer<Int64>
  ) -> Double {
    var cost = places.target != nil ? 2.0 : 1
    // No array, which would be allocated in every call.
    func addBroadcast(_ tensor: TensorView?) {
      guard let tensor, tensor.count > 1, !tensor.hasShape(shape) else { return }
      cost += broadcastCost(rank: tensor.rank)
    }
    addBroadcast(tensors.input)
    addBroadcast(tensors.target)
    addBroadcast(tensors.weight)
    addBroadcast(tensors.parameter)
    return cost
  }

  /// The results of the shape that the operands broadcast to.
  static func planResults(
    _ call: Call, _ plan: inout Plan, _ tensors: ElementTensors, _ type: DataType,
    _ shape: UnsafeBufferPointer<Int64>
  ) throws(StatusError) {
    try checkUpstream(
      tensors.upstream, places.isLoss ? "grad.loss" : "grad.output", type,
      tensors.isReduced ? LossReduction.emptyShape : shape, isReduced: tensors.isReduced)
    // Two results would both be made from what one of them has overwritten.
    let isSeparate = call.wants(places.value) && call.wants(places.slope)
    if call.wants(places.value) {
      if tensors.isReduced {
        plan.setReducedOutput(places.value, type)
      } else {
        plan.setOutput(places.value, type, shape: shape, isSeparate: isSeparate)
      }
    }
    let input = tensors.input
    // The sum of no repetitions.
    let isEmpty = shape.contains(0)
    if call.wants(places.slope) {
      plan.setOutput(
        places.slope, input.dataType, shape: input.shape, isZeroed: isEmpty,
        isSeparate: isSeparate)
    }
    // With the shape that was sent, and not the one that the operand is taken to have.
    if let place = places.slopeOfTarget, call.wants(place), let sent = call.input(places.target) {
      plan.setOutput(place, sent.dataType, shape: sent.shape, isZeroed: isEmpty)
    }
    if let place = places.slopeOfParameter, call.wants(place),
      let sent = call.input(places.parameter)
    {
      plan.setOutput(place, sent.dataType, shape: sent.shape, isZeroed: isEmpty)
    }
    plan.setRows(shape.isEmpty ? 1 : Int(shape[0]))
  }

  private static func checkGradients(
    _ call: Call, _ tensors: ElementTensors
  ) throws(StatusError) {
    func check(_ place: Int?, _ tensor: TensorView?, _ operand: Int?) throws(StatusError) {
      guard call.wants(place), let tensor, let operand, !tensor.dataType.isFloatingPoint else {
        return
      }
      throw invalid("\(name(operand)) is \(tensor.dataType), which has no gradient")
    }
    try check(places.slope, tensors.input, places.input)
    try check(places.slopeOfTarget, tensors.target, places.target)
    try check(places.slopeOfParameter, tensors.parameter, places.parameter)
  }

  /// An operand's name. For texts alone: it makes the declaration anew.
  static func name(_ place: Int) -> String { declaration.inputs[place].name }

  /// Whether the operands broadcast to more than the input, or an operand's gradient is a sum over its repetitions.
  private static func isEnlarged(_ call: Call, _ tensors: ElementTensors) -> Bool {
    guard case .full = shapeRule else { return false }
    let shape = tensors.input.shape
    if let target = tensors.target {
      if !target.broadcasts(to: shape) { return true }
      if call.wants(places.slopeOfTarget) && !target.hasShape(shape) { return true }
    }
    if let parameter = tensors.parameter {
      if !parameter.broadcasts(to: shape) { return true }
      if call.wants(places.slopeOfParameter) && !parameter.hasShape(shape) { return true }
    }
    return false
  }

  /// Refuses shapes that do not go together, but for those that do not broadcast with one another.
  private static func checkShapes(_ tensors: ElementTensors) throws(StatusError) {
    let shape = tensors.input.shape
    switch shapeRule {
    case .alike:
      if let target = tensors.target, !target.hasShape(shape) {
        throw invalid("target is \(shapeText(target.shape)), expected \(shapeText(shape))")
      }
      try checkBroadcast(places.parameter, tensors.parameter, shape)
    case .toInput:
      if let target = tensors.target, !target.broadcasts(to: shape) {
        throw invalid("target is \(shapeText(target.shape)), expected \(shapeText(shape))")
      }
    case .full(let sameRank):
      try checkRank(sameRank, places.target, tensors.target, shape)
      try checkRank(sameRank, places.parameter, tensors.parameter, shape)
    }
    guard let weight = tensors.weight else { return }
    if weightRule == .broadcast {
      try checkBroadcast(places.weight, weight, shape)
    } else if !weight.hasShape(shape) {
      throw invalid(
        "weight is \(shapeText(weight.shape)), expected input's shape \(shapeText(shape))")
    }
  }

  private static func checkRank(
    _ isWanted: Bool, _ place: Int?, _ tensor: TensorView?, _ shape: UnsafeBufferPointer<Int64>
  ) throws(StatusError) {
    guard isWanted, let place, let tensor, tensor.rank != shape.count else { return }
    throw invalid(
      "\(name(place)) is \(shapeText(tensor.shape)), expected as many dimensions as "
        + "\(name(places.input)) \(shapeText(shape)) has")
  }

  private static func checkBroadcast(
    _ place: Int?, _ tensor: TensorView?, _ shape: UnsafeBufferPointer<Int64>
  ) throws(StatusError) {
    guard let place, let tensor, !tensor.broadcasts(to: shape) else { return }
    throw invalid(
      "\(name(place)) is \(shapeText(tensor.shape)), which does not broadcast to input "
        + shapeText(shape))
  }

  private static func resultType(_ tensors: ElementTensors) throws(StatusError) -> DataType {
    let type = tensors.input.dataType
    switch typeRule {
    case .alike:
      if let place = places.target, let target = tensors.target, target.dataType != type {
        throw invalid("\(name(place)) is \(target.dataType), expected input's \(type)")
      }
      return type.isFloatingPoint ? type : .float32
    case .ofTarget: return tensors.target?.dataType ?? type
    case .ofInput: return type
    case .promoted(let floats, let expandsFirst, let takesFloat):
      let result = promoted(tensors, expandsFirst: expandsFirst, takesFloat: takesFloat)
      if result.isFloatingPoint { return result }
      guard floats else {
        throw invalid("input and target are \(result), expected a floating-point type")
      }
      return .float32
    }
  }

  /// torch multiplies the losses by a weight of the input's shape, and so promotes their type. A weight without dimensions
  /// counts beside nothing that has some.
  private static func weighted(_ type: DataType, _ tensors: ElementTensors) -> DataType {
    guard weightRule != .broadcast, let weight = tensors.weight,
      weight.rank > 0 || tensors.target?.rank ?? 0 == 0
    else { return type }
    return type.promoted(with: weight.dataType)
  }

  /// torch's promotion: an operand without dimensions counts where no other is of as high a kind.
  private static func promoted(
    _ tensors: ElementTensors, expandsFirst: Bool, takesFloat: Bool
  ) -> DataType {
    let input = tensors.input
    var type: DataType?
    func add(_ tensor: TensorView?, _ own: DataType, hasDimensions: Bool) {
      guard let tensor, (expandsFirst || tensor.rank > 0) == hasDimensions else { return }
      guard let known = type else {
        type = own
        return
      }
      if hasDimensions || own.isFloatingPoint && !known.isFloatingPoint {
        type = known.promoted(with: own)
      }
    }
    // Where all are without dimensions, they count as those with.
    let hasAny =
      expandsFirst || input.rank > 0 || tensors.target?.rank ?? 0 > 0
      || tensors.parameter?.rank ?? 0 > 0
    func addAll(hasDimensions: Bool) {
      add(input, input.dataType, hasDimensions: hasDimensions)
      if let target = tensors.target { add(target, target.dataType, hasDimensions: hasDimensions) }
      if let parameter = tensors.parameter {
        add(parameter, parameter.dataType, hasDimensions: hasDimensions)
      }
    }
    addAll(hasDimensions: true)
    addAll(hasDimensions: false)
    var result = type ?? input.dataType
    if !hasAny {
      if let target = tensors.target { result = result.promoted(with: target.dataType) }
      if let parameter = tensors.parameter { result = result.promoted(with: parameter.dataType) }
    }
    let isFloat = takesFloat && !input.dataType.isFloatingPoint && (input.rank > 0 || !hasAny)
    return isFloat ? result.promoted(with: .float32) : result
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? {
    places.isLoss ? LossReduction.finish(attributes, sums) : nil
  }
}

extension ElementTensors {
  /// Calls `body` with an operand of another shape, which lives as long.
  mutating func with<Result: BitwiseCopyable>(
    _ shape: ElementShape, _ body: (ElementTensors) throws(StatusError) -> Result
  ) throws(StatusError) -> Result {
    let sizes = shape.sizes
    return try withUnsafePointer(to: sizes) { pointer throws(StatusError) in
      let shaped = UnsafeBufferPointer(
        start: UnsafeRawPointer(pointer).assumingMemoryBound(to: Int64.self), count: shape.rank)
      func view(_ tensor: TensorView?) -> TensorView? {
        tensor.map {
          TensorView(data: $0.data, shape: shaped, count: $0.count, dataType: $0.dataType)
        }
      }
      if shape.isOfTarget { target = view(target) } else { parameter = view(parameter) }
      return try body(self)
    }
  }
}

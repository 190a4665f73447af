import LossdKernels
import LossdPluginKit
import LossdTensor

extension ElementFunction {
  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> ElementState {
    guard let tensors = ElementTensors(call, places, hasResults: false) else {
      throw invalid("no input")
    }
    let input = tensors.input
    try check(call.attributes, input.dataType)
    try checkShapes(tensors)
    // torch computes the loss of logits in place of 1 - target, so that the loss has the target's type.
    let type =
      tensors.target?.dataType ?? (input.dataType.isFloatingPoint ? input.dataType : .float32)
    try checkUpstream(
      tensors.upstream, places.isLoss ? "grad.loss" : "grad.output", type,
      tensors.isReduced ? Reduction.emptyShape : input.shape, isReduced: tensors.isReduced)
    if call.wants(places.slope) && !input.dataType.isFloatingPoint {
      throw invalid("input is \(input.dataType), which has no gradient")
    }
    // Two results would both be made from what one of them has overwritten.
    let isSeparate = call.wants(places.value) && call.wants(places.slope)
    if call.wants(places.value) {
      if tensors.isReduced {
        plan.setReducedOutput(places.value, type)
      } else {
        plan.setOutput(places.value, type, shape: input.shape, isSeparate: isSeparate)
      }
    }
    if call.wants(places.slope) {
      plan.setOutput(
        places.slope, places.isLoss ? input.dataType : type, shape: input.shape,
        isSeparate: isSeparate)
    }
    if let place = places.slopeOfTarget, let target = tensors.target, call.wants(place) {
      guard target.hasShape(input.shape) else {
        throw invalid(
          "grad.target needs a target of input's shape \(shapeText(input.shape)), and target is "
            + shapeText(target.shape))
      }
      plan.setOutput(place, target.dataType, shape: input.shape)
    }
    plan.setRows(input.rank == 0 ? 1 : input.size(0))
    // An activation of floating-point elements is computed where they lie.
    if input.count > 0
      && (places.isLoss || Kernels.chosen == nil || !input.dataType.isFloatingPoint)
    {
      plan.setScratch(bytes: ElementTile.scratchBytes)
    }
    var cost = places.isLoss ? 2.0 : 1
    // No array, which would be allocated in every call.
    func addBroadcast(_ tensor: TensorView?) {
      guard let tensor, tensor.count > 1, !tensor.hasShape(input.shape) else { return }
      cost += broadcastCost(rank: tensor.rank)
    }
    addBroadcast(tensors.target)
    addBroadcast(tensors.weight)
    addBroadcast(tensors.parameter)
    plan.addPass(units: Blocks.count(input.count), unitCost: cost * Double(Blocks.size))
    return ElementState(
      count: input.count, formula: formula(call), constants: constants(call.attributes))
  }

  /// Refuses what does not broadcast to the input.
  private static func checkShapes(_ tensors: ElementTensors) throws(StatusError) {
    let shape = tensors.input.shape
    if let target = tensors.target {
      guard targetBroadcasts ? target.broadcasts(to: shape) : target.hasShape(shape) else {
        throw invalid("target is \(shapeText(target.shape)), expected \(shapeText(shape))")
      }
      guard targetMayDiffer || target.dataType == tensors.input.dataType else {
        throw invalid(
          "target is \(target.dataType), expected input's \(tensors.input.dataType)")
      }
    }
    try checkBroadcast("weight", tensors.weight, shape)
    try checkBroadcast("pos_weight", tensors.parameter, shape)
  }

  private static func checkBroadcast(
    _ name: String, _ tensor: TensorView?, _ shape: UnsafeBufferPointer<Int64>
  ) throws(StatusError) {
    guard let tensor, !tensor.broadcasts(to: shape) else { return }
    throw invalid(
      "\(name) is \(shapeText(tensor.shape)), which does not broadcast to input "
        + shapeText(shape))
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? {
    places.isLoss ? Reduction.finish(attributes, sums) : nil
  }
}

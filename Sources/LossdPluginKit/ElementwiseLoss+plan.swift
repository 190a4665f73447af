import CLossdPlugin
import LossdTensor

/// What `plan` finds out about a call, for `run`.
@usableFromInline struct ElementwiseState<F: ElementwiseLoss>: BitwiseCopyable {
  @usableFromInline var loss: F
  @usableFromInline var reduction: LossReduction
  /// Elements of what input and target broadcast to.
  @usableFromInline var count: Int
  /// Nothing is repeated: a flat index is the same in all tensors.
  @usableFromInline var isWhole: Bool
  /// The passes that sum a gradient over its operand's repetitions, 0: none. The pass after it adds
  /// up its pieces.
  @usableFromInline var inputSums = 0
  @usableFromInline var targetSums = 0

  init(_ call: Call, _ plan: Plan) throws(StatusError) {
    guard let input = call.input(Place.input), let target = call.input(Place.target) else {
      throw StatusError(.internal, "no input")
    }
    loss = try F(call.attributes)
    reduction = LossReduction(call.attributes, F.attributes.count)
    guard F.broadcastsTarget || target.shape.elementsEqual(input.shape) else {
      throw wrongShape("target", target, input.shape)
    }
    let shape = try BroadcastShape(input, target)
    count = shape.count
    isWhole = input.count == count && target.count == count
    try shape.withSizes { (sizes) throws(StatusError) in
      if let weight = call.input(Place.weight) {
        guard shape.holds(weight) else { throw wrongShape("weight", weight, sizes) }
        isWhole = isWhole && weight.count == count
      }
      try F.plan(call, plan, reduction, input, lossShape: sizes)
      plan.setRows(sizes.isEmpty ? 1 : Int(sizes[0]))
    }
    // The sum of no repetitions is 0.
    if call.wants(Place.gradient) {
      plan.setOutput(Place.gradient, input.dataType, shape: input.shape, isZeroed: count == 0)
    }
    if F._hasTargetSlope, call.wants(Place.targetGradient) {
      guard target.dataType.isFloatingPoint else {
        throw StatusError(.invalidArgument, "target is \(target.dataType), which has no gradient")
      }
      plan.setOutput(
        Place.targetGradient, target.dataType, shape: target.shape, isZeroed: count == 0)
    }
    let cost = F.cost + (isWhole ? 0 : 3 + 0.2 * Double(shape.rank))
    plan.addPass(
      units: parts(count, of: Elementwise.unit), unitCost: cost * Double(Elementwise.unit))
    if count > 0 { planSums(call, plan, shape, input, target, cost) }
  }

  private mutating func planSums(
    _ call: Call, _ plan: Plan, _ shape: BroadcastShape, _ input: TensorView, _ target: TensorView,
    _ cost: Double
  ) {
    var partials = 0
    func add(_ operand: TensorView, _ gradient: Int) -> Int {
      if operand.count == count || !call.wants(gradient) { return 0 }
      let sums = RepeatSums(shape, operand)
      // One operand after the other, so that both may use the same memory.
      partials = max(partials, sums.partialCount)
      let pass = plan.addPass(units: sums.units, unitCost: 100 + cost * Double(sums.unitCount))
      if sums.mergeUnits > 0 {
        plan.addPass(
          units: sums.mergeUnits, unitCost: 0.5 * Double(sums.pieces * Elementwise.tile))
      }
      return pass
    }
    if !isWhole {
      inputSums = add(input, Place.gradient)
      if F._hasTargetSlope { targetSums = add(target, Place.targetGradient) }
    }
    // More than anybody has is refused by the host.
    plan.setWorkspace(bytes: min(partials, 1 << 57) * MemoryLayout<Double>.stride)
    plan.setScratch(bytes: Elementwise.tileCount * Elementwise.tile * MemoryLayout<Double>.stride)
  }
}

@usableFromInline enum Elementwise {
  /// Elements of a unit of work, and of what is computed at once.
  @usableFromInline static let (unit, tile) = (1024, 256)
  /// In scratch memory; see `ElementTiles`.
  @usableFromInline static let tileCount = 7
}

extension ElementwiseLoss {
  @usableFromInline static func planElements(_ call: Call, _ plan: Plan) throws(StatusError) {
    call.storeState(try ElementwiseState<Self>(call, plan))
  }
}

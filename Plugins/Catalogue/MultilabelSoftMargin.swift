import Glibc
import LossdPluginKit
import LossdTensor

/// -weight * (y logsigmoid(x) + (1 - y) logsigmoid(-x)), averaged over the classes;
/// torch.nn.functional.multilabel_soft_margin_loss. All three tensors broadcast; the classes are the
/// dimension of the result at the place of the input's last one, and the divisor is the input's size
/// there, as torch has it.
enum MultilabelSoftMarginLoss: Function {
  struct State: BitwiseCopyable {
    /// Operands: input, target, weight.
    var space: BroadcastSpace
    var axis: Int
    var positions: Int
    /// Elements of a row, and the pieces of at most `Pieces.size` it is cut into.
    var length: Int
    var pieces: Int
    var classes: Double
    /// Rows without elements, whose losses are all alike and wanted as a sum alone: one stands for all.
    var isOneForAll = false
    var passes = MultilabelPasses()
    /// The vector kernels compute the rows.
    var isVector = false
  }

  static var declaration: FunctionDeclaration {
    FunctionDeclaration(
      name: "multilabel_soft_margin_loss", kind: .loss,
      summary: "mean over classes of binary cross entropy of sigmoid(input)",
      inputs: [
        InputDeclaration(
          "input", floatTypes, isRequired: true, batching: .broadcast, isClasses: true,
          help: "logits, (C), (N, C) or more"),
        InputDeclaration(
          "target", DataType.allCases.filter { $0 != .bool }, isRequired: true,
          batching: .broadcast,
          help: "0 or 1 for each class; broadcasts with input"),
        InputDeclaration(
          "grad.loss", floatTypes, batching: .upstream, help: "upstream gradient, like loss"),
        InputDeclaration(
          "weight", DataType.allCases, isKept: true, batching: .broadcast,
          help: "broadcasts with input"),
      ],
      outputs: [
        OutputDeclaration(
          "loss", isDefault: true, hasRows: true, help: "scalar, or one a row for none"),
        OutputDeclaration("grad.input", hasRows: true, help: "gradient with respect to input"),
        OutputDeclaration("grad.target", hasRows: true, help: "gradient with respect to target"),
        OutputDeclaration("grad.weight", isUnimplemented: true, help: "not computed by lossd"),
      ],
      attributes: [LossReduction.attribute], accumulators: LossReduction.accumulators,
      values: LossReduction.values)
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { throw invalid("no input") }
    guard input.rank > 0 else { throw invalid("input is a scalar, expected (C), (N, C) or more") }
    var state = try layOut(input, target, call.input(ClassPlaces.weight))
    var type = input.dataType
    for other in [target, call.input(ClassPlaces.weight)] {
      // A scalar tensor does not widen the result: torch's rule for tensors without dimensions.
      if let other, other.rank > 0 { type = type.promoted(with: other.dataType) }
    }
    if call.wants(ClassPlaces.gradientOfLabels) && !target.dataType.isFloatingPoint {
      throw invalid("target is \(target.dataType), which has no gradient")
    }
    if LossReduction(call.attributes) != .none {
      try checkUpstream(
        call.input(ClassPlaces.upstream), "grad.loss", type, LossReduction.emptyShape,
        isReduced: true)
      if call.wants(ClassPlaces.loss) { plan.setReducedOutput(ClassPlaces.loss, type) }
    } else {
      var sizes = InlineArray<64, Int64>(repeating: 0)
      for index in 0..<state.space.rank where index != state.axis {
        sizes[index < state.axis ? index : index - 1] = Int64(state.space.shape[index])
      }
      let rank = state.space.rank - 1
      try withUnsafePointer(to: sizes) { pointer throws(StatusError) in
        let shape = UnsafeBufferPointer(
          start: UnsafeRawPointer(pointer).assumingMemoryBound(to: Int64.self), count: rank)
        try checkUpstream(call.input(ClassPlaces.upstream), "grad.loss", type, shape)
        if call.wants(ClassPlaces.loss) { plan.setOutput(ClassPlaces.loss, type, shape: shape) }
      }
    }
    if call.wants(ClassPlaces.gradient) {
      plan.setOutput(ClassPlaces.gradient, input.dataType, shape: input.shape)
    }
    if call.wants(ClassPlaces.gradientOfLabels) {
      plan.setOutput(ClassPlaces.gradientOfLabels, target.dataType, shape: target.shape)
    }
    plan.setRows(state.space.rank == 1 ? 1 : state.space.shape[0])
    state.isOneForAll =
      state.length == 0 && state.positions > 0
      && !(LossReduction(call.attributes) == .none && call.wants(ClassPlaces.loss))
    state.isVector = isVector(call, state)
    if state.isVector && state.space.count > 0 { plan.setScratch(bytes: vectorScratch) }
    state.passes = MultilabelPasses(call, &plan, state)
    return state
  }

  private static func layOut(
    _ input: TensorView, _ target: TensorView, _ weight: TensorView?
  ) throws(StatusError) -> State {
    var space = BroadcastSpace()
    let operands = [("input", input), ("target", target), ("weight", weight ?? input)]
    for (name, operand) in operands where !space.add(operand) {
      throw invalid(
        "\(name) is \(shapeText(operand.shape)), which does not broadcast with input "
          + "\(shapeText(input.shape))" + (name == "weight" ? " and target" : ""))
    }
    for (index, operand) in operands.enumerated() where !space.setStrides(index, operand.1) {
      throw invalid("input, target and weight broadcast to 2^63 elements or more")
    }
    let axis = input.rank - 1
    var positions = 1
    for index in 0..<space.rank where index != axis { positions *= space.shape[index] }
    let length = space.shape[axis]
    return State(
      space: space, axis: axis, positions: positions, length: length,
      pieces: Pieces.count(length), classes: Double(input.size(axis)))
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? { LossReduction.finish(attributes, sums) }
}

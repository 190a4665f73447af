import LossdPluginKit
import LossdTensor

/// 1 - cos for a target of 1, max(0, cos - margin) for one of -1, else 0; torch.nn.functional.cosine_embedding_loss, whose
/// cosine is x1 . x2 / sqrt((x1 . x1 + 1e-12) (x2 . x2 + 1e-12)).
enum CosineEmbeddingLoss: RowFunction {
  private static let (input1, input2, target) = (0, 1, 2)
  private static let margin = 1
  /// torch's is a float32 number.
  private static let epsilon = Double(1e-12 as Float)

  static var declaration: FunctionDeclaration {
    let outputs = ["input1", "input2"].map {
      OutputDeclaration("grad." + $0, hasRows: true, help: "gradient with respect to \($0)")
    }
    return FunctionDeclaration(
      name: "cosine_embedding_loss", kind: .loss,
      summary: "1 - cos for a target of 1, max(0, cos - margin) for -1",
      inputs: [
        InputDeclaration(
          "input1", integersAndFloats, isRequired: true, batching: .rows, isClasses: true,
          help: "(N, D) or (D)"),
        InputDeclaration(
          "input2", integersAndFloats, isRequired: true, batching: .broadcast,
          help: "broadcasts with input1"),
        InputDeclaration(
          "target", DataType.allCases, isRequired: true, batching: .rows,
          help: "1 or -1; (N) for (N, D), () for (D)"),
        InputDeclaration(
          "grad.loss", floatTypes, batching: .upstream, help: "upstream gradient, like loss"),
      ],
      outputs: [
        OutputDeclaration(
          "loss", isDefault: true, hasRows: true, help: "scalar, or one a row for none")
      ] + outputs,
      attributes: [
        LossReduction.attribute,
        .number("margin", 0, help: "a cosine up to this is no loss for -1"),
      ], accumulators: LossReduction.accumulators, values: LossReduction.values)
  }

  static var places: RowPlaces {
    RowPlaces(operands: 2, label: 2, upstream: 3, firstGoal: 1, goals: 2, isLoss: true)
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> RowPlan {
    var operands = operands(call)
    guard let target = call.input(target), let input1 = call.input(input1),
      let input2 = call.input(input2)
    else { throw invalid("no input") }
    guard target.rank <= 1 else {
      throw invalid("target is \(shapeText(target.shape)), expected (N,), or () for inputs (D,)")
    }
    let rank = target.rank + 1
    guard input1.rank == rank, input2.rank == rank else {
      throw invalid(
        "a target \(shapeText(target.shape)) is for inputs \(rank == 2 ? "(N, D)" : "(D,)"), and "
          + "input1 is \(shapeText(input1.shape)), input2 \(shapeText(input2.shape))")
    }
    // torch makes each input's square a floating-point number by itself.
    let type = floatType(input1.dataType).promoted(with: floatType(input2.dataType))
    // The target has a number a row, and may have more rows than the inputs.
    var sizes = InlineArray<2, Int64>(repeating: 1)
    if target.rank == 1 { sizes[0] = target.shape[0] }
    let space = try withUnsafePointer(to: sizes) { pointer throws(StatusError) in
      operands[2] = TensorView(
        data: target.data,
        shape: UnsafeBufferPointer(
          start: UnsafeRawPointer(pointer).assumingMemoryBound(to: Int64.self), count: rank),
        count: target.count, dataType: target.dataType)
      return try RowSpace(operands, ["input1", "input2", "target"], dim: -1)
    }
    var state = RowPlan(space)
    state.pairs[0] = RowPair(x: 0, y: 1, isNorm: false)
    // Each input's own square is over the elements that it has.
    for index in 0..<2 where space.isOneForRow(index) {
      state.constants[index] = max(Double(space.length), 1)
    }
    state.shift = call.attributes.float(margin)
    state.isOneForAll =
      space.length == 0 && target.count == 1 && LossReduction(call.attributes) != .none
    try planValues(call, &plan, space, type)
    try planRows(call, &plan, &state)
    return state
  }

  static func result(
    _ numbers: borrowing RowNumbers, _ state: borrowing RowPlan, label: Double, scale: Double
  ) -> RowResult {
    let repeats = (max(state.constants[0], 1), max(state.constants[1], 1))
    let squares = (
      numbers.sum(0) / repeats.0 + epsilon, numbers.sum(2) / repeats.1 + epsilon
    )
    let size = squares.0.squareRoot() * squares.1.squareRoot()
    let cosine = numbers.sum(1) / size
    let rest = cosine - state.shift
    var result = RowResult()
    var slope = 0.0
    if label == 1 {
      result.value = 1 - cosine
      slope = -scale
    } else if label == -1 {
      result.value = rest < 0 ? 0 : rest
      slope = rest >= 0 ? scale : 0
    }
    guard state.hasGoals else { return result }
    result.factors[0] = -slope * cosine / squares.0 / repeats.0
    result.factors[1] = slope / size
    result.factors[2] = -slope * cosine / squares.1 / repeats.1
    result.factors[3] = slope / size
    return result
  }

  static func goal(_ index: Int) -> RowGoal {
    RowGoal(operand: index, first: GoalTerm(x: index), second: GoalTerm(x: 1 - index))
  }
}

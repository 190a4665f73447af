import LossdPluginKit
import LossdTensor

/// The p-norm of x1 - x2 + eps along the last dimension; torch.nn.functional.pairwise_distance.
enum PairwiseDistance: RowFunction {
  private static let (p, eps, keepdim) = (0, 1, 2)

  static var declaration: FunctionDeclaration {
    .distance(
      "pairwise_distance", summary: "the p-norm of x1 - x2 + eps, of each row",
      types: integersAndFloats,
      attributes: [
        .norm(2), .number("eps", 1e-6, help: "added to the differences"), .keepdim,
      ])
  }

  static var places: RowPlaces { RowPlaces(operands: 2, upstream: 2, firstGoal: 1, goals: 2) }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> RowPlan {
    let operands = operands(call)
    let space = try RowSpace(operands, ["x1", "x2", ""], dim: -1)
    var state = RowPlan(space)
    state.pairs[0] = RowPair(x: 0, y: 1)
    state.norm = Norm(call.attributes.float(p))
    state.shift = call.attributes.float(eps)
    try checkNorm(state)
    try planValues(
      call, &plan, space, floatType(promotedType(operands)), keepdim: call.attributes.bool(keepdim))
    try planRows(call, &plan, &state)
    return state
  }

  static func result(
    _ numbers: borrowing RowNumbers, _ state: borrowing RowPlan, label: Double, scale: Double
  ) -> RowResult {
    let norm = numbers.norm(0)
    guard state.hasGoals else { return RowResult(value: norm) }
    let factor = scale * state.norm.factor(norm, ties: numbers.ties(0))
    var result = RowResult(value: norm)
    (result.factors[0], result.factors[2]) = (factor, -factor)
    return result
  }

  static func goal(_ index: Int) -> RowGoal {
    RowGoal(operand: index, first: GoalTerm(x: 0, y: 1, pair: 0))
  }
}

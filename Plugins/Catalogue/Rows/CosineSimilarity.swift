import LossdPluginKit
import LossdTensor

/// x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along a dimension; torch.nn.functional.cosine_similarity. The gradient goes
/// through a norm that eps has replaced, as torch's does.
enum CosineSimilarity: RowFunction {
  private static let (x1, x2) = (0, 1)
  private static let (dim, eps) = (0, 1)

  static var declaration: FunctionDeclaration {
    .distance(
      "cosine_similarity", summary: "x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along dim",
      types: DataType.allCases,
      attributes: [
        .dimension(
          1, help: "the dimension of the vectors, of the shape that x1 and x2 broadcast to"),
        .number("eps", 1e-8, minimum: 0, help: "the least that a norm counts as"),
      ])
  }

  static var places: RowPlaces { RowPlaces(operands: 2, upstream: 2, firstGoal: 1, goals: 2) }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> RowPlan {
    let operands = operands(call)
    guard let x1 = call.input(x1), let x2 = call.input(x2) else { throw invalid("no input") }
    // Both are expanded to the same dimensions first.
    let type = x1.dataType.promoted(with: x2.dataType)
    guard type.isFloatingPoint else {
      throw invalid(
        "x1 is \(x1.dataType) and x2 \(x2.dataType), expected one of floating-point numbers")
    }
    let space = try RowSpace(operands, ["x1", "x2", ""], dim: call.attributes.int(dim))
    var state = RowPlan(space)
    state.pairs[0] = RowPair(x: 0, y: 1, isNorm: false)
    state.constants[0] = call.attributes.float(eps)
    try planValues(call, &plan, space, type)
    try planRows(call, &plan, &state)
    return state
  }

  static func result(
    _ numbers: borrowing RowNumbers, _ state: borrowing RowPlan, label: Double, scale: Double
  ) -> RowResult {
    let eps = state.constants[0]
    let norms = (numbers.sum(0).squareRoot(), numbers.sum(2).squareRoot())
    let first = norms.0 < eps ? eps : norms.0
    let second = norms.1 < eps ? eps : norms.1
    var result = RowResult(value: numbers.sum(1) / first / second)
    guard state.hasGoals else { return result }
    let cross = scale / first / second
    result.factors[0] = norms.0 == 0 ? 0 : -scale * result.value / first / norms.0
    result.factors[1] = cross
    result.factors[2] = norms.1 == 0 ? 0 : -scale * result.value / second / norms.1
    result.factors[3] = cross
    return result
  }

  static func goal(_ index: Int) -> RowGoal {
    RowGoal(operand: index, first: GoalTerm(x: index), second: GoalTerm(x: 1 - index))
  }
}

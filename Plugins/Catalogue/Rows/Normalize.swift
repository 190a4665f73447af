import LossdPluginKit
import LossdTensor

/// x / max(the p-norm of x, eps) along a dimension; torch.nn.functional.normalize. A norm below eps has no gradient.
enum Normalize: RowFunction {
  private static let (p, dim, eps) = (0, 1, 2)

  static var declaration: FunctionDeclaration {
    FunctionDeclaration(
      name: "normalize", kind: .activation,
      summary: "input / max(p-norm of input, eps) along dim",
      inputs: [
        InputDeclaration(
          "input", floatTypes, isRequired: true, batching: .rows, help: "any shape"),
        InputDeclaration(
          "grad.output", floatTypes, batching: .rows, help: "upstream gradient, like output"),
      ],
      outputs: [
        OutputDeclaration("output", isDefault: true, hasRows: true, help: "like input"),
        OutputDeclaration("grad.input", hasRows: true, help: "gradient with respect to input"),
      ],
      attributes: [
        .norm(2), .dimension(1, help: "the dimension of the vectors"),
        .number("eps", 1e-12, help: "the least that a norm counts as"),
      ])
  }

  static var places: RowPlaces {
    RowPlaces(operands: 2, upstream: nil, value: nil, firstGoal: 0, goals: 2)
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> RowPlan {
    guard let input = call.input(ActivationPlaces.input) else { throw invalid("no input") }
    try checkUpstream(
      call.input(ActivationPlaces.upstream), "grad.output", input.dataType, input.shape)
    let space = try RowSpace(
      operands(call), ["input", "grad.output", ""], dim: call.attributes.int(dim))
    var state = RowPlan(space)
    state.norm = Norm(call.attributes.float(p))
    state.constants[0] = call.attributes.float(eps)
    if call.wants(ActivationPlaces.gradient) {
      state.pairCount = 2
      state.pairs[1] = RowPair(x: 0, y: 1, isNorm: false)
    }
    try checkNorm(state)
    try planRows(call, &plan, &state)
    return state
  }

  static func result(
    _ numbers: borrowing RowNumbers, _ state: borrowing RowPlan, label: Double, scale: Double
  ) -> RowResult {
    let norm = numbers.norm(0)
    let eps = state.constants[0]
    let least = norm < eps ? eps : norm
    var result = RowResult()
    result.factors[0] = 1 / least
    result.factors[2] = 1 / least
    if state.pairCount < 2 { return result }
    let hasGradient = state.norm.hasGradient
    if norm >= eps && hasGradient {
      let factor = state.norm.factor(norm, ties: numbers.ties(0))
      result.factors[3] = -numbers.sum(4) / least / least * factor
    }
    return result
  }

  static func goal(_ index: Int) -> RowGoal {
    if index == 0 { return RowGoal(operand: 0, first: GoalTerm(x: 0)) }
    return RowGoal(operand: 0, first: GoalTerm(x: 1), second: GoalTerm(x: 0, pair: 0))
  }
}

import LossdPluginKit
import LossdTensor

/// max(0, margin + d(anchor, positive) - d(anchor, negative)) with d the p-norm of the difference plus eps;
/// torch.nn.functional.triplet_margin_loss. With `swap` the second distance is the smaller of that and
/// d(positive, negative). Balntas et al. (2016).
enum TripletMarginLoss: RowFunction {
  private static let (anchor, positive, negative) = (0, 1, 2)
  private static let (margin, p, eps, swap) = (1, 2, 3, 4)

  static var declaration: FunctionDeclaration {
    let names = ["anchor", "positive", "negative"]
    return FunctionDeclaration(
      name: "triplet_margin_loss", kind: .loss,
      summary: "max(0, margin + d(anchor, positive) - d(anchor, negative))",
      inputs: names.map {
        InputDeclaration(
          $0, integersAndFloats, isRequired: true, batching: .broadcast, isClasses: $0 == "anchor",
          help: "vectors along the last dimension; broadcasts with the others")
      } + [
        InputDeclaration(
          "grad.loss", floatTypes, batching: .upstream, help: "upstream gradient, like loss")
      ],
      outputs: [
        OutputDeclaration(
          "loss", isDefault: true, hasRows: true, help: "scalar, or one a row for none")
      ]
        + names.map {
          OutputDeclaration("grad." + $0, hasRows: true, help: "gradient with respect to \($0)")
        },
      attributes: [
        LossReduction.attribute, .number("margin", 1, help: "how much farther negatives are to be"),
        .norm(2), .number("eps", 1e-6, help: "added to the differences"),
        AttributeDeclaration(
          "swap", .bool, default: .bool(false),
          help: "the negative's distance from the positive counts where it is smaller"),
      ], accumulators: LossReduction.accumulators, values: LossReduction.values)
  }

  static var places: RowPlaces {
    RowPlaces(operands: 3, upstream: 3, firstGoal: 1, goals: 3, isLoss: true)
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> RowPlan {
    let operands = operands(call)
    guard let anchor = call.input(anchor), let positive = call.input(positive),
      let negative = call.input(negative)
    else { throw invalid("no input") }
    guard anchor.rank == positive.rank, anchor.rank == negative.rank else {
      throw invalid(
        "anchor is \(shapeText(anchor.shape)), positive \(shapeText(positive.shape)) and negative "
          + "\(shapeText(negative.shape)), expected as many dimensions of each")
    }
    let margin = call.attributes.float(margin)
    guard !(margin <= 0) else { throw invalid("margin is \(margin), expected more than 0") }
    let space = try RowSpace(operands, ["anchor", "positive", "negative"], dim: -1)
    // Of rows without elements each loss is the margin, where no distance is between rows of one.
    guard space.length > 0 || space.rows == 0 || anchor.count + positive.count + negative.count == 0
    else {
      throw invalid(
        "anchor \(shapeText(anchor.shape)), positive \(shapeText(positive.shape)) and negative "
          + "\(shapeText(negative.shape)): some have rows without elements, and some have elements")
    }
    var state = RowPlan(space)
    state.pairs = [RowPair(x: 0, y: 1), RowPair(x: 0, y: 2), RowPair(x: 1, y: 2)]
    state.pairCount = call.attributes.bool(swap) ? 3 : 2
    state.norm = Norm(call.attributes.float(p))
    state.shift = call.attributes.float(eps)
    state.constants[0] = margin
    state.isOneForAll = space.length == 0 && LossReduction(call.attributes) != .none
    try checkNorm(state)
    // Each distance has a type of its own.
    var type = floatType(anchor.dataType.promoted(with: positive.dataType))
    type = type.promoted(with: floatType(anchor.dataType.promoted(with: negative.dataType)))
    if state.pairCount > 2 {
      type = type.promoted(with: floatType(positive.dataType.promoted(with: negative.dataType)))
    }
    try planValues(call, &plan, space, type)
    try planRows(call, &plan, &state)
    return state
  }

  static func result(
    _ numbers: borrowing RowNumbers, _ state: borrowing RowPlan, label: Double, scale: Double
  ) -> RowResult {
    let near = numbers.norm(0)
    let far = numbers.norm(1)
    let swapped = state.pairCount > 2 ? numbers.norm(2) : .infinity
    // NaN where either is; a tie's gradient goes halves.
    let distance = far.isNaN || swapped.isNaN ? far + swapped : min(far, swapped)
    let share = far == swapped ? 0.5 : far < swapped ? 1.0 : 0
    let loss = state.constants[0] + near - distance
    var result = RowResult(value: loss < 0 ? 0 : loss)
    guard state.hasGoals else { return result }
    let slope = loss >= 0 ? scale : 0
    let (norm, hasSwap) = (state.norm, state.pairCount > 2)
    let a = slope * norm.factor(near, ties: numbers.ties(0))
    let b = -slope * (hasSwap ? share : 1) * norm.factor(far, ties: numbers.ties(1))
    let c = hasSwap ? -slope * (1 - share) * norm.factor(swapped, ties: numbers.ties(2)) : 0
    result.factors = [a, b, -a, c, -b, -c]
    return result
  }

  static func goal(_ index: Int) -> RowGoal {
    let (near, far) = (GoalTerm(x: 0, y: 1, pair: 0), GoalTerm(x: 0, y: 2, pair: 1))
    let swapped = GoalTerm(x: 1, y: 2, pair: 2)
    return switch index {
    case 0: RowGoal(operand: 0, first: near, second: far)
    case 1: RowGoal(operand: 1, first: near, second: swapped)
    default: RowGoal(operand: 2, first: far, second: swapped)
    }
  }
}

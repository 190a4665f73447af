import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// A loss of an input and a target that broadcast with one another.
protocol PairLoss: ElementFunction {}

extension PairLoss {
  static var places: ElementPlaces { .loss() }
  static var shapeRule: ElementShapeRule { .full(sameRank: false) }
  static var typeRule: ElementTypeRule { .promoted(floats: false, expandsFirst: true) }
}

/// |x - y|; torch.nn.functional.l1_loss.
enum L1Loss: PairLoss {
  static var declaration: FunctionDeclaration {
    .broadcastLoss("l1_loss", summary: "|input - target|", hasWeight: true)
  }
  static var places: ElementPlaces { .loss(weight: 3, slopeOfWeight: 3) }
  static var weightRule: ElementWeightRule { .meanOfWeights }

  static func formula(_ call: Call) -> ElementFormulaID { .absoluteError }
}

/// (x - y)^2; torch.nn.functional.mse_loss.
enum MSELoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .broadcastLoss(
      "mse_loss", summary: "(input - target)^2", targetTypes: DataType.allCases, hasWeight: true)
  }
  static var places: ElementPlaces { .loss(weight: 3, slopeOfWeight: 3) }
  static var weightRule: ElementWeightRule { .meanOfWeights }

  static func formula(_ call: Call) -> ElementFormulaID { .squaredError }
}

/// With d = x - y, d^2 / (2 beta) for |d| < beta, else |d| - beta / 2; torch.nn.functional.smooth_l1_loss.
enum SmoothL1Loss: PairLoss {
  static var declaration: FunctionDeclaration {
    .broadcastLoss(
      "smooth_l1_loss", summary: "(x - y)^2 / (2 beta) below beta, else |x - y| - beta / 2",
      targetTypes: DataType.allCases,
      attributes: [
        .number(
          "beta", 1, minimum: 0, help: "where the square ends; 0: the absolute difference alone")
      ])
  }
  static var constantCount: Int { 1 }

  static func formula(_ call: Call) -> ElementFormulaID {
    constants(call.attributes).a == 0 ? .absoluteError : .smoothL1
  }
}

/// With d = x - y, d^2 / 2 up to delta, else delta (|d| - delta / 2); torch.nn.functional.huber_loss.
enum HuberLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .broadcastLoss(
      "huber_loss", summary: "(x - y)^2 / 2 up to delta, else delta (|x - y| - delta / 2)",
      types: floatTypes, targetTypes: DataType.allCases, hasWeight: true,
      attributes: [.number("delta", 1, help: "where the square ends, above 0")])
  }
  static var places: ElementPlaces { .loss(weight: 3, slopeOfWeight: 3) }
  static var typeRule: ElementTypeRule { .ofInput }
  static var weightRule: ElementWeightRule { .whole }
  static var constantCount: Int { 1 }

  static func formula(_ call: Call) -> ElementFormulaID { .huber }

  static func check(_ attributes: Attributes, _ type: DataType) throws(StatusError) {
    let delta = constants(attributes).a
    guard delta > 0 else { throw invalid("delta is \(delta), expected more than 0") }
  }
}

/// log(cosh(x - y)), the smooth absolute error of scikit-learn's and Keras' users.
enum LogCoshLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .broadcastLoss("log_cosh_loss", summary: "log(cosh(input - target))")
  }

  static func formula(_ call: Call) -> ElementFormulaID { .logCosh }
}

/// With d = y - x the larger of q d and (q - 1) d, the pinball loss. Koenker and Bassett (1978).
enum QuantileLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .broadcastLoss(
      "quantile_loss", summary: "max(q (target - input), (q - 1) (target - input))",
      attributes: [
        .number("q", 0.5, minimum: 0, maximum: 1, help: "the quantile that the input is to be")
      ])
  }

  private static let quantile = 1

  /// The second factor is not rounded to float32 before the difference is taken.
  static func constants(_ attributes: Attributes) -> ElementConstants {
    let q = attributes.float(quantile)
    return ElementConstants(q, q - 1)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .quantile }
}

/// With the variance v = max(var, eps), (log(v) + (x - y)^2 / v) / 2; torch.nn.functional.gaussian_nll_loss.
enum GaussianNLLLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .loss(
      "gaussian_nll_loss", summary: "(log(var) + (input - target)^2 / var) / 2",
      inputTypes: integersAndFloats, inputHelp: "the means, any shape", inputBatching: .broadcast,
      targetTypes: integersAndFloats, targetHelp: "broadcasts with input",
      broadcastInputs: [
        InputDeclaration(
          "var", floatTypes, isRequired: true, batching: .broadcast,
          help:
            "variances: of input's shape, of that without its last dimension, or with a 1 in one place"
        )
      ], differentiable: ["var"],
      attributes: [
        AttributeDeclaration(
          "full", .bool, default: .bool(false), help: "with the constant log(2 pi) / 2"),
        .number("eps", 1e-6, help: "the least variance, at least 0"),
      ])
  }
  static var places: ElementPlaces { .loss(parameter: 3, slopeOfParameter: 3) }
  static var typeRule: ElementTypeRule { .promoted(floats: true, expandsFirst: false) }
  static var hasDomain: Bool { true }
  private static let (full, eps) = (1, 2)

  static func formula(_ call: Call) -> ElementFormulaID { .gaussian }

  static func constants(_ attributes: Attributes) -> ElementConstants {
    ElementConstants(attributes.float(eps), attributes.bool(full) ? 1 : 0)
  }

  static func check(_ attributes: Attributes, _ type: DataType) throws(StatusError) {
    let least = constants(attributes).a
    guard least >= 0 else { throw invalid("eps is \(least), expected at least 0") }
  }

  static func check(_ element: ScalarElement, _ index: Int) throws(StatusError) {
    guard !(element.parameter < 0) else {
      throw invalid("var is \(element.parameter) at element \(index), expected at least 0")
    }
  }

  static func reshaped(_ tensors: ElementTensors) -> ElementShape? {
    guard let variance = tensors.parameter else { return nil }
    let shape = tensors.input.shape
    guard !variance.hasShape(shape), variance.rank + 1 == shape.count,
      (0..<variance.rank).allSatisfy({ variance.shape[$0] == shape[$0] })
    else { return nil }
    var result = ElementShape(isOfTarget: false, rank: shape.count)
    for dimension in 0..<variance.rank { result.sizes[dimension] = shape[dimension] }
    return result
  }

  static func check(_ tensors: ElementTensors) throws(StatusError) {
    guard let variance = tensors.parameter else { return }
    let shape = tensors.input.shape
    if variance.hasShape(shape) { return }
    if variance.rank == shape.count {
      let different = (0..<variance.rank).filter { variance.shape[$0] != shape[$0] }
      if different.count == 1, variance.shape[different[0]] == 1 { return }
    }
    throw invalid(
      "var is \(shapeText(variance.shape)), expected \(shapeText(shape)), without its last dimension or with a 1 "
        + "in one place")
  }
}

/// max(0, margin - target (input1 - input2)); torch.nn.functional.margin_ranking_loss.
enum MarginRankingLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .loss(
      "margin_ranking_loss", summary: "max(0, margin - target (input1 - input2))",
      input: "input1", inputTypes: integersAndFloats, inputHelp: "scores, any shape",
      inputBatching: .broadcast, target: "input2", targetTypes: integersAndFloats,
      targetHelp: "scores of as many dimensions; broadcasts with input1",
      broadcastInputs: [
        InputDeclaration(
          "target", integersAndFloats, isRequired: true, batching: .broadcast,
          help: "1 where input1 is to be larger, -1 where input2; broadcasts with them")
      ], differentiable: ["target"],
      attributes: [.number("margin", 0, help: "the difference that costs nothing")])
  }
  static var places: ElementPlaces { .loss(parameter: 3, slopeOfParameter: 3) }
  static var typeRule: ElementTypeRule { .promoted(floats: true, expandsFirst: false) }
  static var shapeRule: ElementShapeRule { .full(sameRank: true) }
  static var constantCount: Int { 1 }

  static func formula(_ call: Call) -> ElementFormulaID { .marginRanking }
}

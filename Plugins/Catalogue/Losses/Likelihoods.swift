import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// y (log(y) - x) of a log-probability x and a probability y; torch.nn.functional.kl_div.
enum KLDivLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .broadcastLoss(
      "kl_div", summary: "target (log(target) - input), the Kullback-Leibler divergence",
      types: floatTypes, inputHelp: "log-probabilities",
      targetHelp: "probabilities; broadcasts with input",
      reduction: LossReduction.attribute(hasBatchMean: true),
      attributes: [
        AttributeDeclaration(
          "log_target", .bool, default: .bool(false), help: "the target is log-probabilities, too")
      ])
  }

  static var typeRule: ElementTypeRule { .promoted(floats: false, expandsFirst: false) }
  private static let logTarget = 1

  static func formula(_ call: Call) -> ElementFormulaID {
    call.attributes.bool(logTarget) ? .divergenceOfLogs : .divergence
  }
}

/// The negative log-likelihood of a count by a Poisson distribution; torch.nn.functional.poisson_nll_loss.
enum PoissonNLLLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .broadcastLoss(
      "poisson_nll_loss", summary: "exp(input) - target input, or input - target log(input + eps)",
      targetTypes: DataType.allCases, inputHelp: "the mean or its logarithm",
      targetHelp: "counts; broadcasts with input",
      attributes: [
        AttributeDeclaration(
          "log_input", .bool, default: .bool(true), help: "the input is the logarithm of the mean"),
        AttributeDeclaration(
          "full", .bool, default: .bool(false),
          help: "with Stirling's approximation of log(target!) for a target above 1"),
        .number("eps", 1e-8, help: "added to the input before its logarithm"),
      ])
  }

  static var typeRule: ElementTypeRule {
    .promoted(floats: true, expandsFirst: false, takesFloat: true)
  }
  private static let (logInput, full, eps) = (1, 2, 3)

  static func formula(_ call: Call) -> ElementFormulaID {
    call.attributes.bool(logInput) ? .poissonOfLog : .poisson
  }

  static func constants(_ attributes: Attributes) -> ElementConstants {
    ElementConstants(attributes.float(eps), attributes.bool(full) ? 1 : 0)
  }
}

/// log(1 + exp(-y x)); torch.nn.functional.soft_margin_loss.
enum SoftMarginLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .loss(
      "soft_margin_loss", summary: "log(1 + exp(-target input)), stable", inputHelp: "scores",
      targetTypes: DataType.allCases, targetHelp: "1 or -1; broadcasts to input",
      hasTargetGradient: false)
  }
  static var typeRule: ElementTypeRule { .ofInput }
  static var shapeRule: ElementShapeRule { .toInput }

  static func formula(_ call: Call) -> ElementFormulaID { .softMargin }
}

/// x where y is 1, max(0, margin - x) where it is -1; torch.nn.functional.hinge_embedding_loss.
enum HingeEmbeddingLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .loss(
      "hinge_embedding_loss", summary: "input for a target of 1, max(0, margin - input) for -1",
      inputHelp: "distances", inputBatching: .broadcast, targetTypes: DataType.allCases,
      targetHelp: "1 or -1; broadcasts with input",
      hasTargetGradient: false,
      attributes: [
        .number("margin", 1, help: "the distance from which on a pair of -1 costs nothing")
      ])
  }
  static var typeRule: ElementTypeRule { .ofInput }
  static var constantCount: Int { 1 }

  static func formula(_ call: Call) -> ElementFormulaID { .hingeEmbedding }
}

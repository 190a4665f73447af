import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// Binary cross entropy of sigmoid(x), less where x is right already; torchvision.ops.sigmoid_focal_loss, whose reduction
/// is `none` unless one says otherwise.
enum SigmoidFocalLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .broadcastLoss(
      "sigmoid_focal_loss",
      summary: "binary cross entropy of sigmoid(input) times alpha_t (1 - p_t)^gamma",
      types: floatTypes, inputHelp: "logits, any shape",
      targetHelp: "0 or 1, or between; broadcasts with input",
      reduction: LossReduction.attribute(.none),
      attributes: [
        .number(
          "alpha", 0.25, maximum: 1,
          help: "the weight of a target of 1, 1 - alpha that of 0; below 0: none"),
        .number(
          "gamma", 2, minimum: 0, maximum: .greatestFiniteMagnitude,
          help: "how fast what is right stops to count"),
      ])
  }

  private enum Place { static let (alpha, gamma) = (1, 2) }

  /// The weight of a target of 0 is not rounded to float32 before the difference is taken.
  static func constants(_ attributes: Attributes) -> ElementConstants {
    let alpha = attributes.float(Place.alpha)
    return ElementConstants(alpha, attributes.float(Place.gamma), 1 - alpha)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .sigmoidFocal }
}

/// The loss of many labels of which few are true; Ridnik et al. (2021), whose code sums. The gradient is the function's, of
/// the factor too.
enum AsymmetricLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .broadcastLoss(
      "asymmetric_loss",
      summary: "focal binary cross entropy with another gamma, and a margin, for a target of 0",
      types: floatTypes, inputHelp: "logits, any shape",
      targetHelp: "0 or 1 for each label; broadcasts with input", hasTargetGradient: false,
      reduction: LossReduction.attribute(.sum),
      attributes: [
        .number(
          "gamma_neg", 4, minimum: 0, maximum: .greatestFiniteMagnitude,
          help: "how fast a right 0 stops to count"),
        .number(
          "gamma_pos", 1, minimum: 0, maximum: .greatestFiniteMagnitude,
          help: "how fast a right 1 stops to count"),
        .number(
          "clip", 0.05, minimum: 0, maximum: 1,
          help: "the probability below which a 0 costs nothing"),
        .number("eps", 1e-8, minimum: 0, help: "the least probability whose logarithm is taken"),
      ])
  }
  static var constantCount: Int { 4 }

  static func formula(_ call: Call) -> ElementFormulaID { .asymmetric }
}

/// log(1 + exp(-y (scale x + bias))) of a similarity and 1 for a pair, -1 for none; Zhai et al. (2023). Their code divides
/// the sum by the images: reduction=batchmean.
enum SiglipLoss: PairLoss {
  static var declaration: FunctionDeclaration {
    .broadcastLoss(
      "siglip_loss", summary: "-log sigmoid(target (scale input + bias))",
      types: floatTypes, inputHelp: "similarities of images (rows) and texts, any shape",
      targetHelp: "1 for a pair, -1 for none; broadcasts with input",
      reduction: LossReduction.attribute(hasBatchMean: true),
      attributes: [
        .number("scale", 1, help: "what the similarities are multiplied by"),
        .number("bias", 0, help: "what is added to them"),
      ])
  }
  static var constantCount: Int { 2 }

  static func formula(_ call: Call) -> ElementFormulaID { .pairwiseSigmoid }
}

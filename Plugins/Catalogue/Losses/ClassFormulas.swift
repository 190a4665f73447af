import Glibc
import LossdPluginKit

/// (1 - p^q) / q of the target's probability p. Zhang and Sabuncu (2018), "Generalized Cross Entropy Loss for Training
/// Deep Neural Networks with Noisy Labels". As q goes to 0 this is cross_entropy; at 1 it is 1 - p.
struct GeneralizedCrossEntropy: ClassFormula {
  static let name = "generalized_cross_entropy"
  static let summary = "(1 - p^q) / q, p = softmax(input)[target]"
  static var attributes: [AttributeDeclaration] {
    [.number("q", 0.7, minimum: 0, maximum: 1, help: "0: cross_entropy; 1: 1 - p")]
  }
  /// Below this q the loss is l, to the last digit.
  private static let smallest = 1e-20

  let exponent: Double

  init(_ attributes: Attributes) { exponent = attributes.float(ClassPlaces.ownAttribute) }

  @inline(__always)
  func results(_ l: Double, rest: Double, power: Double) -> (value: Double, slope: Double) {
    exponent < Self.smallest ? (l, 1) : (rest / exponent, power)
  }
}

/// (1 - p)^gamma times the cross entropy. Lin and others (2017), "Focal Loss for Dense Object Detection", for many
/// classes, as in kornia's focal_loss, with `weight` in place of alpha.
struct SoftmaxFocalLoss: ClassFormula {
  static let name = "softmax_focal_loss"
  static let summary = "-(1 - p)^gamma log(p), p = softmax(input)[target]"
  static var attributes: [AttributeDeclaration] {
    [
      .number(
        "gamma", 2, minimum: 0, maximum: .greatestFiniteMagnitude,
        help: "how much less certain rows count; 0: cross_entropy")
    ]
  }

  private let gamma: Double

  init(_ attributes: Attributes) { gamma = attributes.float(ClassPlaces.ownAttribute) }

  @inline(__always)
  func results(_ l: Double, rest: Double, power: Double) -> (value: Double, slope: Double) {
    let factor = gamma == 2 ? rest * rest : pow(rest, gamma)
    // l / (1 - p) goes to 1 at 0, and p l to 0 at infinity.
    let share = power == 0 ? 0 : l == 0 ? power : power * (l / rest)
    return (factor * l, factor * (1 + gamma * share))
  }
}

/// The cross entropy and epsilon (1 - p). Leng and others (2022), "PolyLoss: A Polynomial Expansion Perspective of
/// Classification Loss Functions".
struct Poly1CrossEntropy: ClassFormula {
  static let name = "poly1_cross_entropy"
  static let summary = "-log(p) + epsilon (1 - p), p = softmax(input)[target]"
  static var attributes: [AttributeDeclaration] {
    [.number("epsilon", 1, help: "what the first power of 1 - p counts more than in cross_entropy")]
  }

  private let epsilon: Double

  init(_ attributes: Attributes) { epsilon = attributes.float(ClassPlaces.ownAttribute) }

  @inline(__always)
  func results(_ l: Double, rest: Double, power: Double) -> (value: Double, slope: Double) {
    (l + epsilon * rest, 1 + epsilon * power)
  }
}

import Glibc
import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// x P(X <= x) for a standard normal X, or its approximation by tanh; torch.nn.functional.gelu.
enum Gelu: ElementFunction {
  private static let approximate = 0

  static var declaration: FunctionDeclaration {
    .activation(
      "gelu", summary: "input P(X <= input) for a standard normal X, elementwise",
      attributes: [
        AttributeDeclaration(
          "approximate", .string, default: .string("none"), choices: ["none", "tanh"],
          help: "tanh: sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)) in place of P(X <= x)")
      ])
  }
  static var places: ElementPlaces { .activation }

  static func formula(_ call: Call) -> ElementFormulaID? {
    isTanh(call.attributes) ? .geluTanh : .gelu
  }

  /// 1 for the approximation by tanh.
  static func constant(_ attributes: Attributes) -> Double { isTanh(attributes) ? 1 : 0 }

  private static func isTanh(_ attributes: Attributes) -> Bool {
    attributes.string(approximate, equals: "tanh")
  }

  static func reference(_ element: ScalarElement) -> ScalarResults {
    let x = element.x
    guard element.constant == 0 else { return ofTanh(x) }
    let below = erfc(-x * 0.5.squareRoot()) / 2
    return ScalarResults(
      value: x * below, slope: below + x * exp(-x * x / 2) / (2 * Double.pi).squareRoot())
  }

  private static func ofTanh(_ x: Double) -> ScalarResults {
    let twice = (8 / Double.pi).squareRoot()
    let u = twice * x * (1 + 0.044715 * x * x)
    let (p, q) = (logistic(u), logistic(-u))
    return ScalarResults(
      value: x * p,
      slope: p + (p * q == 0 ? 0 * x : x * p * q * twice * (1 + 3 * 0.044715 * x * x)))
  }
}

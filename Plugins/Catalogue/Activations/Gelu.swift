import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// x P(X <= x) for a standard normal X, or its approximation by tanh; torch.nn.functional.gelu.
enum Gelu: Activation {
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

  static func formula(_ call: Call) -> ElementFormulaID {
    call.attributes.string(approximate, equals: "tanh") ? .geluTanh : .gelu
  }
}

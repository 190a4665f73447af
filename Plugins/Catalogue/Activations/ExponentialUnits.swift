import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// x above 0, else alpha (exp(x) - 1); torch.nn.functional.elu.
enum Elu: Activation {
  private static let alpha = 0

  static var declaration: FunctionDeclaration {
    .activation(
      "elu", summary: "input where positive, else alpha (exp(input) - 1), elementwise",
      attributes: [.number("alpha", 1, help: "the limit far below 0, negated")])
  }
  static var constantCount: Int { 1 }

  static func formula(_ call: Call) -> ElementFormulaID { .elu }

  static func constants(_ attributes: Attributes) -> ElementConstants {
    ElementConstants(attributes.float(alpha), 1)
  }
}

/// elu with an alpha and a scale that keep mean 0 and variance 1; torch.nn.functional.selu.
enum Selu: Activation {
  static var declaration: FunctionDeclaration {
    .activation("selu", summary: "1.0507 elu(input, 1.6733), elementwise")
  }

  static func formula(_ call: Call) -> ElementFormulaID { .selu }
}

/// max(0, x) + min(0, alpha (exp(x / alpha) - 1)); torch.nn.functional.celu.
enum Celu: Activation {
  private static let alpha = 0

  static var declaration: FunctionDeclaration {
    .activation(
      "celu", summary: "input where positive, else alpha (exp(input / alpha) - 1), elementwise",
      attributes: [.number("alpha", 1, help: "the limit far below 0, negated; not 0")])
  }
  static var constantCount: Int { 1 }

  static func formula(_ call: Call) -> ElementFormulaID { .elu }

  static func constants(_ attributes: Attributes) -> ElementConstants {
    ElementConstants(attributes.float(alpha), 1 / attributes.float(alpha))
  }

  static func check(_ attributes: Attributes, _ type: DataType) throws(StatusError) {
    if attributes.float(alpha) == 0 { throw invalid("alpha is 0, which celu divides by") }
  }
}

/// x sigmoid(x); torch.nn.functional.silu.
enum Silu: Activation {
  static var declaration: FunctionDeclaration {
    .activation("silu", summary: "input sigmoid(input), elementwise")
  }

  static func formula(_ call: Call) -> ElementFormulaID { .silu }
}

/// x tanh(log(1 + exp(x))); torch.nn.functional.mish.
enum Mish: Activation {
  static var declaration: FunctionDeclaration {
    .activation("mish", summary: "input tanh(softplus(input)), elementwise")
  }

  static func formula(_ call: Call) -> ElementFormulaID { .mish }
}

/// log(1 + exp(beta x)) / beta; torch.nn.functional.softplus.
enum Softplus: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "softplus", summary: "log(1 + exp(beta input)) / beta, elementwise",
      attributes: [
        .number("beta", 1, help: "how sharp the bend is"),
        .number("threshold", 20, help: "beta input above which the result is the input"),
      ])
  }
  static var constantCount: Int { 2 }

  static func formula(_ call: Call) -> ElementFormulaID { .softplus }
}

/// log(sigmoid(x)); torch.nn.functional.logsigmoid.
enum LogSigmoid: Activation {
  static var declaration: FunctionDeclaration {
    .activation("logsigmoid", summary: "log(sigmoid(input)), elementwise")
  }

  static func formula(_ call: Call) -> ElementFormulaID { .logSigmoid }
}

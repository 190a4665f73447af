import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// The hyperbolic tangent; torch.tanh.
enum Tanh: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "tanh", summary: "the hyperbolic tangent, elementwise", inputTypes: DataType.allCases)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .tanh }
}

/// x - tanh(x); torch.nn.functional.tanhshrink.
enum Tanhshrink: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "tanhshrink", summary: "input - tanh(input), elementwise", inputTypes: integersAndFloats)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .tanhshrink }
}

/// x / (1 + |x|); torch.nn.functional.softsign.
enum Softsign: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "softsign", summary: "input / (1 + |input|), elementwise", inputTypes: integersAndFloats)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .softsign }
}

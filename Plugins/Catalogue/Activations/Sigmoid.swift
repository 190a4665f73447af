import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// 1 / (1 + exp(-x)); torch.sigmoid. Integers give float32.
enum Sigmoid: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "sigmoid", summary: "1 / (1 + exp(-input)), elementwise", inputTypes: DataType.allCases)
  }

  static func formula(_ call: Call) -> ElementFormulaID { .sigmoid }
}

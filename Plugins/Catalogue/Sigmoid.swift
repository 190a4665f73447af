import Glibc
import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// 1 / (1 + exp(-x)); torch.sigmoid. Integers give float32.
enum Sigmoid: ElementFunction {
  static var declaration: FunctionDeclaration {
    .activation(
      "sigmoid", summary: "1 / (1 + exp(-input)), elementwise", inputTypes: DataType.allCases,
      outputHelp: "like input; float32 for integers")
  }
  static var places: ElementPlaces { .activation }
  static var referenceCost: Double { 10 }

  static func formula(_ call: Call) -> ElementFormulaID? { .sigmoid }

  @inline(__always)
  static func reference(_ element: ScalarElement) -> ScalarResults {
    let x = element.x
    // exp of the negative magnitude never overflows.
    let small = exp(-x.magnitude)
    let large = 1 / (1 + small)
    return ScalarResults(
      value: x >= 0 ? large : x < 0 ? small * large : x, slope: small * large * large)
  }
}

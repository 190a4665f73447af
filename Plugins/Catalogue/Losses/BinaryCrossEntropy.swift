import Glibc
import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// -(y log x + (1 - y) log(1 - x)); torch.nn.functional.binary_cross_entropy.
enum BinaryCrossEntropy: ElementFunction {
  static var declaration: FunctionDeclaration {
    .loss(
      "binary_cross_entropy", summary: "-(y log x + (1 - y) log(1 - x))",
      inputHelp: "probabilities in [0, 1]", targetHelp: "like input, in [0, 1]",
      targetBatching: .rows,
      broadcastInputs: [.elementWeight])
  }
  static var places: ElementPlaces { .loss(weight: 3) }

  static func formula(_ call: Call) -> ElementFormulaID { .binaryCrossEntropy }
  static var hasExtremes: Bool { true }

  static func check(_ element: ScalarElement, _ index: Int) throws(StatusError) {
    let (x, y) = (element.x, element.y)
    guard x >= 0, x <= 1 else { throw invalid("input[\(index)] is \(x), outside [0, 1]") }
    guard y >= 0, y <= 1 else { throw invalid("target[\(index)] is \(y), outside [0, 1]") }
  }
}

/// The same of sigmoid(x), stable; torch.nn.functional.binary_cross_entropy_with_logits.
enum BinaryCrossEntropyWithLogits: ElementFunction {
  static var declaration: FunctionDeclaration {
    .loss(
      "binary_cross_entropy_with_logits", summary: "binary cross entropy of sigmoid(input), stable",
      inputHelp: "logits", targetHelp: "like input, in [0, 1]",
      targetBatching: .rows,
      broadcastInputs: [
        .elementWeight,
        InputDeclaration(
          "pos_weight", DataType.allCases.filter { $0 != .bool }, isKept: true,
          batching: .broadcast, help: "weight of the positive term; broadcasts"),
      ])
  }
  static var places: ElementPlaces { .loss(weight: 3, parameter: 4) }
  static var typeRule: ElementTypeRule { .ofTarget }

  static var hasExtremes: Bool { true }

  static func formula(_ call: Call) -> ElementFormulaID {
    call.input(places.parameter) == nil ? .binaryLogits : .weightedBinaryLogits
  }

  /// aten/src/ATen/native/Loss.cpp.
  static func extreme(_ element: ScalarElement, _ round: Extremes) -> ScalarResults? {
    let (x, y, positive) = (element.x, element.y, element.parameter)
    var logarithm = round(logSigmoid(x))
    var slope = round(logistic(x) - y)
    var ofTarget = -x
    if element.hasParameter {
      let share = round(positive * y)
      slope = round(round(round(share + 1) - y) * logistic(x))
      slope = round(slope - share)
      ofTarget = round(round(logSigmoid(-x)) - round(positive * logarithm))
      logarithm = round(logarithm * round(round(round(positive - 1) * y) + 1))
    }
    let loss = round(round(round(1 - y) * x) - logarithm)
    func scaled(_ slope: Double) -> Double {
      round(round(slope * element.scale) * element.weight)
    }
    return ScalarResults(
      value: round(loss * element.weight), slope: scaled(slope), slopeOfTarget: scaled(ofTarget))
  }
}

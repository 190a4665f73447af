import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// An elementwise function of an input and another operand that broadcast with one another.
protocol PairActivation: ElementFunction {}

extension PairActivation {
  static var places: ElementPlaces { .pairActivation }
  static var shapeRule: ElementShapeRule { .full(sameRank: false) }
  static var typeRule: ElementTypeRule { .promoted(floats: true, expandsFirst: false) }
}

/// x log(y), 0 for x = 0; torch.special.xlogy.
enum XLogY: PairActivation {
  static var declaration: FunctionDeclaration {
    .pairActivation(
      "xlogy", summary: "input log(other), 0 where input is 0",
      inputTypes: DataType.allCases, otherHelp: "broadcasts with input")
  }

  static func formula(_ call: Call) -> ElementFormulaID { .xLogY }
}

/// x log(1 + y), 0 for x = 0; torch.special.xlog1py.
enum XLog1py: PairActivation {
  static var declaration: FunctionDeclaration {
    .pairActivation(
      "xlog1py", summary: "input log(1 + other), 0 where input is 0",
      inputTypes: DataType.allCases, otherHelp: "broadcasts with input")
  }

  static func formula(_ call: Call) -> ElementFormulaID { .xLog1pY }
}

/// x above 0, else the channel's weight times x; torch.nn.functional.prelu.
enum PRelu: PairActivation {
  static var declaration: FunctionDeclaration {
    .pairActivation(
      "prelu", summary: "input above 0, else weight times input", other: "weight",
      isOtherKept: true, otherHelp: "a number, or one for each channel, input's second dimension")
  }
  static var typeRule: ElementTypeRule { .alike }

  static func formula(_ call: Call) -> ElementFormulaID { .prelu }
  static var formulaOfNumber: ElementFormulaID? { .leakyRelu }

  static func reshaped(_ tensors: ElementTensors) throws(StatusError) -> ElementShape? {
    guard let weight = tensors.target else { return nil }
    guard weight.rank <= 1 else {
      throw invalid("weight is \(shapeText(weight.shape)), expected () or one dimension")
    }
    if weight.count == 1 { return ElementShape() }
    var result = ElementShape(rank: max(tensors.input.rank - 1, 0))
    result.sizes[0] = Int64(weight.count)
    return result
  }

  static func check(_ tensors: ElementTensors) throws(StatusError) {
    guard let weight = tensors.target else { return }
    let input = tensors.input
    let channels = input.rank > 1 ? input.size(1) : 1
    guard weight.count == 1 || weight.count == channels else {
      throw invalid(
        "weight has \(weight.count) numbers, expected 1 or as many as input "
          + "\(shapeText(input.shape)) has channels, \(channels)")
    }
  }
}

import LossdKernelTable
import LossdPluginKit
import LossdTensor

/// An elementwise activation.
protocol Activation: ElementFunction {}

extension Activation {
  static var places: ElementPlaces { .activation }
}

/// max(0, x); torch.nn.functional.relu.
enum Relu: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "relu", summary: "max(0, input), elementwise", inputTypes: integersAndFloats,
      outputHelp: "like input")
  }
  static var typeRule: ElementTypeRule { .ofInput }

  static func formula(_ call: Call) -> ElementFormulaID { .relu }

  static func integers(_ attributes: Attributes) -> IntegerPieces? { .bounded(0, .infinity) }
}

/// min(max(0, x), 6); torch.nn.functional.relu6.
enum Relu6: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "relu6", summary: "input between 0 and 6, elementwise", inputTypes: integersAndFloats,
      outputHelp: "like input")
  }
  static var typeRule: ElementTypeRule { .ofInput }

  static func formula(_ call: Call) -> ElementFormulaID { .hardTanh }

  static func constants(_ attributes: Attributes) -> ElementConstants { ElementConstants(0, 6) }

  static func integers(_ attributes: Attributes) -> IntegerPieces? { .bounded(0, 6) }
}

/// min(max(min_val, x), max_val); torch.nn.functional.hardtanh.
enum HardTanh: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "hardtanh", summary: "input between min_val and max_val, elementwise",
      inputTypes: integersAndFloats, outputHelp: "like input",
      attributes: [
        .number("min_val", -1, help: "the least result"),
        .number("max_val", 1, help: "the largest result, at least min_val"),
      ])
  }
  static var constantCount: Int { 2 }
  static var typeRule: ElementTypeRule { .ofInput }

  static func formula(_ call: Call) -> ElementFormulaID { .hardTanh }

  static func integers(_ attributes: Attributes) -> IntegerPieces? {
    let bounds = constants(attributes)
    return .bounded(bounds.a, bounds.b)
  }

  static func check(_ attributes: Attributes, _ type: DataType) throws(StatusError) {
    let bounds = constants(attributes)
    if !type.isFloatingPoint { try integers(attributes)?.check(type, ("min_val", "max_val")) }
    guard bounds.a <= bounds.b else {
      throw invalid("min_val is \(bounds.a), expected at most max_val, which is \(bounds.b)")
    }
  }
}

/// x above the threshold, else the value; torch.nn.functional.threshold.
enum Threshold: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "threshold", summary: "input where above threshold, else value, elementwise",
      inputTypes: integersAndFloats, outputHelp: "like input",
      attributes: [
        .number("threshold", nil, help: "where the input ends"),
        .number("value", nil, help: "the result up to there"),
      ])
  }
  static var constantCount: Int { 2 }

  static var typeRule: ElementTypeRule { .ofInput }

  static func formula(_ call: Call) -> ElementFormulaID { .threshold }

  static func integers(_ attributes: Attributes) -> IntegerPieces? {
    let numbers = constants(attributes)
    return .above(numbers.a, else: numbers.b)
  }

  static func check(_ attributes: Attributes, _ type: DataType) throws(StatusError) {
    if !type.isFloatingPoint { try integers(attributes)?.check(type, ("threshold", "value")) }
  }
}

/// x above 0, else negative_slope x; torch.nn.functional.leaky_relu.
enum LeakyRelu: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "leaky_relu", summary: "input where positive, else negative_slope input, elementwise",
      attributes: [.number("negative_slope", 0.01, help: "the slope below 0")])
  }
  static var constantCount: Int { 1 }

  static func formula(_ call: Call) -> ElementFormulaID { .leakyRelu }
}

/// leaky_relu with the middle of two slopes, as torch.nn.functional.rrelu is in evaluation.
enum RRelu: Activation {
  private static let (lower, upper) = (0, 1)

  static var declaration: FunctionDeclaration {
    .activation(
      "rrelu", summary: "leaky_relu with the slope (lower + upper) / 2, as in evaluation",
      attributes: [
        .number("lower", 0.125, help: "the least slope below 0"),
        .number("upper", 1.0 / 3, help: "the largest, at least lower"),
      ])
  }
  static var constantCount: Int { 2 }

  static func formula(_ call: Call) -> ElementFormulaID { .leakyRelu }

  static func constants(_ attributes: Attributes) -> ElementConstants {
    ElementConstants((attributes.float(lower) + attributes.float(upper)) / 2)
  }

  static func check(_ attributes: Attributes, _ type: DataType) throws(StatusError) {
    let (least, largest) = (attributes.float(lower), attributes.float(upper))
    guard least <= largest else {
      throw invalid("lower is \(least), expected at most upper, which is \(largest)")
    }
  }
}

/// x / 6 + 1 / 2 between 0 and 1; torch.nn.functional.hardsigmoid.
enum HardSigmoid: Activation {
  static var declaration: FunctionDeclaration {
    .activation("hardsigmoid", summary: "input / 6 + 1 / 2 between 0 and 1, elementwise")
  }

  static func formula(_ call: Call) -> ElementFormulaID { .hardSigmoid }
}

/// x hardsigmoid(x); torch.nn.functional.hardswish.
enum HardSwish: Activation {
  static var declaration: FunctionDeclaration {
    .activation("hardswish", summary: "input hardsigmoid(input), elementwise")
  }

  static func formula(_ call: Call) -> ElementFormulaID { .hardSwish }
}

/// x outside of [-lambd, lambd], else 0; torch.nn.functional.hardshrink.
enum HardShrink: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "hardshrink", summary: "input where its magnitude is above lambd, else 0, elementwise",
      attributes: [.number("lambd", 0.5, help: "the largest magnitude that becomes 0")])
  }
  static var constantCount: Int { 1 }

  static func formula(_ call: Call) -> ElementFormulaID { .hardShrink }
}

/// x nearer to 0 by lambd; torch.nn.functional.softshrink.
enum SoftShrink: Activation {
  static var declaration: FunctionDeclaration {
    .activation(
      "softshrink", summary: "input nearer to 0 by lambd, elementwise",
      attributes: [.number("lambd", 0.5, help: "by how much, at least 0")])
  }
  static var constantCount: Int { 1 }

  static func formula(_ call: Call) -> ElementFormulaID { .softShrink }

  static func check(_ attributes: Attributes, _ type: DataType) throws(StatusError) {
    let (lambd, largest) = (constants(attributes).a, type.largestFinite)
    guard lambd >= 0, lambd <= largest else {
      throw invalid("lambd is \(lambd), outside [0, \(largest)] for \(type)")
    }
  }
}

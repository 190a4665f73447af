import LossdPluginKit
import LossdTensor

extension InputDeclaration {
  /// A loss's weight of each element.
  static var elementWeight: InputDeclaration {
    InputDeclaration(
      "weight", DataType.allCases, isKept: true, batching: .broadcast, help: "broadcasts to input")
  }
}

extension FunctionDeclaration {
  /// An elementwise activation, as `ElementPlaces.activation` has its tensors.
  static func activation(
    _ name: String, summary: String, inputTypes: [DataType] = floatTypes,
    attributes: [AttributeDeclaration] = []
  ) -> FunctionDeclaration {
    FunctionDeclaration(
      name: name, kind: .activation, summary: summary,
      inputs: [
        InputDeclaration(
          "input", inputTypes, isRequired: true, batching: .rows, help: "any shape"),
        InputDeclaration(
          "grad.output", floatTypes, batching: .rows, help: "upstream gradient, like output"),
      ],
      outputs: [
        OutputDeclaration(
          "output", isDefault: true, hasRows: true, mayOverwrite: 0,
          help: inputTypes == floatTypes ? "like input" : "like input; float32 for integers"),
        OutputDeclaration(
          "grad.input", hasRows: true, mayOverwrite: 0, help: "gradient with respect to input"),
      ], attributes: attributes)
  }

  /// An elementwise loss, as `ElementPlaces.loss` has its tensors: `broadcastInputs` are the weight and the parameter.
  /// `attributes` follow the reduction.
  static func loss(
    _ name: String, summary: String, inputHelp: String = "any shape",
    targetHelp: String = "of input's type; broadcasts to input",
    targetBatching: InputDeclaration.Batching = .broadcast, hasTargetGradient: Bool = true,
    broadcastInputs: [InputDeclaration] = [], attributes: [AttributeDeclaration] = []
  ) -> FunctionDeclaration {
    FunctionDeclaration(
      name: name, kind: .loss, summary: summary,
      inputs: [
        InputDeclaration("input", floatTypes, isRequired: true, batching: .rows, help: inputHelp),
        InputDeclaration(
          "target", floatTypes, isRequired: true, batching: targetBatching, help: targetHelp),
        InputDeclaration(
          "grad.loss", floatTypes, batching: .upstream, help: "upstream gradient, like loss"),
      ] + broadcastInputs,
      outputs: [
        OutputDeclaration(
          "loss", isDefault: true, hasRows: true, help: "scalar, or like input for reduction=none"),
        OutputDeclaration("grad.input", hasRows: true, help: "gradient with respect to input"),
        OutputDeclaration(
          "grad.target", isUnimplemented: !hasTargetGradient, hasRows: true,
          help: hasTargetGradient ? "gradient with respect to target" : "torch has none"),
      ]
        + broadcastInputs.map {
          OutputDeclaration("grad." + $0.name, isUnimplemented: true, help: "not computed by lossd")
        },
      attributes: [Reduction.attribute] + attributes, accumulators: Reduction.accumulators,
      values: Reduction.values)
  }
}

extension AttributeDeclaration {
  /// A number of the formula; without a default it is required.
  static func number(
    _ name: String, _ value: Double?, minimum: Double? = nil, maximum: Double? = nil, help: String
  ) -> AttributeDeclaration {
    AttributeDeclaration(
      name, .float, isRequired: value == nil, default: value.map { .float($0) },
      minimum: minimum.map { .float($0) }, maximum: maximum.map { .float($0) }, help: help)
  }
}

/// The types of what is not for truth values.
let integersAndFloats = DataType.allCases.filter { $0 != .bool }

extension DataType {
  /// The largest number of a floating-point type.
  var largestFinite: Double {
    switch self {
    case .float64: Double.greatestFiniteMagnitude
    case .float16: Double(Float16.greatestFiniteMagnitude)
    case .bfloat16: 0x1.FEp127
    default: Double(Float.greatestFiniteMagnitude)
    }
  }
}

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
    outputHelp: String? = nil, attributes: [AttributeDeclaration] = []
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
          "output", isDefault: true, hasRows: true, mayOverwrite: ActivationPlaces.input,
          help: outputHelp
            ?? (inputTypes == floatTypes ? "like input" : "like input; float32 for integers")),
        OutputDeclaration(
          "grad.input", hasRows: true, mayOverwrite: ActivationPlaces.input,
          help: "gradient with respect to input"),
      ], attributes: attributes)
  }

  /// An elementwise function of two operands, as `ElementPlaces.pairActivation` has its tensors.
  static func pairActivation(
    _ name: String, summary: String, inputTypes: [DataType] = floatTypes, other: String = "other",
    isOtherKept: Bool = false, otherHelp: String
  ) -> FunctionDeclaration {
    let batching: InputDeclaration.Batching = isOtherKept ? .rows : .broadcast
    return FunctionDeclaration(
      name: name, kind: .activation, summary: summary,
      inputs: [
        InputDeclaration(
          "input", inputTypes, isRequired: true, batching: batching, help: "any shape"),
        InputDeclaration(
          other, inputTypes, isRequired: true, isKept: isOtherKept,
          batching: isOtherKept ? nil : .broadcast, help: otherHelp),
        InputDeclaration(
          "grad.output", floatTypes, batching: batching, help: "upstream gradient, like output"),
      ],
      outputs: [
        OutputDeclaration(
          "output", isDefault: true, hasRows: true, help: "what the inputs broadcast to"),
        OutputDeclaration("grad.input", hasRows: true, help: "gradient with respect to input"),
        OutputDeclaration(
          "grad." + other, hasRows: !isOtherKept,
          help: "gradient with respect to " + other),
      ], attributes: [])
  }

  /// An elementwise loss, as `ElementPlaces.loss` has its tensors: `broadcastInputs` are the weight and the parameter, of
  /// which those that `differentiable` names have a gradient, and the one that `gradientOfWhole` names has a gradient that
  /// no batch of rows has by itself. `attributes` follow the reduction.
  static func loss(
    _ name: String, summary: String, input: String = "input", inputTypes: [DataType] = floatTypes,
    inputHelp: String = "any shape", inputBatching: InputDeclaration.Batching = .rows,
    target: String = "target", targetTypes: [DataType] = floatTypes,
    targetHelp: String = "of input's type; broadcasts to input",
    targetBatching: InputDeclaration.Batching = .broadcast, hasTargetGradient: Bool = true,
    broadcastInputs: [InputDeclaration] = [], differentiable: [String] = [],
    gradientOfWhole: String? = nil,
    reduction: AttributeDeclaration = LossReduction.attribute,
    attributes: [AttributeDeclaration] = []
  ) -> FunctionDeclaration {
    FunctionDeclaration(
      name: name, kind: .loss, summary: summary,
      inputs: [
        InputDeclaration(
          input, inputTypes, isRequired: true, batching: inputBatching, help: inputHelp),
        InputDeclaration(
          target, targetTypes, isRequired: true, batching: targetBatching, help: targetHelp),
        InputDeclaration(
          "grad.loss", floatTypes, batching: .upstream, help: "upstream gradient, like loss"),
      ] + broadcastInputs,
      outputs: [
        OutputDeclaration(
          "loss", isDefault: true, hasRows: true,
          help: "scalar, or one an element for reduction=none"),
        OutputDeclaration(
          "grad." + input, hasRows: true, help: "gradient with respect to " + input),
        OutputDeclaration(
          "grad." + target, isUnimplemented: !hasTargetGradient, hasRows: true,
          help: hasTargetGradient ? "gradient with respect to " + target : "torch has none"),
      ]
        + broadcastInputs.map {
          let hasRows = differentiable.contains($0.name)
          let hasGradient = hasRows || $0.name == gradientOfWhole
          return OutputDeclaration(
            "grad." + $0.name, isUnimplemented: !hasGradient, hasRows: hasRows,
            help: hasGradient ? "gradient with respect to " + $0.name : "not computed by lossd")
        },
      attributes: [reduction] + attributes, accumulators: LossReduction.accumulators,
      values: LossReduction.values)
  }

  /// A loss whose input and target broadcast with one another, either way, and are promoted.
  static func broadcastLoss(
    _ name: String, summary: String, types: [DataType] = integersAndFloats,
    targetTypes: [DataType]? = nil, inputHelp: String = "any shape",
    targetHelp: String = "broadcasts with input",
    hasTargetGradient: Bool = true, hasWeight: Bool = false,
    reduction: AttributeDeclaration = LossReduction.attribute,
    attributes: [AttributeDeclaration] = []
  ) -> FunctionDeclaration {
    .loss(
      name, summary: summary, inputTypes: types, inputHelp: inputHelp, inputBatching: .broadcast,
      targetTypes: targetTypes ?? types, targetHelp: targetHelp,
      hasTargetGradient: hasTargetGradient,
      broadcastInputs: hasWeight
        ? [
          InputDeclaration(
            "weight", floatTypes, batching: .rows, help: "a factor an element, of input's shape")
        ] : [], gradientOfWhole: hasWeight ? "weight" : nil,
      reduction: reduction, attributes: attributes)
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

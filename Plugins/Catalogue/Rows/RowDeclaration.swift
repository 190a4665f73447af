import LossdPluginKit
import LossdTensor

extension FunctionDeclaration {
  /// A function of rows that has a value each, as `RowPlaces` with two operands has its tensors.
  static func distance(
    _ name: String, summary: String, types: [DataType], attributes: [AttributeDeclaration]
  ) -> FunctionDeclaration {
    FunctionDeclaration(
      name: name, kind: .activation, summary: summary,
      inputs: [
        InputDeclaration(
          "x1", types, isRequired: true, batching: .broadcast, isClasses: true, help: "any shape"),
        InputDeclaration(
          "x2", types, isRequired: true, batching: .broadcast, help: "broadcasts with x1"),
        InputDeclaration(
          "grad.output", floatTypes, batching: .upstream, help: "upstream gradient, like output"),
      ],
      outputs: [
        OutputDeclaration("output", isDefault: true, hasRows: true, help: "one a row"),
        OutputDeclaration("grad.x1", hasRows: true, help: "gradient with respect to x1"),
        OutputDeclaration("grad.x2", hasRows: true, help: "gradient with respect to x2"),
      ], attributes: attributes)
  }
}

extension AttributeDeclaration {
  static func dimension(_ value: Int64?, help: String) -> AttributeDeclaration {
    AttributeDeclaration(
      "dim", .int, isRequired: value == nil, default: value.map { .int($0) }, role: .dimension,
      help: help)
  }

  static let keepdim = AttributeDeclaration(
    "keepdim", .bool, default: .bool(false), help: "keep the rows' dimension, as 1")

  static func norm(_ value: Double) -> AttributeDeclaration {
    .number("p", value, help: "of the p-norm, infinities among them")
  }
}

/// The result's type: float32 for integers.
func floatType(_ type: DataType) -> DataType { type.isFloatingPoint ? type : .float32 }

extension RowFunction {
  /// Checks the upstream gradient of one value a row, and sets these values.
  static func planValues(
    _ call: Call, _ plan: inout Plan, _ space: RowSpace, _ type: DataType, keepdim: Bool = false
  ) throws(StatusError) {
    let upstream = call.input(places.upstream)
    let wanted = places.value.flatMap { call.wants($0) ? $0 : nil }
    if places.isLoss && LossReduction(call.attributes) != .none {
      try checkUpstream(upstream, "grad.loss", type, LossReduction.emptyShape, isReduced: true)
      if let wanted { plan.setReducedOutput(wanted, type) }
      return
    }
    let name = places.isLoss ? "grad.loss" : "grad.output"
    try space.resultShape(keepdim: keepdim) { shape throws(StatusError) in
      try checkUpstream(upstream, name, type, shape)
      if let wanted { plan.setOutput(wanted, type, shape: shape, isZeroed: space.length == 0) }
    }
  }

  /// Refuses a norm of rows without elements that torch has none of.
  static func checkNorm(_ state: RowPlan) throws(StatusError) {
    guard state.space.length == 0, !state.norm.hasEmptyRows else { return }
    throw invalid("rows have no elements, and the \(state.norm.p)-norm needs one: p is at least 0")
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? {
    places.isLoss ? LossReduction.finish(attributes, sums) : nil
  }
}

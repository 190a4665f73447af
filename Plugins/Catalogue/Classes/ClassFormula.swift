import Glibc
import LossdKernels
import LossdPluginKit
import LossdTensor

/// A loss of class indices that is a function of the cross entropy of its row alone. With l = -log softmax(x)[y],
/// w the weight of class y and s what the row's gradient is multiplied by, the row's loss is w f(l), and its
/// gradient is that of l times w s f'(l). The kernels of cross_entropy compute l and its gradient; a formula says
/// f and f' in float64. Inputs, attributes and divisors are those of cross_entropy.
protocol ClassFormula: Function where State == ClassState {
  static var name: String { get }
  static var summary: String { get }
  /// Its own attributes, behind `reduction` and `ignore_index`.
  static var attributes: [AttributeDeclaration] { get }

  init(_ attributes: Attributes)

  /// The power k of the target's probability that the formula looks at.
  var exponent: Double { get }

  /// f and f' of l, which is at least 0, infinite or NaN, with 1 - exp(-k l) and exp(-k l).
  func results(_ l: Double, rest: Double, power: Double) -> (value: Double, slope: Double)
}

extension ClassFormula {
  var exponent: Double { 1 }

  func results(_ l: Double) -> (value: Double, slope: Double) {
    results(l, rest: -expm1(-exponent * l), power: exp(-exponent * l))
  }
}

extension ClassFormula {
  static var declaration: FunctionDeclaration {
    FunctionDeclaration(
      name: name, kind: .loss, summary: summary,
      inputs: [
        InputDeclaration(
          "input", floatTypes, isRequired: true, batching: .rows, isClasses: true,
          help: "logits, (C), (N, C) or (N, C, d1, ..., dk)"),
        InputDeclaration(
          "target", indexTypes, isRequired: true, batching: .rows,
          help: "class indices: input without its classes, () or (1) for (C)"),
        InputDeclaration(
          "grad.loss", floatTypes, batching: .upstream, help: "upstream gradient, like loss"),
        InputDeclaration("weight", floatTypes, isKept: true, help: "(C), of input's type"),
      ],
      outputs: [
        OutputDeclaration(
          "loss", isDefault: true, hasRows: true, help: "scalar, or one a position for none"),
        OutputDeclaration("grad.input", hasRows: true, help: "gradient with respect to input"),
        OutputDeclaration("grad.weight", isUnimplemented: true, help: "not computed by lossd"),
      ],
      attributes: [
        Reduction.attribute,
        AttributeDeclaration(
          "ignore_index", .int, default: .int(-100), help: "targets of this value do not count"),
      ] + attributes, accumulators: Reduction.accumulators, values: Reduction.values)
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> ClassState {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { throw invalid("no input") }
    let layout = try ClassLayout(input)
    guard layout.isTargetShape(target.shape, input) else {
      throw invalid(
        "target is \(shapeText(target.shape)), expected input \(shapeText(input.shape)) without "
          + "its classes")
    }
    try checkClassWeight(call.input(ClassPlaces.weight), input.dataType, layout.classes)
    let reduction = Reduction(call.attributes)
    let shape = reduction == .none && input.rank > 1 ? target.shape : Reduction.emptyShape
    try checkUpstream(
      call.input(ClassPlaces.upstream), "grad.loss", input.dataType, shape,
      isReduced: reduction != .none)
    if call.wants(ClassPlaces.loss) {
      if reduction == .none {
        plan.setOutput(ClassPlaces.loss, input.dataType, shape: shape)
      } else {
        plan.setReducedOutput(ClassPlaces.loss, input.dataType)
      }
    }
    let hasGradient = call.wants(ClassPlaces.gradient)
    if hasGradient { plan.setOutput(ClassPlaces.gradient, input.dataType, shape: input.shape) }
    plan.setRows(input.rank == 1 ? 1 : input.size(0))
    var state = ClassState(layout: layout, sumsWeightsFirst: reduction == .mean && hasGradient)
    state.isVector =
      Kernels.chosen != nil && layout.classes > 0 && layout.classes <= Int(Int32.max)
    planPasses(&plan, input, &state, hasGradient: hasGradient)
    return state
  }

  private static func planPasses(
    _ plan: inout Plan, _ input: TensorView, _ state: inout ClassState, hasGradient: Bool
  ) {
    let layout = state.layout
    if state.sumsWeightsFirst {
      plan.addPass(units: layout.positions, unitCost: state.isVector ? 1 : 10)
    }
    if input.count > 0 && layout.classes > LongLayout.rowMax(isVector: state.isVector) {
      state.long = planLong(
        &plan, input, layout, firstPass: state.sumsWeightsFirst ? 1 : 0, hasGradient: hasGradient)
    } else if state.isVector && layout.positions > 0 {
      plan.setScratch(bytes: FormulaBlock.bytes(input, layout))
      plan.addPass(
        units: state.units.count,
        unitCost: state.units.cost(size: layout.classes, element: hasGradient ? 2 : 1, row: 40))
    } else {
      // Without classes each target is looked at, and is wrong unless it is ignored.
      plan.addPass(units: layout.positions, unitCost: 60 + 40 * Double(layout.classes))
    }
  }

  static func run(_ call: Call, _ state: ClassState, _ chunk: Chunk) throws(StatusError) {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { return }
    let isWeighing = state.sumsWeightsFirst && chunk.pass == 0
    if let long = state.long, !isWeighing {
      try runLong(call, state, long, chunk, input, target)
    } else if isWeighing {
      try weigh(call, state, chunk, target)
    } else if state.isVector, let kernels = Kernels.chosen {
      try runVector(kernels, call, state, chunk, input, target)
    } else {
      try runReference(call, state, chunk, input, target)
    }
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? { Reduction.finish(attributes, sums) }
}

/// The weights of classes: (C), of the input's type.
func checkClassWeight(
  _ weight: TensorView?, _ type: DataType, _ classes: Int
) throws(StatusError) {
  guard let weight else { return }
  guard weight.rank == 1, weight.count == classes, weight.dataType == type else {
    throw invalid("weight is \(weight.description), expected \(type) (\(classes),)")
  }
}

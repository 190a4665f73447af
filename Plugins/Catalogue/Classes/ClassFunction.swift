import Glibc
import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// Where the positions of a classification loss lie: input (C), (N, C) or (N, C, d1, ..., dk).
struct ClassLayout: BitwiseCopyable {
  var classes: Int
  var inner = 1
  var positions: Int

  init(_ input: TensorView) throws(StatusError) {
    guard input.rank > 0 else { throw invalid("input is a scalar, expected (C), (N, C) or more") }
    let axis = input.rank == 1 ? 0 : 1
    classes = input.size(axis)
    positions = input.rank == 1 ? 1 : input.size(0)
    for index in stride(from: 2, to: input.rank, by: 1) {
      inner *= input.size(index)
      positions *= input.size(index)
    }
  }

  func start(_ position: Int) -> Int { position / inner * classes * inner + position % inner }

  /// Whether `shape` is the input's without its classes. For an input (C), that is (), and torch
  /// takes (1) for it.
  func isTargetShape(_ shape: UnsafeBufferPointer<Int64>, _ input: TensorView) -> Bool {
    if input.rank == 1 { return shape.isEmpty || shape.count == 1 && shape[0] == 1 }
    return shape.count == input.rank - 1 && shape[0] == input.shape[0]
      && (1..<shape.count).allSatisfy { shape[$0] == input.shape[$0 + 1] }
  }
}

struct ClassState: BitwiseCopyable {
  var layout: ClassLayout
  /// A pass over the targets comes first, for the sum of the weights.
  var sumsWeightsFirst: Bool
  /// The target is class probabilities, of input's shape.
  var hasProbabilities = false
  /// Its losses are smoothed over no classes, which makes them NaN.
  var isVoid = false
  /// Its logits are capped, or their log-sum-exp squared counts too.
  var isCapped = false
  /// The vector kernels compute it, in these units.
  var isVector = false
  var units: RowUnits
  /// How more classes than one unit of work takes are cut.
  var long: LongClasses?

  init(layout: ClassLayout, sumsWeightsFirst: Bool, hasProbabilities: Bool = false) {
    self.layout = layout
    self.sumsWeightsFirst = sumsWeightsFirst
    self.hasProbabilities = hasProbabilities
    units = RowUnits(rows: layout.positions, size: layout.classes, inner: layout.inner)
  }
}

/// A loss of logits or log-probabilities and of a target a position. How tensors are checked, work
/// is cut, positions are gathered for the kernels and sums are merged is written once, in the
/// extensions of this protocol; a loss says what is computed of a block, of a position in float64,
/// and of a part of a long row.
protocol ClassFunction: Function where State == ClassState {
  static var name: String { get }
  static var summary: String { get }
  /// Its own attributes, behind `reduction` and `ignore_index`.
  static var attributes: [AttributeDeclaration] { get }
  static var hasLogits: Bool { get }

  init(_ attributes: Attributes)

  /// What label smoothing spreads over all classes.
  var smoothing: Double { get }

  /// Nanoseconds; they say how work is cut.
  static func costs(_ call: Call, _ input: TensorView) -> ClassCosts
  static func isVector(_ call: Call, _ input: TensorView, _ layout: ClassLayout) -> Bool
  /// Bytes of scratch before the block's.
  static var headBytes: Int { get }
  /// Positions of a block, at most `ClassBlock.positions`.
  static func positionsTogether(_ layout: ClassLayout) -> Int

  /// The sum of the targets' weights, and whether they are in range.
  static func weigh(
    _ call: Call, _ state: ClassState, _ chunk: Chunk, _ target: TensorView) throws(StatusError)

  /// Computes a block by the kernels, whose call is `rows`, and leaves each loss in it.
  func evaluate(_ rows: inout RowCall, _ work: ClassWork)
  /// Writes the gradient of a position and returns its loss, 0 for an ignored one.
  func reference(
    _ call: Call, _ state: ClassState, _ row: ClassRow, _ scratch: UnsafeMutableRawPointer
  ) throws(StatusError) -> Double

  /// The loss of the class of a long row, and what its gradient is made of into `row`.
  /// `logProbability` is the class's.
  func settle(
    _ row: inout RowState, logProbability: Double, weight: Double, _ extremes: Extremes
  ) -> Double
  /// Writes a part of a long row's gradient.
  func differentiate<T: LongElement>(_ column: LongColumn<T>, _ shares: ClassShares)
}

struct ClassCosts {
  /// Of the kernels, an element and a row.
  var element: Double
  var row: Double
  /// Of a position by itself.
  var reference: Double
  /// Of merging a long row beside its blocks, and of a block's gradient.
  var settled: Int
  var gradient: Double

  /// What measuring a block of a long row takes.
  static func block(_ input: TensorView) -> Double {
    (input.dataType == .float64 ? 20 : 3) * Double(LongLayout.blockElements)
  }
}

/// Some positions that are computed together.
struct ClassWork {
  let call: Call
  let state: ClassState
  let input: TensorView
  let tiles: Tiles
  let block: ClassBlock
  let scratch: UnsafeMutableRawPointer
  let first: Int

  var wantsGradient: Bool { call.wants(ClassPlaces.gradient) }

  /// A position of the block.
  func row(_ index: Int) -> ClassRow {
    let label = Int(block.labels[index])
    return ClassRow(
      position: first + index, start: state.layout.start(first + index),
      label: label < 0 ? nil : label, weight: block.weight(index),
      scale: wantsGradient ? block.scale(index) : 0)
  }
}

/// One position of a classification loss; `label` is nil for an ignored one.
struct ClassRow {
  var position: Int
  var start: Int
  var label: Int?
  var weight: Double
  var scale: Double
}

extension ClassFunction {
  static var hasLogits: Bool { true }
  static var headBytes: Int { 0 }
  static func positionsTogether(_ layout: ClassLayout) -> Int { ClassBlock.positions }

  static func isVector(_ call: Call, _ input: TensorView, _ layout: ClassLayout) -> Bool {
    Kernels.chosen != nil && layout.classes > 0 && layout.classes <= Int(Int32.max)
  }

  static func weigh(
    _ call: Call, _ state: ClassState, _ chunk: Chunk, _ target: TensorView
  ) throws(StatusError) { try weighEach(call, state, chunk, target) }

  static var declaration: FunctionDeclaration {
    declare(
      input: InputDeclaration(
        "input", floatTypes, isRequired: true, batching: .rows, isClasses: true,
        help: "logits, (C), (N, C) or (N, C, d1, ..., dk)"),
      target: InputDeclaration(
        "target", indexTypes, isRequired: true, batching: .rows,
        help: "class indices: input without its classes, () or (1) for (C)"),
      weight: InputDeclaration("weight", floatTypes, isKept: true, help: "(C), of input's type"))
  }

  static func declare(
    input: InputDeclaration, target: InputDeclaration, weight: InputDeclaration,
    more: [OutputDeclaration] = []
  ) -> FunctionDeclaration {
    FunctionDeclaration(
      name: name, kind: .loss, summary: summary,
      inputs: [
        input, target,
        InputDeclaration(
          "grad.loss", floatTypes, batching: .upstream, help: "upstream gradient, like loss"),
        weight,
      ],
      outputs: [
        OutputDeclaration(
          "loss", isDefault: true, hasRows: true, help: "scalar, or one a position for none"),
        OutputDeclaration("grad.input", hasRows: true, help: "gradient with respect to input"),
        OutputDeclaration("grad.weight", isUnimplemented: true, help: "not computed by lossd"),
      ] + more,
      attributes: [
        LossReduction.attribute,
        AttributeDeclaration(
          "ignore_index", .int, default: .int(-100), help: "targets of this value do not count"),
      ] + attributes, accumulators: LossReduction.accumulators, values: LossReduction.values)
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> ClassState {
    guard let input = call.input(ClassPlaces.input) else { throw invalid("no input") }
    let layout = try ClassLayout(input)
    var state = try planIndices(call, &plan, layout)
    planPasses(call, &plan, input, &state)
    return state
  }

  /// Checks class indices and what goes with them, and sets the results.
  static func planIndices(
    _ call: Call, _ plan: inout Plan, _ layout: ClassLayout
  ) throws(StatusError) -> ClassState {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { throw invalid("no input") }
    guard layout.isTargetShape(target.shape, input) else {
      throw invalid(
        "target is \(shapeText(target.shape)), expected input \(shapeText(input.shape)) without "
          + "its classes")
    }
    try checkClassWeight(call.input(ClassPlaces.weight), input.dataType, layout.classes)
    let reduction = LossReduction(call.attributes)
    // One loss of an input (C) is a scalar, whichever of its shapes the target has.
    let hasShape = reduction == .none && input.rank > 1
    try planLoss(call, &plan, input.dataType, hasShape ? target.shape : LossReduction.emptyShape)
    let wantsGradient = call.wants(ClassPlaces.gradient)
    var state = ClassState(
      layout: layout, sumsWeightsFirst: reduction == .mean && wantsGradient)
    state.isVector = isVector(call, input, layout)
    if wantsGradient {
      plan.setOutput(
        ClassPlaces.gradient, input.dataType, shape: input.shape,
        isZeroed: !hasLogits && !state.isVector)
    }
    plan.setRows(input.rank == 1 ? 1 : input.size(0))
    return state
  }

  /// Checks the upstream gradient and sets the loss, of this shape where each position has one.
  static func planLoss(
    _ call: Call, _ plan: inout Plan, _ type: DataType, _ shape: UnsafeBufferPointer<Int64>
  ) throws(StatusError) {
    let isReduced = LossReduction(call.attributes) != .none
    try checkUpstream(
      call.input(ClassPlaces.upstream), "grad.loss", type, shape, isReduced: isReduced)
    if !call.wants(ClassPlaces.loss) { return }
    if isReduced {
      plan.setReducedOutput(ClassPlaces.loss, type)
    } else {
      plan.setOutput(ClassPlaces.loss, type, shape: shape)
    }
  }

  static func planPasses(
    _ call: Call, _ plan: inout Plan, _ input: TensorView, _ state: inout ClassState
  ) {
    let (layout, costs) = (state.layout, costs(call, input))
    if state.sumsWeightsFirst {
      plan.addPass(units: layout.positions, unitCost: state.isVector ? 1 : 10)
    }
    if state.isCapped && input.count > 0 {
      CappedLogits.planPass(&plan, layout)
    } else if hasLogits && input.count > 0
      && layout.classes > LongLayout.rowMax(isVector: state.isVector)
    {
      state.long = planLong(call, &plan, state, input)
    } else if state.isVector && layout.positions > 0 {
      plan.setScratch(bytes: headBytes + ClassBlock.bytes(input, layout))
      plan.addPass(
        units: state.units.count,
        unitCost: state.units.cost(size: layout.classes, element: costs.element, row: costs.row))
    } else {
      // Without classes each target is looked at, and is wrong unless it is ignored.
      plan.addPass(
        units: state.isVoid ? max(layout.positions, 1) : layout.positions,
        unitCost: costs.reference)
    }
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? { LossReduction.finish(attributes, sums) }
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

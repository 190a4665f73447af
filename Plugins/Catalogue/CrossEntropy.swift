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

  /// Whether `shape` is the input's without its classes. For an input (C), that is (), and torch takes (1) for it.
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

/// The negative log likelihood of class indices, of log-probabilities or of logits.
protocol CrossEntropyFunction: Function where State == ClassState {
  static var hasLogits: Bool { get }
}

/// -log softmax(input)[target], or -sum(target * log softmax(input)) where the target has the shape of
/// the input; torch.nn.functional.cross_entropy.
enum CrossEntropy: CrossEntropyFunction { static let hasLogits = true }

/// -input[target]; torch.nn.functional.nll_loss.
enum NLLLoss: CrossEntropyFunction { static let hasLogits = false }

extension CrossEntropyFunction {
  /// Elements of the gradient that one unit of work writes at most: some 2 ms.
  private static var gradientElementsMax: Int { 1 << 22 }

  static var declaration: FunctionDeclaration {
    var outputs = [
      OutputDeclaration(
        "loss", isDefault: true, hasRows: true, help: "scalar, or one a position for none"),
      OutputDeclaration("grad.input", hasRows: true, help: "gradient with respect to input"),
      OutputDeclaration("grad.weight", isUnimplemented: true, help: "not computed by lossd"),
    ]
    var attributes = [
      Reduction.attribute,
      AttributeDeclaration(
        "ignore_index", .int, default: .int(-100), help: "targets of this value do not count"),
    ]
    if hasLogits {
      attributes.append(
        AttributeDeclaration(
          "label_smoothing", .float, default: .float(0), minimum: .float(0), maximum: .float(1),
          help: "share of the target given to all classes alike"))
      attributes += CappedLogits.attributes
      outputs.append(
        OutputDeclaration("grad.target", hasRows: true, help: "gradient of probabilities"))
    }
    return FunctionDeclaration(
      name: hasLogits ? "cross_entropy" : "nll_loss", kind: .loss,
      summary: hasLogits ? "-log softmax(input)[target]" : "-input[target]",
      inputs: [
        InputDeclaration(
          "input", floatTypes, isRequired: true, batching: .rows, isClasses: true,
          help: "(C), (N, C) or (N, C, d1, ..., dk)"),
        InputDeclaration(
          "target", hasLogits ? indexTypes + floatTypes : indexTypes, isRequired: true,
          batching: .rows,
          help: hasLogits
            ? "class indices: input without its classes, () or (1) for (C); or probabilities: like input"
            : "class indices: input without its classes, () or (1) for (C)"),
        InputDeclaration(
          "grad.loss", floatTypes, batching: .upstream, help: "upstream gradient, like loss"),
        InputDeclaration(
          "weight", hasLogits ? DataType.allCases : floatTypes, isKept: true,
          help: "(C), of input's type with class indices"),
      ],
      outputs: outputs, attributes: attributes, accumulators: Reduction.accumulators,
      values: Reduction.values)
  }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> ClassState {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { throw invalid("no input") }
    let layout = try ClassLayout(input)
    if hasLogits && target.hasShape(input.shape) {
      return try planProbabilities(call, &plan, layout)
    }
    if call.wants(ClassPlaces.gradientOfProbabilities) {
      throw invalid("target is \(target.description): class indices have no gradient")
    }
    guard indexTypes.contains(target.dataType) else {
      throw invalid(
        "target is \(target.description), expected class indices, or probabilities of input's "
          + "shape \(shapeText(input.shape))")
    }
    guard layout.isTargetShape(target.shape, input) else {
      throw invalid(
        "target is \(shapeText(target.shape)), expected input \(shapeText(input.shape)) without "
          + "its classes")
    }
    if let weight = call.input(ClassPlaces.weight) {
      guard weight.rank == 1, weight.count == layout.classes, weight.dataType == input.dataType
      else {
        throw invalid(
          "weight is \(weight.description), expected \(input.dataType) (\(layout.classes),)")
      }
    }
    let reduction = Reduction(call.attributes)
    // One loss of an input (C) is a scalar, whichever of its shapes the target has.
    let hasShape = reduction == .none && input.rank > 1
    let shape = hasShape ? target.shape : Reduction.emptyShape
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
    let isCapped = hasLogits && CappedLogits.areWanted(call.attributes)
    if isCapped { try CappedLogits.check(call) }
    let isVector =
      !isCapped && isVector(call, input, layout)
      && !(call.wants(ClassPlaces.gradient) && hasLongGradientRows(layout))
    if call.wants(ClassPlaces.gradient) {
      plan.setOutput(
        ClassPlaces.gradient, input.dataType, shape: input.shape, isZeroed: !hasLogits && !isVector)
    }
    plan.setRows(input.rank == 1 ? 1 : input.size(0))
    var state = ClassState(
      layout: layout, sumsWeightsFirst: reduction == .mean && call.wants(ClassPlaces.gradient))
    state.isVector = isVector
    state.isCapped = isCapped
    state.isVoid =
      hasLogits && layout.classes == 0 && call.attributes.float(ClassPlaces.smoothing) > 0
    planPasses(call, &plan, input, &state)
    return state
  }

  /// Whether a unit of the kernels' work would write so much of the gradient of the likelihood that nobody could stop it
  /// meanwhile. The host clears such a gradient in pieces, and the reference writes what is not 0.
  private static func hasLongGradientRows(_ layout: ClassLayout) -> Bool {
    if hasLogits || layout.positions == 0 { return false }
    let rows = layout.inner == 1 ? 1 : min(layout.inner, StridedRows.tileRows(size: layout.classes))
    return layout.classes > gradientElementsMax / rows
  }

  private static func planPasses(
    _ call: Call, _ plan: inout Plan, _ input: TensorView, _ state: inout ClassState
  ) {
    let layout = state.layout
    if state.sumsWeightsFirst {
      plan.addPass(units: layout.positions, unitCost: state.isVector ? 1 : 10)
    }
    if state.isCapped && input.count > 0 {
      CappedLogits.planPass(&plan, layout)
    } else if hasLogits && input.count > 0
      && layout.classes > LongLayout.rowMax(isVector: state.isVector)
    {
      state.long = planLong(
        call, &plan, layout, input, firstPass: state.sumsWeightsFirst ? 1 : 0,
        hasProbabilities: false)
    } else if state.isVector && layout.positions > 0 {
      plan.setScratch(bytes: vectorScratch(input, layout))
      let element = hasLogits ? 1 : call.wants(ClassPlaces.gradient) ? 0.2 : 0
      plan.addPass(
        units: state.units.count,
        unitCost: state.units.cost(size: layout.classes, element: element, row: 5))
    } else {
      // Without classes each target is looked at, and is wrong unless it is ignored.
      plan.addPass(
        units: state.isVoid ? max(layout.positions, 1) : layout.positions,
        unitCost: 20 + (hasLogits ? 30 * Double(layout.classes) : 0))
    }
  }

  static func run(_ call: Call, _ state: ClassState, _ chunk: Chunk) throws(StatusError) {
    guard let input = call.input(ClassPlaces.input), let target = call.input(ClassPlaces.target)
    else { return }
    let isWeighing = state.sumsWeightsFirst && chunk.pass == 0
    if isWeighing && state.isVector, let kernels = Kernels.chosen {
      try weigh(kernels, call, state, chunk)
      return
    }
    if let long = state.long, !isWeighing {
      try runLong(call, state, long, chunk)
      return
    }
    if state.hasProbabilities {
      try runProbabilities(call, state, chunk)
      return
    }
    if state.isCapped && !isWeighing,
      try CappedLogits(call, state, input, chunk.scratch).runBlocks(state, chunk, target)
    {
      return
    }
    let (layout, weight) = (state.layout, call.input(ClassPlaces.weight))
    let ignored = call.attributes.int(ClassPlaces.ignoreIndex)
    if state.isVector, !isWeighing, let kernels = Kernels.chosen {
      try runVector(kernels, call, state, chunk)
      return
    }
    let reduction = Reduction(call.attributes)
    var losses = CompensatedSum()
    var weights = CompensatedSum()
    // torch's smoothed part is over the number of classes: 0 / 0 without any, for ignored targets and none at all, too.
    let isVoid = state.isVoid
    if isVoid && !isWeighing { losses.add(.nan) }
    for position in chunk.range where position < layout.positions {
      let label = target.integer(position)
      let isKept = label != ignored
      if isKept { try checkLabel(label, position, target, layout.classes) }
      let w = isKept ? weight.map { $0[Int(label)] } ?? 1 : 0
      if isWeighing || !state.sumsWeightsFirst { weights.add(w) }
      if isWeighing { continue }
      let scale =
        call.wants(ClassPlaces.gradient)
        ? reduction.scale(
          call.input(ClassPlaces.upstream), position, weightSum: call.totals[Sums.weights]) : 0
      let row = ClassRow(
        start: layout.start(position), label: isKept ? Int(label) : nil, weight: w, scale: scale)
      let loss =
        isVoid
        ? .nan
        : state.isCapped && layout.classes > 0
          ? try CappedLogits(call, state, input, chunk.scratch).evaluate(row, position)
          : hasLogits ? logits(call, state, input, row) : likelihood(call, state, input, row)
      if isKept || isVoid { losses.add(loss) }
      if reduction == .none {
        call.output(ClassPlaces.loss)?[position] = isKept || isVoid ? loss : 0
      }
    }
    chunk.sums[Sums.losses] += losses.value
    chunk.sums[Sums.weights] += weights.value
  }

  private static func likelihood(
    _ call: Call, _ state: ClassState, _ input: TensorView, _ row: ClassRow
  ) -> Double {
    guard let label = row.label else { return 0 }
    let index = row.start + label * state.layout.inner
    call.output(ClassPlaces.gradient)?[index] = -row.weight * row.scale
    return -row.weight * input[index]
  }

  /// Writes the gradient of a position of logits and returns its loss.
  static func logits(
    _ call: Call, _ state: ClassState, _ input: TensorView, _ row: ClassRow
  ) -> Double {
    let (classes, inner) = (state.layout.classes, state.layout.inner)
    let weight = call.input(ClassPlaces.weight)
    let smoothing = call.attributes.float(ClassPlaces.smoothing)
    let extremes = Extremes(input.dataType)
    let sums = LogSumExp(count: classes) { input[row.start + $0 * inner] }
    var loss = 0.0
    // Also of an ignored row: torch multiplies its zeros by the weights, which an infinity spoils.
    var weightSum = 0.0
    if smoothing > 0 {
      for index in 0..<classes { weightSum += weight.map { $0[index] } ?? 1 }
    }
    if let label = row.label {
      let picked = extremes.overflowing(sums.logProbability(input[row.start + label * inner]))
      loss = (1 - smoothing) * extremes.overflowing(-row.weight * picked)
      if smoothing > 0 {
        var smooth = CompensatedSum()
        for index in 0..<classes {
          let w = weight.map { $0[index] } ?? 1
          let logarithm = extremes.overflowing(
            sums.logProbability(input[row.start + index * inner]))
          smooth.add(-w * logarithm)
        }
        loss += smoothing / Double(classes) * extremes.overflowing(smooth.value)
      }
    }
    guard let gradient = call.output(ClassPlaces.gradient) else { return loss }
    let kept = (1 - smoothing) * row.weight * row.scale
    let spread = smoothing / Double(classes) * row.scale
    let isExtreme = extremes.contains(kept) || extremes.contains(spread * weightSum)
    for index in 0..<classes {
      let p = sums.probability(input[row.start + index * inner])
      // An ignored row: 0, and NaN where its logits are.
      var g = 0 * p + 0 * weightSum
      if let label = row.label {
        if isExtreme {
          // torch's way: what comes back to the logarithms, less p times its sum.
          let share = (index == label ? kept : 0) + spread * (weight.map { $0[index] } ?? 1)
          g = p * (kept + spread * weightSum) - share
        } else {
          g = kept * (index == label ? p - 1 : p)
          if smoothing > 0 { g += spread * (p * weightSum - (weight.map { $0[index] } ?? 1)) }
        }
      }
      gradient[row.start + index * inner] = g
    }
    return loss
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? {
    // torch divides the smoothed part apart from the rest, which is 0 / 0 then.
    if hasLogits && sums[Sums.weights] == 0 && attributes.float(ClassPlaces.smoothing) > 0
      && Reduction(attributes) == .mean
    {
      return .nan
    }
    return Reduction.finish(attributes, sums)
  }
}

/// One position of a classification loss; `label` is nil for an ignored one.
struct ClassRow {
  var start: Int
  var label: Int?
  var weight: Double
  var scale: Double
}

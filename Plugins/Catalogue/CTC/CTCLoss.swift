import LossdKernels
import LossdPluginKit
import LossdTensor

/// -log of the probability that a sequence of labels with blanks between comes out, summed over all
/// alignments; torch.nn.functional.ctc_loss. Graves and others (2006), "Connectionist Temporal
/// Classification". As torch has it, the gradient is exp(log_probs) less what each class is
/// occupied: the gradient through log_softmax, for log-probabilities that are normalised, and not
/// that of the function.
enum CTCLoss: Function {
  enum Place {
    static let (logProbs, targets, inputLengths, targetLengths, upstream) = (0, 1, 2, 3, 4)
    static let (loss, gradient) = (0, 1)
    static let (blank, zeroInfinity) = (1, 2)
  }

  struct State: BitwiseCopyable {
    /// T, N and C of log_probs.
    var times: Int
    var samples: Int
    var classes: Int
    /// Elements of a row of padded targets; nil where targets are joined.
    var width: Int?
    var isBatched: Bool
    /// Labels of all samples that an alignment can have.
    var labelsMax: Int
    /// Labels of one sample.
    var labelsMaxOfOne: Int
    var hasGradient: Bool
  }

  static var declaration: FunctionDeclaration {
    FunctionDeclaration(
      name: "ctc_loss", kind: .loss,
      summary: "-log of the probability of a sequence of labels, over all alignments",
      inputs: [
        InputDeclaration(
          "log_probs", floatTypes, isRequired: true,
          help: "log-probabilities, (T, N, C) or (T, C)"),
        InputDeclaration(
          "targets", integerTypes, isRequired: true,
          help: "classes: (N, S), or of all samples one after another"),
        InputDeclaration(
          "input_lengths", integerTypes, isRequired: true, help: "(N), or () for (T, C); 0 to T"),
        InputDeclaration(
          "target_lengths", integerTypes, isRequired: true, help: "(N), or () for (T, C)"),
        InputDeclaration("grad.loss", floatTypes, help: "upstream gradient, like loss"),
      ],
      outputs: [
        OutputDeclaration("loss", isDefault: true, help: "scalar, or (N) for none"),
        OutputDeclaration(
          "grad.log_probs", help: "gradient with respect to log_probs, through log_softmax"),
      ],
      attributes: [
        LossReduction.attribute,
        AttributeDeclaration("blank", .int, default: .int(0), help: "the class of the blank"),
        AttributeDeclaration(
          "zero_infinity", .bool, default: .bool(false),
          help: "a loss without an alignment is 0, and so is its gradient"),
      ], accumulators: LossReduction.accumulators, values: LossReduction.values)
  }

  private static var integerTypes: [DataType] { [.int64, .int32, .int16, .int8, .uint8] }

  static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
    guard let logs = call.input(Place.logProbs), let targets = call.input(Place.targets)
    else { throw invalid("no input") }
    var state = try layOut(logs, targets, call)
    for (name, index) in [
      ("input_lengths", Place.inputLengths), ("target_lengths", Place.targetLengths),
    ] {
      guard let lengths = call.input(index), lengths.count == state.samples else {
        throw invalid(
          "\(name) is \(call.input(index).map { shapeText($0.shape) } ?? "not there"), expected "
            + "a length of each sample: (\(state.samples),)")
      }
    }
    let reduction = LossReduction(call.attributes)
    let each =
      state.isBatched ? UnsafeBufferPointer(rebasing: logs.shape[1..<2]) : LossReduction.emptyShape
    let shape = reduction == .none ? each : LossReduction.emptyShape
    try checkUpstream(
      call.input(Place.upstream), "grad.loss", logs.dataType, shape, isReduced: reduction != .none)
    if call.wants(Place.loss) {
      if reduction == .none {
        plan.setOutput(Place.loss, logs.dataType, shape: shape)
      } else {
        plan.setReducedOutput(Place.loss, logs.dataType)
      }
    }
    state.hasGradient = call.wants(Place.gradient)
    if state.hasGradient { plan.setOutput(Place.gradient, logs.dataType, shape: logs.shape) }
    plan.setRows(state.samples)
    let memory = try CTCMemory(state)
    plan.setWorkspace(bytes: memory.workspaceBytes)
    plan.setScratch(bytes: memory.scratchBytes)
    plan.addPass(units: 1, unitCost: 20 * Double(state.samples))
    let states = 2 * Double(state.labelsMax) / Double(state.samples) + 1
    let passes = state.hasGradient ? 3.0 : 1
    plan.addPass(
      units: state.samples, unitCost: 100 + Double(state.times) * (20 + 5 * passes * states))
    if state.hasGradient {
      plan.addPass(
        units: state.times * state.samples, unitCost: 40 + 1.5 * Double(state.classes))
    }
    return state
  }

  private static func layOut(
    _ logs: TensorView, _ targets: TensorView, _ call: Call
  ) throws(StatusError) -> State {
    guard logs.rank == 2 || logs.rank == 3 else {
      throw invalid("log_probs is \(shapeText(logs.shape)), expected (T, N, C) or (T, C)")
    }
    guard logs.count > 0 else {
      throw invalid("log_probs is \(shapeText(logs.shape)), expected no dimension of size 0")
    }
    let samples = logs.rank == 3 ? logs.size(1) : 1
    let (times, classes) = (logs.size(0), logs.size(logs.rank - 1))
    let blank = call.attributes.int(Place.blank)
    guard blank >= 0 && blank < Int64(classes) else {
      throw invalid("blank is \(blank), outside [0, \(classes))")
    }
    let isPadded = targets.rank == 2 && targets.size(0) == samples
    guard targets.rank == 1 || isPadded else {
      throw invalid(
        "targets is \(shapeText(targets.shape)), expected (\(samples), S), or the labels of all "
          + "samples one after another")
    }
    let width = isPadded ? targets.size(1) : nil
    // More labels than steps in time have no alignment.
    let labelsMaxOfOne = min(width ?? targets.count, times)
    let (all, overflow) = samples.multipliedReportingOverflow(by: labelsMaxOfOne)
    return State(
      times: times, samples: samples, classes: classes, width: width, isBatched: logs.rank == 3,
      labelsMax: overflow ? targets.count : min(all, targets.count),
      labelsMaxOfOne: labelsMaxOfOne, hasGradient: false)
  }

  static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {
    guard let logs = call.input(Place.logProbs), let targets = call.input(Place.targets)
    else { return }
    let memory = try CTCMemory(state)
    let samples = memory.samples(call.workspace)
    switch chunk.pass {
    case 0: try measure(call, state, targets, samples)
    case 1:
      try align(call, state, memory, chunk, logs, targets)
    default:
      guard let gradient = call.output(Place.gradient) else { return }
      let row = CTCGradientRow(call, state, memory, logs, gradient)
      for unit in chunk.range { row.write(unit) }
    }
  }

  /// Copies the lengths, checked, and says where each sample's labels and states lie.
  private static func measure(
    _ call: Call, _ state: State, _ targets: TensorView, _ samples: UnsafeMutablePointer<CTCSample>
  ) throws(StatusError) {
    guard let inputLengths = call.input(Place.inputLengths),
      let targetLengths = call.input(Place.targetLengths)
    else { return }
    var (labels, classes, states) = (0, 0, 0)
    for sample in 0..<state.samples {
      let steps = try length(inputLengths, "input_lengths", sample, atMost: state.times, state)
      let count = try length(
        targetLengths, "target_lengths", sample, atMost: state.width ?? targets.count - labels,
        state)
      let first = state.width.map { $0 * sample } ?? labels
      labels += count
      // More labels than steps have no alignment, and no states.
      let held = count <= steps ? count : 0
      samples[sample] = CTCSample(
        steps: steps, labels: count, firstLabel: first, firstClass: classes, firstState: states)
      classes += held + 1
      states += 2 * (2 * held + 1) * state.times
    }
    if state.width == nil && labels != targets.count {
      throw invalid(
        "targets is \(shapeText(targets.shape)), expected (\(labels),), the sum of target_lengths")
    }
  }

  private static func length(
    _ lengths: TensorView, _ name: String, _ index: Int, atMost limit: Int, _ state: State
  ) throws(StatusError) -> Int {
    let length = lengths.integer(index)
    guard length >= 0 && length <= Int64(limit) else {
      let place = lengths.rank == 0 ? name : "\(name)[\(index)]"
      let isJoined = name == "target_lengths" && state.width == nil
      throw invalid(
        "\(place) is \(length), expected 0 to \(limit)"
          + (isJoined ? ", what is left of targets" : ""))
    }
    return Int(length)
  }

  private static func align(
    _ call: Call, _ state: State, _ memory: CTCMemory, _ chunk: Chunk, _ logs: TensorView,
    _ targets: TensorView
  ) throws(StatusError) {
    let reduction = LossReduction(call.attributes)
    let samples = memory.samples(call.workspace)
    let perSample = reduction == .none ? call.output(Place.loss) : nil
    let zeroesInfinity = call.attributes.bool(Place.zeroInfinity)
    let losses = ChunkTotal(chunk, Sums.losses)
    let alignment = CTCAlignment(call, state, memory, logs, targets, chunk.scratch)
    for sample in chunk.range {
      let loss = try alignment.evaluate(sample)
      let shown = zeroesInfinity && loss == .infinity ? 0 : loss
      perSample?[sample] = shown
      losses.add(reduction == .mean ? shown / Double(max(samples[sample].labels, 1)) : shown)
    }
    chunk.add(Double(chunk.range.count), to: Sums.weights)
  }

  static func finish(
    _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
  ) throws(StatusError) -> Double? { LossReduction.finish(attributes, sums) }
}

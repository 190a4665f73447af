import LossdKernelTable
import LossdTensor

/// One sample of ctc_loss: its lengths, as they were when they were checked, and where what belongs
/// to it lies.
struct CTCSample: BitwiseCopyable {
  /// Steps in time.
  var steps: Int
  var labels: Int
  /// Its first label, in the targets.
  var firstLabel: Int
  /// Its first class, among the classes.
  var firstClass: Int
  /// Its first state, among the states.
  var firstState: Int
  /// Classes that it has, blank among them, each once.
  var classes = 0
  var loss = 0.0

  /// A label more than steps has no alignment.
  var isPossible: Bool { labels <= steps }
  /// Labels with a blank before each, and one behind.
  var states: Int { 2 * labels + 1 }
}

/// Where the workspace and the scratch memory of a call lie. The workspace is a `CTCSample` each,
/// then, for the gradient, the classes of each, and for every step in time the states of each:
/// mantissas and exponents, in the end by how much each class is occupied.
struct CTCMemory {
  private let state: CTCLoss.State
  let workspaceBytes: Int
  let scratchBytes: Int
  private let classesOffset: Int
  private let statesOffset: Int
  /// Elements of an array of one sample's labels.
  let room: Int

  init(_ state: CTCLoss.State) throws(StatusError) {
    self.state = state
    let word = MemoryLayout<Double>.stride
    room = AlignmentStep.room(state.labelsMaxOfOne)
    classesOffset = state.samples * MemoryLayout<CTCSample>.stride
    statesOffset = classesOffset + (state.labelsMax + state.samples) * word
    let (bytes, overflow) = (2 * state.labelsMax + state.samples)
      .multipliedReportingOverflow(by: 2 * state.times * word)
    // plugin.h's limit.
    guard !overflow && bytes < 1 << 45 else {
      throw StatusError(
        .resourceExhausted,
        "\(state.times) steps of \(state.labelsMax) labels in targets take more than 2^45 bytes")
    }
    workspaceBytes = state.hasGradient ? statesOffset + bytes : classesOffset
    // Labels, states and what is computed of them; the number of each class.
    scratchBytes = CTCScratch.arrays * room * word + (state.hasGradient ? state.classes * 4 : 0)
  }

  func samples(_ workspace: UnsafeMutableRawPointer) -> UnsafeMutablePointer<CTCSample> {
    workspace.assumingMemoryBound(to: CTCSample.self)
  }

  func classes(_ workspace: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Int> {
    (workspace + classesOffset).assumingMemoryBound(to: Int.self)
  }

  func states(_ workspace: UnsafeMutableRawPointer) -> UnsafeMutablePointer<Double> {
    (workspace + statesOffset).assumingMemoryBound(to: Double.self)
  }
}

/// What one sample's alignment is computed in.
struct CTCScratch {
  static let arrays = 24

  /// The class of the blank and of each label, and its number among the sample's.
  let label: UnsafeMutablePointer<Int>
  let slot: UnsafeMutablePointer<Int>
  /// Of each class at this step.
  let logs: UnsafeMutablePointer<Double>
  let skips: UnsafeMutablePointer<Double>
  /// How far each state is occupied.
  let occupied: UnsafeMutablePointer<Double>
  /// The number of each class among the sample's, -1 for none; of the gradient alone.
  let number: UnsafeMutablePointer<Int32>
  private let powers: UnsafeMutablePointer<Double>
  private let kept: UnsafeMutablePointer<Double>
  private let states: UnsafeMutablePointer<Double>

  init(_ scratch: UnsafeMutableRawPointer, room: Int) {
    let first = scratch.assumingMemoryBound(to: Double.self)
    label = UnsafeMutableRawPointer(first).assumingMemoryBound(to: Int.self)
    slot = label + room
    logs = first + 2 * room
    skips = first + 3 * room
    powers = first + 4 * room
    occupied = first + 6 * room
    kept = first + 8 * room
    states = first + 12 * room
    number = UnsafeMutableRawPointer(first + CTCScratch.arrays * room)
      .assumingMemoryBound(to: Int32.self)
  }

  /// A step of a sample of so many labels.
  func step(_ labels: Int) -> AlignmentStep {
    let room = AlignmentStep.room(labels)
    return AlignmentStep(
      labels: labels, before: AlignmentStep.States(states, room: room),
      after: AlignmentStep.States(states + 6 * room, room: room), skips: skips, logs: logs,
      mantissas: powers, exponents: powers + room)
  }

  /// Makes all states impossible, before the step and after, and all its classes.
  func clear(_ step: AlignmentStep) {
    clear(step.before, step.room)
    clear(step.after, step.room)
    logs.update(repeating: -.infinity, count: step.room)
  }

  private func clear(_ states: AlignmentStep.States, _ room: Int) {
    states.mantissas.update(repeating: 1, count: 2 * room)
    states.rests.update(repeating: 0, count: 2 * room)
    states.exponents.update(repeating: -.infinity, count: 2 * room)
  }

  /// Copies the states before the next step to a row that is kept: the mantissas, then the
  /// exponents.
  func keep(_ step: AlignmentStep, _ row: UnsafeMutablePointer<Double>) {
    keep(step.before.mantissas, step, row)
    keep(step.before.exponents, step, row + 2 * step.labels + 1)
  }

  private func keep(
    _ values: UnsafeMutablePointer<Double>, _ step: AlignmentStep,
    _ row: UnsafeMutablePointer<Double>
  ) {
    row.update(from: values, count: step.labels + 1)
    (row + step.labels + 1).update(from: values + step.room, count: step.labels)
  }

  /// Copies a row that is kept back to where the occupation is computed from.
  func bring(_ row: UnsafeMutablePointer<Double>, _ step: AlignmentStep) {
    bring(row, step, kept)
    bring(row + 2 * step.labels + 1, step, kept + 2 * step.room)
  }

  private func bring(
    _ row: UnsafeMutablePointer<Double>, _ step: AlignmentStep,
    _ values: UnsafeMutablePointer<Double>
  ) {
    values.update(from: row, count: step.labels + 1)
    (values + step.room).update(from: row + step.labels + 1, count: step.labels)
  }

  /// Of all alignments, whose probability is `whole`.
  func occupation(_ whole: CTCProbability, _ room: Int) -> AlignmentStep.Occupation {
    AlignmentStep.Occupation(
      mantissas: kept, exponents: kept + 2 * room, inverse: 1 / whole.mantissa,
      exponent: whole.exponent, results: occupied)
  }
}

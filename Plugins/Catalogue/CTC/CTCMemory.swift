import LossdTensor

/// One sample of ctc_loss: its lengths, as they were when they were checked, and where what belongs to it lies.
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

/// Where the workspace and the scratch memory of a call lie. The workspace is a `CTCSample` each, then, for the gradient,
/// the classes of each, and for every step in time the states of each: logarithms of probabilities, in the end by how
/// much each class is occupied.
struct CTCMemory {
  private let state: CTCLoss.State
  let workspaceBytes: Int
  let scratchBytes: Int
  private let classesOffset: Int
  private let statesOffset: Int
  /// Elements of an array of one sample's states, with room for what is read before and behind them.
  let room: Int

  init(_ state: CTCLoss.State) throws(StatusError) {
    self.state = state
    let word = MemoryLayout<Double>.stride
    room = (2 * state.labelsMaxOfOne + 1 + 15) / 8 * 8
    classesOffset = state.samples * MemoryLayout<CTCSample>.stride
    statesOffset = classesOffset + (state.labelsMax + state.samples) * word
    let (bytes, overflow) = (2 * state.labelsMax + state.samples)
      .multipliedReportingOverflow(by: state.times * word)
    // plugin.h's limit.
    guard !overflow && bytes < 1 << 45 else {
      throw StatusError(
        .resourceExhausted,
        "\(state.times) steps of \(state.labelsMax) labels in targets take more than 2^45 bytes")
    }
    workspaceBytes = state.hasGradient ? statesOffset + bytes : classesOffset
    // Two steps of states, labels and what is computed of them; the number of each class.
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
  static let arrays = 11

  /// The class of each state, and its number among the sample's.
  let label: UnsafeMutablePointer<Int>
  let slot: UnsafeMutablePointer<Int>
  /// 0 where a state is reached from the one before the last, too, else -infinity.
  let skip: UnsafeMutablePointer<Double>
  /// The log-probability of each state's class.
  let emitted: UnsafeMutablePointer<Double>
  /// States of this step and of the one before, where no gradient wants them kept.
  let here: UnsafeMutablePointer<Double>
  let there: UnsafeMutablePointer<Double>
  /// The largest of what leads to each state, and the others less that, two an element.
  let largest: UnsafeMutablePointer<Double>
  let others: UnsafeMutablePointer<Double>
  let powers: UnsafeMutablePointer<Double>
  /// The number of each class among the sample's, -1 for none; of the gradient alone.
  let number: UnsafeMutablePointer<Int32>

  init(_ scratch: UnsafeMutableRawPointer, room: Int) {
    let first = scratch.assumingMemoryBound(to: Double.self)
    label = UnsafeMutableRawPointer(first).assumingMemoryBound(to: Int.self)
    slot = label + room
    skip = first + 2 * room
    emitted = first + 3 * room
    here = first + 4 * room
    there = first + 5 * room
    largest = first + 6 * room
    others = first + 7 * room
    powers = first + 9 * room
    number = UnsafeMutableRawPointer(first + CTCScratch.arrays * room)
      .assumingMemoryBound(to: Int32.self)
  }
}

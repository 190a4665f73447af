import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// All alignments of one sample: the forward and the backward recursion of Graves and others
/// (2006), section 4.1, a step in time a call of the kernel. `AlignmentStep` says how probabilities
/// are kept.
struct CTCAlignment {
  private let call: Call
  private let state: CTCLoss.State
  private let memory: CTCMemory
  private let logs: TensorView
  private let targets: TensorView
  private let scratch: CTCScratch
  private let kernel = Kernels.chosen?.float64.alignment
  /// States between two looks at whether the call goes on: some 0.1 ms.
  private static let statesUnwatched = 1 << 15
  /// Steps after which mantissas are brought near 1 again.
  private static let stepsScaled = 8

  init(
    _ call: Call, _ state: CTCLoss.State, _ memory: CTCMemory, _ logs: TensorView,
    _ targets: TensorView, _ scratch: UnsafeMutableRawPointer
  ) {
    self.call = call
    self.state = state
    self.memory = memory
    self.logs = logs
    self.targets = targets
    self.scratch = CTCScratch(scratch, room: memory.room)
    self.scratch.label[0] = Int(call.attributes.int(CTCLoss.Place.blank))
    if state.hasGradient { self.scratch.number.update(repeating: -1, count: state.classes) }
  }

  /// The loss of a sample; what its gradient is made of is left in the workspace.
  func evaluate(_ index: Int) throws(StatusError) -> Double {
    let sample = memory.samples(call.workspace) + index
    try checkLabels(sample.pointee, index)
    var loss = Double.infinity
    if sample.pointee.isPossible {
      setLabels(sample)
      var step = scratch.step(sample.pointee.labels)
      loss = try forward(sample.pointee, index, &step)
      if state.hasGradient && loss.isFinite { try backward(sample.pointee, index, &step) }
    }
    sample.pointee.loss = loss
    return loss
  }

  private func checkLabels(_ sample: CTCSample, _ index: Int) throws(StatusError) {
    for place in 0..<sample.labels {
      let label = targets.integer(sample.firstLabel + place)
      if label < 0 || label >= Int64(state.classes) {
        let name =
          state.width == nil
          ? "targets[\(sample.firstLabel + place)]"
          : targets.rank == 2 ? "targets[\(index), \(place)]" : "targets[\(place)]"
        throw invalid("\(name) is \(label), outside [0, \(state.classes))")
      }
      // Read once: whoever shares the memory may write another.
      if sample.isPossible { scratch.label[place + 1] = Int(label) }
    }
  }

  /// Which labels may follow the one before at once, and for the gradient the classes, each once.
  private func setLabels(_ sample: UnsafeMutablePointer<CTCSample>) {
    let (count, room) = (sample.pointee.labels, AlignmentStep.room(sample.pointee.labels))
    let (label, skips) = (scratch.label, scratch.skips)
    skips.update(repeating: -.infinity, count: room)
    for place in 1..<max(count, 1) where label[place] != label[place + 1] { skips[place] = 0 }
    guard state.hasGradient else { return }
    let classes = memory.classes(call.workspace) + sample.pointee.firstClass
    var found = 0
    for place in 0...count {
      let number = scratch.number + label[place]
      if number.pointee < 0 {
        number.pointee = Int32(truncatingIfNeeded: found)
        classes[found] = label[place]
        found += 1
      }
      scratch.slot[place] = Int(number.pointee)
    }
    for place in 0..<found { scratch.number[classes[place]] = -1 }
    sample.pointee.classes = found
  }

  /// What the gradient keeps of a step: forwards the mantissas and the exponents of all states, in
  /// the end by how much each class is occupied.
  private func kept(_ sample: CTCSample, _ time: Int) -> UnsafeMutablePointer<Double> {
    memory.states(call.workspace) + sample.firstState + time * 2 * sample.states
  }

  /// Computes a step, whose states become those before the next one; as the kernel.
  private func take(
    _ step: inout AlignmentStep, _ sample: CTCSample, _ index: Int, _ time: Int
  ) -> Double {
    let row = (time * state.samples + index) * state.classes
    // At first the two first states alone are reached.
    let reached = time == 0 ? min(1, sample.labels) : sample.labels
    read(row, reached + 1)
    step.isNormalized = time % CTCAlignment.stepsScaled == 0
    let shift = kernel.map { $0(&step) } ?? step.compute()
    swap(&step.before, &step.after)
    return shift
  }

  /// Fills the logarithms of the first classes; most of a step's time, in which the processor waits
  /// for memory.
  private func read(_ row: Int, _ count: Int) {
    let (label, x) = (scratch.label, scratch.logs)
    switch logs.dataType {
    case .float32:
      let from = UnsafeRawPointer(logs.elements(as: Float.self) + row)
      for place in 0..<count {
        x[place] = Double(from.loadUnaligned(fromByteOffset: 4 * label[place], as: Float.self))
      }
    default: for place in 0..<count { x[place] = logs[row + label[place]] }
    }
  }

  private func watch(_ unwatched: inout Int, _ sample: CTCSample) throws(StatusError) {
    unwatched += sample.states
    if unwatched > CTCAlignment.statesUnwatched {
      try call.checkCancelled()
      unwatched = 0
    }
  }

  private func forward(
    _ sample: CTCSample, _ index: Int, _ step: inout AlignmentStep
  ) throws(StatusError) -> Double {
    scratch.clear(step)
    // As if a blank that is certain came before all.
    step.before.exponents[0] = 0
    var (shifts, unwatched) = (CompensatedSum(), 0)
    for time in 0..<sample.steps {
      try watch(&unwatched, sample)
      let shift = take(&step, sample, index, time)
      if shift.isNaN { return .nan }
      shifts.add(shift)
      if state.hasGradient { scratch.keep(step, kept(sample, time)) }
    }
    // All labels, with a blank behind or without.
    var whole = CTCProbability(step.before, sample.labels)
    whole.add(CTCProbability(step.before, step.room + sample.labels - 1))
    if state.hasGradient { step.occupation = scratch.occupation(whole, step.room) }
    return 0 - whole.logarithm(factor: shifts.value)
  }

  /// Makes what is kept of each step by how much each class is occupied there.
  private func backward(
    _ sample: CTCSample, _ index: Int, _ step: inout AlignmentStep
  ) throws(StatusError) {
    scratch.clear(step)
    // As if a blank that is certain came behind all.
    step.before.exponents[sample.labels] = 0
    step.isBackward = true
    var unwatched = 0
    for time in stride(from: sample.steps - 1, through: 0, by: -1) {
      try watch(&unwatched, sample)
      let kept = kept(sample, time)
      scratch.bring(kept, step)
      _ = take(&step, sample, index, time)
      let (slot, occupied) = (scratch.slot, scratch.occupied)
      kept.update(repeating: 0, count: sample.classes)
      for place in 0...sample.labels { kept[slot[0]] += occupied[place] }
      for place in 0..<sample.labels { kept[slot[place + 1]] += occupied[step.room + place] }
    }
  }
}

import Glibc
import LossdKernels
import LossdPluginKit
import LossdTensor

/// All alignments of one sample, in logarithms and float64: the forward and the backward recursion of Graves and others
/// (2006), section 4.1, a step in time a row of states. What is added up is at least the largest of three terms, so that
/// nothing overflows, and a NaN or infinity among the log-probabilities is looked for before.
struct CTCAlignment {
  private let call: Call
  private let state: CTCLoss.State
  private let memory: CTCMemory
  private let logs: TensorView
  private let targets: TensorView
  private let scratch: CTCScratch
  private let blank: Int
  /// exp of what is below is nothing beside 1.
  private static let smallest = -700.0
  /// States between two looks at whether the call goes on: some 0.5 ms.
  private static let statesUnwatched = 1 << 15

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
    blank = Int(call.attributes.int(CTCLoss.Place.blank))
    if state.hasGradient { self.scratch.number.update(repeating: -1, count: state.classes) }
  }

  /// The loss of a sample; what its gradient is made of is left in the workspace.
  func evaluate(_ index: Int) throws(StatusError) -> Double {
    let sample = memory.samples(call.workspace) + index
    try checkLabels(sample.pointee, index)
    var loss = Double.infinity
    if sample.pointee.isPossible {
      setStates(sample, index)
      loss = try forward(sample.pointee, index)
      if state.hasGradient && loss.isFinite { try backward(sample.pointee, index, loss) }
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
      if sample.isPossible { scratch.label[2 * place + 1] = Int(label) }
    }
  }

  /// The class of each state, which may be skipped, and for the gradient the classes, each once.
  private func setStates(_ sample: UnsafeMutablePointer<CTCSample>, _ index: Int) {
    let count = sample.pointee.states
    let (label, skip) = (scratch.label, scratch.skip)
    for place in 0..<count {
      if place % 2 == 0 { label[place] = blank }
      let isSkipped = place >= 3 && place % 2 == 1 && label[place] != label[place - 2]
      skip[place] = isSkipped ? 0 : -.infinity
    }
    guard state.hasGradient else { return }
    let classes = memory.classes(call.workspace) + sample.pointee.firstClass
    var found = 0
    for place in 0..<count {
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

  /// The states of a step, for the gradient in the workspace.
  private func states(_ sample: CTCSample, _ step: Int) -> UnsafeMutablePointer<Double> {
    state.hasGradient
      ? memory.states(call.workspace) + sample.firstState + step * sample.states
      : step % 2 == 0 ? scratch.here : scratch.there
  }

  /// Reads the log-probabilities of the states' classes; false where one is NaN or +infinity.
  private func emit(_ sample: CTCSample, _ index: Int, _ step: Int) -> Bool {
    let row = (step * state.samples + index) * state.classes
    let ofBlank = logs[row + blank]
    // At first the two first states alone are reached.
    let reached = step == 0 ? min(2, sample.states) : sample.states
    for place in stride(from: 0, to: sample.states, by: 2) { scratch.emitted[place] = ofBlank }
    var isNumber = ofBlank < .infinity
    for place in stride(from: 1, to: reached, by: 2) {
      let x = logs[row + scratch.label[place]]
      scratch.emitted[place] = x
      if !(x < .infinity) { isNumber = false }
    }
    return isNumber
  }

  private func forward(_ sample: CTCSample, _ index: Int) throws(StatusError) -> Double {
    let count = sample.states
    guard sample.steps > 0 else { return 0 }
    guard emit(sample, index, 0) else { return .nan }
    var here = states(sample, 0)
    here.update(repeating: -.infinity, count: count)
    for place in 0..<min(2, count) { here[place] = scratch.emitted[place] }
    var unwatched = 0
    for step in 1..<max(sample.steps, 1) {
      unwatched += count
      if unwatched > CTCAlignment.statesUnwatched {
        try call.checkCancelled()
        unwatched = 0
      }
      guard emit(sample, index, step) else { return .nan }
      let next = states(sample, step)
      for place in 0..<count {
        let before = place > 0 ? here[place - 1] : -.infinity
        let last = place > 1 ? here[place - 2] + scratch.skip[place] : -.infinity
        setTerms(place, here[place], before, last)
      }
      addTerms(count, next)
      for place in 0..<count { next[place] += scratch.emitted[place] }
      here = next
    }
    // All labels, with a blank behind or without.
    let (last, other) = (here[count - 1], count > 1 ? here[count - 2] : -.infinity)
    let (high, low) = last > other ? (last, other) : (other, last)
    return high == -.infinity ? .infinity : -(high + log1p(exp(low - high)))
  }

  /// Of three terms the largest, and the other two less it.
  @inline(__always)
  private func setTerms(_ place: Int, _ a: Double, _ b: Double, _ c: Double) {
    let (high, low) = a > b ? (a, b) : (b, a)
    let largest = high > c ? high : c
    let (first, second) = (low - largest, (high > c ? c : high) - largest)
    // Also where all are -infinity, whose difference is no number.
    let least = CTCAlignment.smallest
    scratch.largest[place] = largest
    scratch.others[2 * place] = first > least ? first : least
    scratch.others[2 * place + 1] = second > least ? second : least
  }

  /// The logarithm of the sum of the terms of each state.
  @inline(__always)
  private func addTerms(_ count: Int, _ sums: UnsafeMutablePointer<Double>) {
    let powers = scratch.powers
    writeExponentials(scratch.others, powers, 2 * count)
    for place in 0..<count { powers[place] = powers[2 * place] + powers[2 * place + 1] }
    if let kernels = Kernels.chosen?.float64 {
      kernels.log1p(powers, sums, count)
    } else {
      for place in 0..<count { sums[place] = log1p(powers[place]) }
    }
    for place in 0..<count { sums[place] += scratch.largest[place] }
  }

  /// Makes the states of each step by how much each class is occupied there.
  private func backward(_ sample: CTCSample, _ index: Int, _ loss: Double) throws(StatusError) {
    let count = sample.states
    let (rest, onward, powers) = (scratch.here, scratch.there, scratch.powers)
    rest.update(repeating: -.infinity, count: count)
    for place in max(count - 2, 0)..<count { rest[place] = 0 }
    var unwatched = 0
    for step in stride(from: sample.steps - 1, through: 0, by: -1) {
      unwatched += count
      if unwatched > CTCAlignment.statesUnwatched {
        try call.checkCancelled()
        unwatched = 0
      }
      let states = states(sample, step)
      for place in 0..<count {
        let x = states[place] + rest[place] + loss
        scratch.others[place] = x > CTCAlignment.smallest ? x : CTCAlignment.smallest
      }
      writeExponentials(scratch.others, powers, count)
      states.update(repeating: 0, count: sample.classes)
      for place in 0..<count where scratch.others[place] > CTCAlignment.smallest {
        states[scratch.slot[place]] += powers[place]
      }
      if step == 0 { break }
      _ = emit(sample, index, step)
      for place in 0..<count { onward[place] = rest[place] + scratch.emitted[place] }
      for place in 0..<count {
        let after = place + 1 < count ? onward[place + 1] : -.infinity
        let next = place + 2 < count ? onward[place + 2] + scratch.skip[place + 2] : -.infinity
        setTerms(place, onward[place], after, next)
      }
      addTerms(count, rest)
    }
  }
}

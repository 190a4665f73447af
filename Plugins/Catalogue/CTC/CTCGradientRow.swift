import Glibc
import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// The gradient of the classes of one sample at one step in time: exp(x) less by how much each
/// class is occupied, times what the sample counts.
struct CTCGradientRow {
  private let call: Call
  private let state: CTCLoss.State
  private let memory: CTCMemory
  private let logs: TensorView
  private let gradient: TensorView
  private let reduction: LossReduction
  private let zeroesInfinity: Bool

  init(
    _ call: Call, _ state: CTCLoss.State, _ memory: CTCMemory, _ logs: TensorView,
    _ gradient: TensorView
  ) {
    self.call = call
    self.state = state
    self.memory = memory
    self.logs = logs
    self.gradient = gradient
    reduction = LossReduction(call.attributes)
    zeroesInfinity = call.attributes.bool(CTCLoss.Place.zeroInfinity)
  }

  /// Row `unit` of log_probs as (T N, C).
  func write(_ unit: Int) {
    let (step, index) = unit.quotientAndRemainder(dividingBy: state.samples)
    let sample = memory.samples(call.workspace)[index]
    let first = unit * state.classes
    if step >= sample.steps || sample.loss == .infinity && zeroesInfinity {
      fill(first, 0)
      return
    }
    guard sample.loss.isFinite else {
      fill(first, .nan)
      return
    }
    let divisor = reduction == .mean ? Double(max(sample.labels, 1)) : 1
    let factor =
      reduction.scale(
        call.input(CTCLoss.Place.upstream), index, weightSum: Double(state.samples)) / divisor
    writeExponentials(first, factor)
    let occupied = memory.states(call.workspace) + sample.firstState + step * 2 * sample.states
    let classes = memory.classes(call.workspace) + sample.firstClass
    for place in 0..<sample.classes {
      let element = first + classes[place]
      gradient[element] = factor * (exp(logs[element]) - occupied[place])
    }
  }

  private func fill(_ first: Int, _ value: Double) {
    for index in first..<first + state.classes { gradient[index] = value }
  }

  /// factor exp(x) of all classes.
  private func writeExponentials(_ first: Int, _ factor: Double) {
    guard let build = Kernels.chosen, let x = logs.data, let y = gradient.data else {
      for index in first..<first + state.classes { gradient[index] = factor * exp(logs[index]) }
      return
    }
    let offset = first * logs.dataType.byteSize
    build.table(logs.dataType).weightedExp(x + offset, y + offset, state.classes, factor)
  }
}

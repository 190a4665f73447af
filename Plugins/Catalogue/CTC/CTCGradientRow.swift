import Glibc
import LossdKernelTable
import LossdKernels
import LossdPluginKit
import LossdTensor

/// The gradient of the classes of one sample at one step in time: exp(x) less by how much each class is occupied, times
/// what the sample counts.
struct CTCGradientRow {
  private let call: Call
  private let state: CTCLoss.State
  private let memory: CTCMemory
  private let logs: TensorView
  private let gradient: TensorView
  private let scratch: UnsafeMutableRawPointer
  private let reduction: Reduction
  private let zeroesInfinity: Bool
  /// Elements of a block.
  private static let blockMax = 4096

  /// Bytes: a block widened, and its exponentials.
  static func scratchBytes(_ type: DataType) -> Int {
    type.byteSize == 2 ? blockMax * MemoryLayout<Float>.stride : 0
  }

  init(
    _ call: Call, _ state: CTCLoss.State, _ memory: CTCMemory, _ logs: TensorView,
    _ gradient: TensorView, _ scratch: UnsafeMutableRawPointer
  ) {
    self.call = call
    self.state = state
    self.memory = memory
    self.logs = logs
    self.gradient = gradient
    self.scratch = scratch
    reduction = Reduction(call.attributes)
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
    guard let build = Kernels.chosen else {
      for index in first..<first + state.classes { gradient[index] = factor * exp(logs[index]) }
      return
    }
    for offset in stride(from: 0, to: state.classes, by: CTCGradientRow.blockMax) {
      let count = min(CTCGradientRow.blockMax, state.classes - offset)
      let begin = first + offset
      switch logs.dataType {
      case .float64:
        let y = gradient.elements(as: Double.self) + begin
        build.float64.exp(logs.elements(as: Double.self) + begin, y, count)
        for index in 0..<count { y[index] *= factor }
      case .float32:
        let y = gradient.elements(as: Float.self) + begin
        build.float32.exp(logs.elements(as: Float.self) + begin, y, count)
        multiply(y, Float(factor), count)
      case let type:
        let table = build.table(type)
        let y = scratch.assumingMemoryBound(to: Float.self)
        table.widen(logs.elements(as: UInt16.self) + begin, y, count)
        build.float32.exp(y, y, count)
        multiply(y, Float(factor), count)
        table.narrow(y, gradient.elements(as: UInt16.self) + begin, count)
      }
    }
  }

  @inline(__always)
  private func multiply(_ y: UnsafeMutablePointer<Float>, _ factor: Float, _ count: Int) {
    for index in 0..<count { y[index] *= factor }
  }
}

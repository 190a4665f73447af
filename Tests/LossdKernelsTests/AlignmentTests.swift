import Foundation
import LossdKernelTable
import LossdKernels
import Testing

/// The steps of ctc_loss in every build, against sums over numbers of a long exponent.
@Suite struct AlignmentTests {
  /// A step's memory.
  private final class Memory {
    private let base: UnsafeMutablePointer<Double>
    private let count: Int
    var step: AlignmentStep

    init(_ labels: Int, _ skips: [Bool]) {
      let room = AlignmentStep.room(labels)
      count = 22 * room
      base = .allocate(capacity: count + 1)
      base.update(repeating: -.infinity, count: count)
      base[count] = 7
      step = AlignmentStep(
        labels: labels, before: AlignmentStep.States(base, room: room),
        after: AlignmentStep.States(base + 6 * room, room: room), skips: base + 12 * room,
        logs: base + 13 * room, mantissas: base + 14 * room, exponents: base + 15 * room)
      for place in skips.indices where skips[place] { (base + 12 * room)[place] = 0 }
    }

    deinit { base.deallocate() }

    var isIntact: Bool { base[count] == 7 }
    /// Behind what a step has.
    var more: UnsafeMutablePointer<Double> { base + 16 * step.room }

    func clear(certain state: Int) {
      for states in [step.before, step.after] {
        states.mantissas.update(repeating: 1, count: 2 * step.room)
        states.rests.update(repeating: 0, count: 2 * step.room)
        states.exponents.update(repeating: -.infinity, count: 2 * step.room)
      }
      step.before.exponents[state] = 0
    }

    func take(_ kernel: KernelTable.Loss, _ logs: [Double], _ time: Int) -> Double {
      (more - 3 * step.room).update(from: logs, count: logs.count)
      step.isNormalized = time % 16 == 15
      let shift = kernel(&step)
      (step.before, step.after) = (step.after, step.before)
      return shift
    }
  }

  private func value(_ states: AlignmentStep.States, _ index: Int) -> Truth {
    let exponent = states.exponents[index]
    if exponent == -.infinity { return 0 }
    return (Truth(states.mantissas[index]) + Truth(states.rests[index]))
      * Truth(sign: .plus, exponent: Truth.Exponent(exponent), significand: 1)
  }

  @Test(
    "both directions and the occupation of all numbers of labels",
    arguments: Kernels.all.indices)
  func steps(_ index: Int) throws {
    let kernel = try #require(Kernels.all[index].float64.alignment)
    var source = SeededGenerator()
    // Truth has to hold the sums.
    let depth: Double = MemoryLayout<Truth>.size > 8 ? 30 : 2
    for labels in Array(0...20) + [50, 101] {
      let times = 2 * labels + 9
      let skips = (0..<max(labels, 1)).map { $0 > 0 && Bool.random(using: &source) }
      let logs = (0..<times).map { _ in
        (0...labels).map { _ in Double.random(in: -depth...(-1), using: &source) }
      }
      let memory = Memory(labels, skips)
      let room = memory.step.room
      var kept: [(mantissas: [Double], exponents: [Double])] = []
      // b[j] and l[j], in plain sums.
      var blanks = [Truth](repeating: 0, count: labels + 1)
      var each = [Truth](repeating: 0, count: labels)
      memory.clear(certain: 0)
      blanks[0] = 1
      for time in 0..<times {
        let shift = memory.take(kernel, logs[time], time)
        #expect(shift == logs[time].max())
        let p = logs[time].map { exp(Truth($0) - Truth(shift)) }
        let (b, l) = (blanks, each)
        for j in 0...labels { blanks[j] = (b[j] + (j > 0 ? l[j - 1] : 0)) * p[0] }
        for j in 0..<labels {
          each[j] = (l[j] + b[j] + (skips[j] ? l[j - 1] : 0)) * p[j + 1]
        }
        let states = memory.step.before
        kept.append(
          (
            Array(UnsafeBufferPointer(start: states.mantissas, count: 2 * room)),
            Array(UnsafeBufferPointer(start: states.exponents, count: 2 * room))
          ))
        for j in 0...labels {
          expectSame(value(states, j), blanks[j], time, "blank \(j) of \(labels)")
        }
        for j in 0..<labels {
          expectSame(value(states, room + j), each[j], time, "label \(j) of \(labels)")
        }
      }
      let whole = blanks[labels] + (labels > 0 ? each[labels - 1] : 0)
      memory.clear(certain: labels)
      memory.step.isBackward = true
      let occupied = memory.more
      for time in (0..<times).reversed() {
        kept[time].mantissas.withUnsafeBufferPointer { mantissas in
          kept[time].exponents.withUnsafeBufferPointer { exponents in
            memory.step.occupation = AlignmentStep.Occupation(
              mantissas: mantissas.baseAddress!, exponents: exponents.baseAddress!,
              inverse: Double(1 / whole.significand), exponent: Double(whole.exponent),
              results: occupied)
            _ = memory.take(kernel, logs[time], time)
          }
        }
        // Each alignment is in one state.
        var sum = (0...labels).reduce(0) { $0 + occupied[$1] }
        sum = (0..<labels).reduce(sum) { $0 + occupied[room + $1] }
        #expect((sum - 1).magnitude < 1e-13, "\(sum) of \(labels) labels at \(time)")
      }
      #expect(memory.isIntact, "written past the end")
    }
  }

  private func expectSame(_ ours: Truth, _ truth: Truth, _ time: Int, _ name: String) {
    // An exponential and a product a step.
    if (ours - truth).magnitude > 4e-16 * Truth(time + 1) * truth {
      Issue.record("\(name) at \(time): \(ours), truth \(truth)")
    }
  }

}

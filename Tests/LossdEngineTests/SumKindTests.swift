import CLossdPlugin
import LossdPluginKit
import LossdTensor
import Synchronization
import Testing

@testable import LossdEngine

/// Accumulators of kind SUM, and functions that use them wrongly.
@Suite struct SumKindTests {
  private final class Library: FunctionOwner {
    var isElsewhere: Bool { false }
  }

  /// Adds 1, and 1 to accumulators that it has not; then fails where `isFailing`.
  private enum Adding: Function {
    struct State: BitwiseCopyable {}

    static var declaration: FunctionDeclaration {
      FunctionDeclaration(
        name: "adding", kind: .loss, summary: "adds", inputs: [],
        outputs: [OutputDeclaration("loss", isDefault: true, help: "scalar")],
        attributes: [
          AttributeDeclaration("is_failing", .bool, default: .bool(false), help: "fails")
        ],
        accumulators: [AccumulatorDeclaration("a", .sum), "b"], values: ["loss"])
    }

    static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
      plan.setReducedOutput(0, .float64)
      plan.addPass(units: 10, unitCost: 400_000)
      return State()
    }

    static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {
      for index in 0..<40 { chunk.add(1, to: index) }
      chunk.sums[1] += 1
      if call.attributes.bool(0) { throw StatusError(.invalidArgument, "as asked") }
    }

    static func finish(
      _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
    ) throws(StatusError) -> Double? { sums[0] * 1000 + sums[1] }
  }

  /// Both ways: all in one thread, and by workers, which have sums of their own for many calls.
  private func values(_ entry: FunctionEntry, _ threads: WorkerThreads, isFailing: Bool) throws
    -> [[Double]]
  {
    let memory = AlignedBuffer.zeroed(count: 4096)
    func evaluation() throws -> Evaluation {
      let evaluation = Evaluation(entry)
      evaluation.request.wantDefault()
      try evaluation.request.setAttribute(0, .bool(isFailing))
      try evaluation.makePlan()
      try evaluation.bind(results: memory.base, workspace: nil)
      return evaluation
    }
    let alone = try evaluation()
    alone.runToEnd(scratch: memory.base + 1024)
    let together = try evaluation()
    let isDone = Atomic<Bool>(false)
    threads.submit(together, group: WorkGroup()) { _ in isDone.store(true, ordering: .releasing) }
    while !isDone.load(ordering: .acquiring) {}
    #expect((alone.error != nil) == isFailing && (together.error != nil) == isFailing)
    return [alone, together].map { $0.progress.accumulator.values }
  }

  @Test("what is not declared is not added to, and a failed chunk leaves nothing for others")
  func misuse() throws {
    let threads = WorkerThreads(workers: 2)
    defer { threads.stop() }
    let registry = Registry()
    let function = UnsafeMutablePointer<lossd_function>.allocate(capacity: 1)
    function.initialize(to: makeFunction(Adding.self).pointee)
    try registry.add(
      makePlugin(name: "adding", version: "1", functions: [UnsafePointer(function)]),
      owner: Library())
    let entry = try #require(registry.table.entries.first)
    for isFailing in [true, false, true, false] {
      let found = try values(entry, threads, isFailing: isFailing)
      // Its second accumulator is PLAIN: what is added to it as to a SUM counts as well.
      if !isFailing { #expect(found == [[10, 20], [10, 20]]) }
    }
  }

  @Test("a function that merges by itself has no sums of the host's, whatever it adds to")
  func ownMerge() throws {
    let threads = WorkerThreads(workers: 2)
    defer { threads.stop() }
    let registry = Registry()
    let function = UnsafeMutablePointer<lossd_function>.allocate(capacity: 1)
    function.initialize(to: makeFunction(Adding.self).pointee)
    function.pointee.accumulator_kinds = nil
    function.pointee.merge = { _, into, from in
      if let into, let from { for index in 0..<2 { into[index] += from[index] } }
    }
    try registry.add(
      makePlugin(name: "adding", version: "1", functions: [UnsafePointer(function)]),
      owner: Library())
    let entry = try #require(registry.table.entries.first)
    for isFailing in [true, false, true, false] {
      let found = try values(entry, threads, isFailing: isFailing)
      if !isFailing { #expect(found == [[0, 10], [0, 10]]) }
    }
  }

  @Test("a kind that nobody knows, and sums beside a merge of its own, are refused")
  func refused() throws {
    func refusal(_ change: (UnsafeMutablePointer<lossd_function>) -> Void) -> String {
      let function = UnsafeMutablePointer<lossd_function>.allocate(capacity: 1)
      function.initialize(to: makeFunction(Adding.self).pointee)
      change(function)
      do throws(StatusError) {
        try Registry().add(
          makePlugin(name: "adding", version: "1", functions: [UnsafePointer(function)]),
          owner: Library())
        return ""
      } catch { return error.message }
    }
    let kinds = UnsafeMutablePointer<UInt32>.allocate(capacity: 2)
    defer { kinds.deallocate() }
    kinds.initialize(repeating: 7, count: 2)
    #expect(
      refusal { $0.pointee.accumulator_kinds = UnsafePointer(kinds) }.contains("unknown kind 7"))
    #expect(
      refusal { $0.pointee.merge = { _, _, _ in } }.contains("merge of its own and the sum 0"))
    // One of plugin.h 1.2 ends before its kinds: what lies there is not its.
    #expect(
      refusal {
        $0.pointee.struct_size = 128
        $0.pointee.accumulator_kinds = UnsafePointer(kinds)
      } == "")
    #expect(refusal { $0.pointee.struct_size = 127 }.contains("too short"))
  }
}

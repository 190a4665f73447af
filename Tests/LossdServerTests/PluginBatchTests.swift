import CLossdPlugin
import Glibc
import LossdEngine
import LossdPluginKit
import LossdTensor
import LossdWire
import Synchronization
import Testing

@testable import LossdServer

/// The states of a batch whose function is a library's.
@Suite(.serialized) struct PluginBatchTests {
  private final class Library: FunctionOwner {
    var isElsewhere: Bool { false }
  }

  private enum Step: Int {
    case none, plan, run, merge, finish
  }

  /// Counts rows, by a merge of its own; it waits within the step `heldAt`.
  private enum Stepwise: Function {
    struct State: BitwiseCopyable {}
    static let heldAt = Atomic<Int>(0)
    /// Times that the step is let through before.
    static let passes = Atomic<Int>(0)
    static let entered = Atomic<Int>(0)

    static func pass(_ step: Step) {
      if heldAt.load(ordering: .acquiring) != step.rawValue { return }
      if passes.subtract(1, ordering: .acquiringAndReleasing).oldValue > 0 { return }
      entered.store(step.rawValue, ordering: .releasing)
      while heldAt.load(ordering: .acquiring) == step.rawValue { usleep(1000) }
    }

    static var declaration: FunctionDeclaration {
      FunctionDeclaration(
        name: "stepwise", kind: .loss, summary: "counts rows",
        inputs: [
          InputDeclaration("input", [.float32], isRequired: true, help: "(N, 1000)"),
          InputDeclaration("target", [.int64], isRequired: true, help: "(N)"),
        ], outputs: [OutputDeclaration("loss", isDefault: true, help: "scalar")], attributes: [],
        accumulators: ["rows"], values: ["loss"])
    }

    static func plan(_ call: LossdPluginKit.Call, _ plan: inout Plan) throws(StatusError) -> State {
      pass(.plan)
      let rows = call.input(0)?.shape.first ?? 0
      plan.setRows(Int(rows))
      plan.setReducedOutput(0, .float64)
      plan.addPass(units: Int(rows), unitCost: 1000)
      return State()
    }

    static func run(
      _ call: LossdPluginKit.Call, _ state: State, _ chunk: Chunk
    ) throws(StatusError) {
      pass(.run)
      for _ in chunk.range { chunk.sums[0] += 1 }
    }

    static func finish(
      _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
    ) throws(StatusError) -> Double? {
      pass(.finish)
      return sums[0]
    }
  }

  private let library = Library()

  private func bench(rows: Int) throws -> EvaluationBench {
    Stepwise.entered.store(0, ordering: .releasing)
    return try EvaluationBench(stream: true, rows: rows) { registry in
      let function = UnsafeMutablePointer<lossd_function>.allocate(capacity: 1)
      function.initialize(to: makeFunction(Stepwise.self).pointee)
      function.pointee.merge = { _, into, from in
        Stepwise.pass(.merge)
        if let into, let from { into[0] += from[0] }
      }
      try registry.add(
        makePlugin(name: "stepwise", version: "1", functions: [UnsafePointer(function)]),
        owner: library)
    }
  }

  private static let manyRows = 20_000

  /// Lets a thread that is held go, whatever the test has found: the bench waits for it.
  private func close(_ bench: EvaluationBench) {
    Stepwise.heldAt.store(0, ordering: .releasing)
    bench.close()
  }

  @Test("planning, computing, computed, merging and finishing, each on a thread of its own")
  func ends() throws {
    let bench = try bench(rows: PluginBatchTests.manyRows)
    defer { close(bench) }
    try bench.send(1, function: "stepwise")
    #expect(bench.handler.batches.map(\.state) == [.planning])
    guard case .working = bench.handler.holding else { return #expect(Bool(false)) }
    try bench.send(2, function: "stepwise")
    bench.handler.halfClosed()
    bench.finish()
    #expect(bench.call.error == nil && bench.call.responses.map(\.id) == [1, 2, 0])
    #expect(bench.call.responses.last?.rows == 40_000 && bench.isFreed)
  }

  @Test(
    "a call that is cancelled in a plugin's step ends when the step does",
    arguments: [Step.plan, .run, .merge, .finish])
  private func cancelled(_ step: Step) throws {
    let bench = try bench(rows: step == .run ? PluginBatchTests.manyRows : 4)
    defer { close(bench) }
    // A batch's own sums and loss are made by these steps too, where it is computed.
    Stepwise.passes.store(step == .merge || step == .finish ? 1 : 0, ordering: .releasing)
    Stepwise.heldAt.store(step.rawValue, ordering: .releasing)
    try bench.send(1, function: "stepwise")
    if step == .finish { bench.handler.halfClosed() }
    bench.turn("the step is entered") {
      Stepwise.entered.load(ordering: .acquiring) == step.rawValue
    }
    let states: [Batch.State] =
      switch step {
      case .plan: [.planning]
      case .run: [.computing]
      case .merge: [.merging]
      default: []
      }
    #expect(bench.handler.batches.map(\.state) == states)
    guard case .working = bench.handler.holding else { return #expect(Bool(false)) }
    bench.handler.cancel(StatusError(.cancelled, "a test"))
    #expect(!bench.call.isOver, "a thread still has its memory")
    Stepwise.heldAt.store(0, ordering: .releasing)
    bench.finish()
    #expect(bench.call.error?.code == .cancelled)
    #expect(bench.handler.batches.isEmpty && bench.handler.call == nil && bench.isFreed)
  }

  @Test("one whose step does not return is given up, and its memory comes back with the thread")
  func givenUp() throws {
    let bench = try bench(rows: PluginBatchTests.manyRows)
    defer { close(bench) }
    Stepwise.passes.store(0, ordering: .releasing)
    Stepwise.heldAt.store(Step.run.rawValue, ordering: .releasing)
    try bench.send(1, function: "stepwise")
    bench.turn("run is entered") { Stepwise.entered.load(ordering: .acquiring) != 0 }
    bench.handler.cancel(StatusError(.cancelled, "a test"))
    bench.finish()
    #expect(bench.call.error?.code == .cancelled && bench.handler.batches.isEmpty)
    #expect(bench.call.budget.bytesInFlight > 0, "the thread is in it")
    Stepwise.heldAt.store(0, ordering: .releasing)
    #expect(bench.isFreed)
  }
}

import CLossdPlugin
import Glibc
import LossdPluginKit
import LossdTensor
import Synchronization
import Testing

@testable import LossdEngine

/// What a library's functions are allowed to do wrong.
@Suite struct ForeignTests {
  final class Library: FunctionOwner {
    var isElsewhere: Bool { false }
  }

  /// A function whose run does what the attribute `does` says: 1 waits for `gate`, 2 writes before
  /// its output, 3 behind it, 4 nothing at all.
  enum Careless: Function {
    struct State: BitwiseCopyable {}
    static let gate = Atomic<Bool>(false)

    static var declaration: FunctionDeclaration {
      FunctionDeclaration(
        name: "careless", kind: .activation, summary: "misbehaves",
        inputs: [], outputs: [OutputDeclaration("output", isDefault: true, help: "(3,)")],
        attributes: [AttributeDeclaration("does", .int, default: .int(0), help: "what")])
    }

    static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
      let shape: [Int64] = [3]
      shape.withUnsafeBufferPointer { plan.setOutput(0, .float32, shape: $0) }
      plan.addPass(units: 1, unitCost: 1e6)
      return State()
    }

    static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {
      guard let output = call.output(0)?.elements(as: Float.self) else { return }
      switch call.attributes.int(0) {
      case 1: while !gate.load(ordering: .acquiring) { usleep(1000) }
      case 2: output[-1] = 1
      case 3: output[3] = 1
      case 4: return
      default: break
      }
      for index in 0..<3 { output[index] = 7 }
    }
  }

  private let registry = Registry()
  private let library = Library()

  init() throws {
    try registry.add(
      makePlugin(name: "careless", version: "1", functions: [makeFunction(Careless.self)]),
      owner: library)
  }

  private func evaluation(does what: Int64) throws -> Evaluation {
    let evaluation = Evaluation(try #require(registry.table.entries.first))
    try evaluation.request.setAttribute(0, .int(what))
    evaluation.request.wantDefault()
    return evaluation
  }

  private func outcome(_ what: Int64) throws -> (error: StatusError?, output: [Float]) {
    let evaluation = try evaluation(does: what)
    try evaluation.makePlan()
    let results = AlignedBuffer(count: evaluation.plan.resultBytes)
    results.bytes.initializeMemory(as: UInt8.self, repeating: 0xEE)
    try evaluation.bind(results: results.base, workspace: nil)
    evaluation.runToEnd(scratch: results.base)
    let output = evaluation.result(0).view.elements(as: Float.self)
    return withExtendedLifetime(results) { (evaluation.error, (0..<3).map { output[$0] }) }
  }

  @Test("a write outside of an output is an INTERNAL that says where")
  func fences() throws {
    #expect(try outcome(0).error == nil)
    let before = try outcome(2).error
    #expect(before?.code == .internal)
    #expect(before?.message.hasSuffix("before the begin of output") ?? false)
    #expect(try outcome(3).error?.message.hasSuffix("behind the end of output") ?? false)
  }

  @Test("what a plugin leaves unwritten is zeros")
  func unwritten() throws {
    #expect(try outcome(4).output == [0, 0, 0])
  }

  @Test(
    "a call whose callback hangs is given up, others go on, and its memory lives until it is back")
  func stuck() throws {
    final class Memory: Sendable {
      let isGone: Box
      init(_ isGone: Box) { self.isGone = isGone }
      deinit { isGone.set() }
    }
    final class Box: Sendable {
      private let value = Atomic<Bool>(false)
      func set() { value.store(true, ordering: .releasing) }
      var isSet: Bool { value.load(ordering: .acquiring) }
    }
    let threads = WorkerThreads(workers: 1)
    let group = WorkGroup()
    let stuck = try evaluation(does: 1)
    let results = AlignedBuffer(count: 4096)
    let small = SmallMemory(
      results: results.base, resultBytes: 4096, workspace: results, costMax: 1e9)
    let wrong = Box()
    threads.prepare(stuck, small: small, group: group) { _ in
      wrong.set()
    }
    while threads.insideSince(stuck) == nil { usleep(1000) }
    let isGone = Box()
    do {
      let memory = Memory(isGone)
      #expect(threads.giveUp(stuck, keeping: memory))
    }
    #expect(!threads.giveUp(stuck, keeping: group), "a second time there is nothing to give up")
    #expect(threads.queueDepth == 0)
    // The only worker is lost; its place is taken.
    let next = try evaluation(does: 0)
    let done = Box()
    threads.prepare(next, small: small, group: group) { _ in
      done.set()
    }
    while !done.isSet { usleep(1000) }
    let isComputed = next.progress.isComputed
    #expect(isComputed)
    #expect(!isGone.isSet)
    Careless.gate.store(true, ordering: .releasing)
    for _ in 0..<2000 where !isGone.isSet { usleep(1000) }
    #expect(isGone.isSet, "its memory is free once it is back")
    #expect(!wrong.isSet, "its completion is not called")
    threads.stop()
  }
}

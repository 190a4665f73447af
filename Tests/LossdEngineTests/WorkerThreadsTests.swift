import Glibc
import LossdPluginKit
import LossdTensor
import Synchronization
import Testing

@testable import LossdEngine

/// Turns, ends and memory of calls on worker threads.
@Suite struct WorkerThreadsTests {
  /// Notes who ran each of its units, and waits for a gate before the first one. The input says
  /// whose call it is.
  enum Noting: Function {
    struct State: BitwiseCopyable {}
    static let order = Mutex<[Int64]>([])
    static let gate = Atomic<Bool>(false)

    static var declaration: FunctionDeclaration {
      FunctionDeclaration(
        name: "noting", kind: .activation, summary: "notes its caller",
        inputs: [], outputs: [OutputDeclaration("output", isDefault: true, help: "scalar")],
        attributes: [
          AttributeDeclaration("caller", .int, default: .int(0), help: "noted"),
          AttributeDeclaration("units", .int, default: .int(1), help: "how many"),
        ])
    }

    static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
      plan.setOutput(0, .float32, shape: UnsafeBufferPointer(start: nil, count: 0), isZeroed: true)
      plan.addPass(units: Int(call.attributes.int(1)), unitCost: 1e6)
      return State()
    }

    static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {
      while !gate.load(ordering: .acquiring) { usleep(1000) }
      order.withLock { $0.append(call.attributes.int(0)) }
    }
  }

  /// A sum over many units, each worth a microsecond of nothing, with scratch memory.
  enum Counting: Function {
    struct State: BitwiseCopyable {}

    static var declaration: FunctionDeclaration {
      FunctionDeclaration(
        name: "counting", kind: .loss, summary: "sums 1 / (1 + unit)",
        inputs: [], outputs: [OutputDeclaration("loss", isDefault: true, help: "scalar")],
        attributes: [
          AttributeDeclaration("units", .int, default: .int(1), help: "how many"),
          AttributeDeclaration("scratch", .int, default: .int(0), help: "bytes"),
        ], accumulators: ["sum"], values: ["loss"])
    }

    static func plan(_ call: Call, _ plan: inout Plan) throws(StatusError) -> State {
      plan.setReducedOutput(0, .float64)
      plan.setScratch(bytes: Int(call.attributes.int(1)))
      plan.addPass(units: Int(call.attributes.int(0)), unitCost: 400_000)
      return State()
    }

    static func run(_ call: Call, _ state: State, _ chunk: Chunk) throws(StatusError) {
      for unit in chunk.range { chunk.sums[0] += 1 / (1 + Double(unit)) }
    }

    static func finish(
      _ attributes: Attributes, _ sums: UnsafePointer<Double>, value index: Int
    ) throws(StatusError) -> Double? { sums[0] }
  }

  private let registry = Registry()

  init() throws {
    try registry.add(
      makePlugin(
        name: "test", version: "1",
        functions: [makeFunction(Noting.self), makeFunction(Counting.self)]))
  }

  private struct Submitted {
    let evaluation: Evaluation
    let memory = AlignedBuffer(count: 4096)
    let isDone = Done()
  }

  private final class Done: Sendable {
    private let value = Atomic<Bool>(false)
    func set() { value.store(true, ordering: .releasing) }
    var isSet: Bool { value.load(ordering: .acquiring) }
    func wait() {
      for _ in 0..<30_000 where !isSet { usleep(1000) }
      #expect(isSet)
    }
  }

  private func call(_ name: String, _ attributes: [Int64]) throws -> Submitted {
    let entry = try #require(registry.table.entries.first { $0.name == name })
    let call = Submitted(evaluation: Evaluation(entry))
    for (index, value) in attributes.enumerated() {
      try call.evaluation.request.setAttribute(index, .int(value))
    }
    call.evaluation.request.wantDefault()
    try call.evaluation.makePlan()
    try call.evaluation.bind(results: call.memory.base, workspace: nil)
    return call
  }

  private func submit(_ call: Submitted, _ threads: WorkerThreads, _ group: WorkGroup) {
    let done = call.isDone
    threads.submit(call.evaluation, group: group) { _ in done.set() }
  }

  @Test("a user with one connection gets every second chunk beside one with a thousand")
  func users() throws {
    let threads = WorkerThreads(workers: 1)
    defer { threads.stop() }
    let (many, one) = (WorkUser(), WorkUser())
    // The only worker waits in it until all are there.
    let first = try call("noting", [0, 1])
    submit(first, threads, WorkGroup())
    var calls: [Submitted] = []
    for _ in 0..<1000 {
      let call = try call("noting", [1, 3])
      calls.append(call)
      submit(call, threads, WorkGroup(user: many))
    }
    let last = try call("noting", [2, 100])
    calls.append(last)
    submit(last, threads, WorkGroup(user: one))
    Noting.gate.store(true, ordering: .releasing)
    for call in calls { call.isDone.wait() }
    let order = Noting.order.withLock { $0 }.filter { $0 != 0 }
    #expect(order.count == 3100)
    let places = order.indices.filter { order[$0] == 2 }
    #expect(places.count == 100)
    // Every second one, from the first on.
    #expect(places.last! <= 200, "\(places)")
    for (before, after) in zip(places, places.dropFirst()) { #expect(after - before <= 2) }
  }

  @Test("a call that waits behind others ends soon after it is stopped")
  func stopWaiting() throws {
    let threads = WorkerThreads(workers: 1)
    defer { threads.stop() }
    let group = WorkGroup()
    var calls: [Submitted] = []
    for _ in 0..<20 {
      let call = try self.call("counting", [1_000_000])
      calls.append(call)
      submit(call, threads, group)
    }
    for call in calls.reversed() {
      threads.stop(call.evaluation)
      call.isDone.wait()
      #expect(call.evaluation.error?.code == .cancelled)
    }
  }

  @Test("a sum of more chunks than a stretch has is that of all")
  func stretches() throws {
    let units = Int64(3 * Chunking.stretch + 17)
    let alone = try call("counting", [units])
    #expect(alone.evaluation.plan.stages.last?.chunks == Int(units))
    alone.evaluation.runToEnd(scratch: alone.memory.base)
    let expected = try #require(alone.evaluation.result(0).view.data).load(as: Double.self)
    var sum = ExactSum()
    for unit in 0..<units { sum.add(1 / (1 + Double(unit))) }
    #expect(expected.bitPattern == sum.value.bitPattern)
    for workers in [1, 3] {
      let threads = WorkerThreads(workers: workers)
      let together = try call("counting", [units])
      submit(together, threads, WorkGroup())
      together.isDone.wait()
      threads.stop()
      let value = try #require(together.evaluation.result(0).view.data).load(as: Double.self)
      #expect(value.bitPattern == expected.bitPattern)
    }
  }

  @Test("scratch memory that cannot be had is the call's error, and the worker goes on")
  func noScratch() throws {
    let threads = WorkerThreads(workers: 1)
    defer { threads.stop() }
    var limit = rlimit()
    getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
    // Larger than any address space: 2^40 bytes are believed, and not had where memory is limited.
    // 2^47 never.
    let greedy = try call("counting", [3, 1 << 40])
    var space = rlimit(rlim_cur: 1 << 38, rlim_max: limit.rlim_max)
    setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &space)
    submit(greedy, threads, WorkGroup())
    greedy.isDone.wait()
    setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
    #expect(greedy.evaluation.error?.code == .resourceExhausted)
    #expect(
      greedy.evaluation.error?.message.hasPrefix("cannot allocate 1099511627776 bytes") ?? false)
    let next = try call("counting", [3])
    submit(next, threads, WorkGroup())
    next.isDone.wait()
    #expect(next.evaluation.error == nil)
  }

  @Test("a worker gives large scratch memory back once nothing waits")
  func scratchIsGivenBack() throws {
    func mapped() -> Int {
      var size = 0
      guard let file = fopen("/proc/self/statm", "r") else { return 0 }
      defer { fclose(file) }
      var text = [CChar](repeating: 0, count: 128)
      if fgets(&text, 128, file) != nil {
        size = Int(String(cString: text).split(separator: " ")[0]) ?? 0
      }
      return size * 4096
    }
    let threads = WorkerThreads(workers: 1)
    defer { threads.stop() }
    // Never touched, but mapped.
    let bytes = 1 << 30
    let before = mapped()
    let large = try call("counting", [3, Int64(bytes)])
    submit(large, threads, WorkGroup())
    large.isDone.wait()
    #expect(large.evaluation.error == nil)
    for _ in 0..<2000 where mapped() > before + bytes / 2 { usleep(1000) }
    #expect(mapped() < before + bytes / 2)
  }

  @Test("the watch is called when a worker begins and ends, and renewed workers begin anew")
  func watch() throws {
    let (begun, ended) = (Counter(), Counter())
    let watch = ThreadWatch(begin: { begun.add() }, end: { ended.add() })
    let threads = WorkerThreads(workers: 2, watch: watch)
    #expect(threads.workers == 2)
    #expect(threads.renewThreads())
    #expect(ended.value == 2)
    let call = try call("counting", [3])
    submit(call, threads, WorkGroup())
    call.isDone.wait()
    threads.stop()
    #expect(begun.value == 4)
    #expect(ended.value == 4)
    #expect(threads.renewThreads(), "after the end there is nothing to renew")
    #expect(threads.progress.isIdle)
  }

  private final class Counter: Sendable {
    private let count = Atomic<Int>(0)
    func add() { count.add(1, ordering: .relaxed) }
    var value: Int { count.load(ordering: .relaxed) }
  }
}

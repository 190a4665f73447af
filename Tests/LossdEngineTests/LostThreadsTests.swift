import Testing

@testable import LossdEngine

/// What becomes of threads that do not come back from a callback, without a thread.
@Suite struct LostThreadsTests {
  private final class Memory {}

  private var lost = LostThreads()
  private var workers = (0..<4).map { _ in WorkerThread() }

  private func enter(_ index: Int, _ call: Evaluation, since: UInt64) {
    workers[index].call = call
    workers[index].since = since
  }

  @Test("a call is inside of threads since the first of them entered it")
  func since() throws {
    let calls = try Idle.calls(2)
    enter(0, calls[0], since: 30)
    enter(1, calls[0], since: 20)
    enter(2, calls[1], since: 10)
    #expect(LostThreads.insideSince(calls[0], workers) == 20)
    workers[1].call = nil
    #expect(LostThreads.insideSince(calls[0], workers) == 30)
    workers[0].call = nil
    #expect(LostThreads.insideSince(calls[0], workers) == nil)
  }

  @Test("a call that no thread is inside of is not given up")
  mutating func nobodyInside() throws {
    let call = try Idle.calls(1)[0]
    #expect(lost.giveUp(call, keeping: Memory(), &workers) == nil)
    #expect(workers.count == 4)
    #expect(!lost.takeEnded([]).isAnyInside)
  }

  @Test("what a call given up uses is kept until its last thread is back, and then handed out")
  mutating func keeping() throws {
    let calls = try Idle.calls(2)
    let (first, second, other) = (workers[0], workers[1], workers[2])
    enter(0, calls[0], since: 1)
    enter(1, calls[0], since: 2)
    enter(2, calls[1], since: 3)
    weak var memory: Memory?
    do {
      let owner = Memory()
      memory = owner
      #expect(lost.giveUp(calls[0], keeping: owner, &workers) == 2)
    }
    #expect(first.isLost && second.isLost && !other.isLost)
    #expect(workers.count == 2 && workers.contains { $0 === other })
    #expect(lost.giveUp(calls[0], keeping: Memory(), &workers) == nil, "only once")
    #expect(lost.cameBack(from: calls[0]) == nil)
    #expect(memory != nil)
    #expect(lost.cameBack(from: calls[0]) === memory)
    #expect(memory == nil)
    #expect(lost.cameBack(from: calls[0]) == nil, "an honest thread comes back once")
  }

  @Test("the place of a thread that retires is not given away a second time")
  mutating func retiring() throws {
    let call = try Idle.calls(1)[0]
    enter(0, call, since: 1)
    enter(1, call, since: 1)
    workers[0].isRetiring = true
    #expect(lost.giveUp(call, keeping: Memory(), &workers) == 1)
  }

  @Test("threads that retire are over once each has ended or is lost; those that ended are joined")
  mutating func renewal() throws {
    let call = try Idle.calls(1)[0]
    let retiring = workers
    for worker in retiring { worker.isRetiring = true }
    for worker in retiring { #expect(worker.isReplaced) }
    enter(0, call, since: 1)
    for worker in retiring[1...] { worker.isBack = true }
    #expect(!LostThreads.areOver(retiring))
    #expect(lost.giveUp(call, keeping: Memory(), &workers) == 0)
    #expect(LostThreads.areOver(retiring))
    let first = lost.takeEnded(retiring)
    #expect(first.ended.count == 3 && first.isAnyInside)
    // It comes back in the end: the next renewal joins it, and finds nobody inside.
    retiring[0].isBack = true
    let second = lost.takeEnded([])
    #expect(second.ended.count == 1 && second.ended[0] === retiring[0] && !second.isAnyInside)
    #expect(lost.takeEnded([]).ended.isEmpty)
  }
}

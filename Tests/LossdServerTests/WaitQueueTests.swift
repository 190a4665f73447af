import LossdEngine
import LossdLoop
import Testing

@testable import LossdServer

@Suite struct WaitQueueTests {
  /// Whose turn it was, and what is left in the budget for those who try again.
  private final class Bench {
    let test: TestLoop
    let budget: MemoryBudget
    var users: [User] = []
    var log: [String] = []
    var waiters: [String: MemoryWaiter] = [:]

    init(bytesMax: Int) throws {
      test = try TestLoop()
      budget = LossdServerTests.budget(bytesMax)
      users = (0..<3).map { User(.uid(UInt32($0)), bytesMax: 1 << 30, within: budget) { _ in } }
    }

    /// Somebody who wants `bytes` of the budget, and waits until they are there.
    func wait(_ name: String, _ user: Int, _ bytes: Int, timeout: UInt64 = 10_000_000_000) {
      let waiter = MemoryWaiter(
        onRelease: { [unowned self] in
          if let shortage = budget.reserve(bytes) {
            log.append("\(name) finds no room")
            if let waiter = waiters[name] {
              test.context.waits.wait(waiter, users[user], shortage, timeout: timeout)
            }
          } else {
            log.append(name)
          }
        },
        onTimeout: { [unowned self] text in
          log.append("\(name): \(text)")
          test.loop.stop()
        })
      waiters[name] = waiter
      test.context.waits.wait(waiter, users[user], Shortage(budget: budget), timeout: timeout)
    }

    func release(_ bytes: Int) {
      budget.release(bytes)
      log = []
      test.context.waits.released(budget)
    }
  }

  @Test("a release wakes the oldest of each user, and the next when that one has gone on")
  func turns() throws {
    let bench = try Bench(bytesMax: 100)
    defer { bench.test.close() }
    #expect(bench.budget.reserve(100) == nil)
    bench.wait("a1", 0, 50)
    bench.wait("a2", 0, 10)
    bench.wait("b1", 1, 60)
    #expect(bench.budget.hasWaiting && bench.test.daemon.hasWaiters)
    bench.release(20)
    // Neither fits; nobody behind them is asked.
    #expect(Set(bench.log) == ["a1 finds no room", "b1 finds no room"])
    bench.release(30)
    #expect(bench.log.contains("a1"))
    #expect(!bench.log.contains("b1"))
    // 50 of 50 are taken: a2 was woken behind a1, and found no room.
    #expect(bench.log.filter { $0.hasPrefix("a") } == ["a1", "a2 finds no room"])
    bench.release(10)
    #expect(bench.log.contains("a2"))
    bench.release(60)
    #expect(bench.log == ["b1"])
    #expect(!bench.budget.hasWaiting && !bench.test.daemon.hasWaiters)
    #expect(bench.waiters.values.allSatisfy { !$0.isWaiting && !$0.isTimed })
  }

  @Test("who finds no room again stays before those who came later")
  func place() throws {
    let bench = try Bench(bytesMax: 100)
    defer { bench.test.close() }
    #expect(bench.budget.reserve(100) == nil)
    for (name, bytes) in [("first", 40), ("second", 5), ("third", 5)] { bench.wait(name, 0, bytes) }
    for _ in 0..<3 {
      bench.release(10)
      #expect(bench.log == ["first finds no room"])
    }
    bench.release(20)
    #expect(bench.log == ["first", "second", "third"])
  }

  @Test("who has waited for too long is told where there was no room, and waits no longer")
  func timeouts() throws {
    let bench = try Bench(bytesMax: 100)
    defer { bench.test.close() }
    #expect(bench.budget.reserve(100) == nil)
    bench.wait("late", 0, 50, timeout: 5_000_000)
    bench.release(10)
    #expect(bench.log == ["late finds no room"])
    bench.log = []
    #expect(bench.test.run())
    #expect(
      bench.log == ["late: a test has 90 bytes in flight, the limit is 100 (limits.test)"])
    #expect(!bench.budget.hasWaiting && !bench.test.daemon.hasWaiters)
    bench.release(90)
    #expect(bench.log.isEmpty)
  }

  @Test(
    "whoever leaves, in whatever order, the others are woken in theirs and nobody stays counted")
  func cancels() throws {
    var numbers = Numbers(seed)
    for _ in 0..<50 {
      let bench = try Bench(bytesMax: 100)
      defer { bench.test.close() }
      #expect(bench.budget.reserve(100) == nil)
      let names = (0..<12).map { "w\($0)" }
      for name in names { bench.wait(name, 0, 1) }
      var left = names
      for name in names.shuffled(using: &numbers).prefix(Int.random(in: 0...12, using: &numbers)) {
        if let waiter = bench.waiters[name] { bench.test.context.waits.cancel(waiter) }
        left.removeAll { $0 == name }
      }
      bench.release(50)
      #expect(bench.log == left, "LOSSD_SEED=\(seed)")
      #expect(!bench.budget.hasWaiting && !bench.test.daemon.hasWaiters)
    }
  }
}

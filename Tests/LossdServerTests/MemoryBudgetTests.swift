import Glibc
import LossdThreads
import Synchronization
import Testing

@testable import LossdServer

@Suite struct MemoryBudgetTests {
  /// Counts the budgets that tell of a release.
  private final class Told: Sendable {
    let count = Atomic<Int>(0)
  }

  @Test("bytes are counted in every budget above, or in none")
  func all() {
    let daemon = budget(100)
    let user = budget(80, within: daemon)
    let other = budget(80, within: daemon)
    let connection = budget(60, within: user)
    #expect(connection.reserve(50) == nil)
    #expect([connection, user, daemon].map(\.bytesInFlight) == [50, 50, 50])
    #expect(connection.reserve(11)?.budget === connection)
    #expect(other.reserve(51)?.budget === daemon)
    #expect(user.reserve(31)?.budget === user)
    #expect([connection, user, other, daemon].map(\.bytesInFlight) == [50, 50, 0, 50])
    #expect(other.reserve(50) == nil)
    #expect(connection.reserve(1)?.budget === daemon)
    connection.release(50)
    other.release(50)
    #expect([connection, user, other, daemon].map(\.bytesInFlight) == [0, 0, 0, 0])
  }

  @Test("a size near the largest number is refused and wraps nothing")
  func huge() {
    let daemon = budget(1 << 40)
    let connection = budget(1 << 30, within: daemon)
    #expect(connection.reserve(5) == nil)
    for bytes in [Int.max, Int.max - 5, 1 << 62] {
      #expect(connection.reserve(bytes)?.budget === connection)
      #expect(connection.tooSmall(for: bytes) === connection)
    }
    #expect(connection.tooSmall(for: 1 << 30) == nil)
    #expect(connection.bytesInFlight == 5 && daemon.bytesInFlight == 5)
  }

  @Test("a refusal names who, how much, the limit and its setting")
  func text() {
    let budget = MemoryBudget(bytesMax: 6, setting: "limits.user_bytes", owner: "user uid 1000") {
      _ in
    }
    #expect(budget.reserve(5) == nil)
    #expect(
      budget.reserve(2)?.text
        == "user uid 1000 has 5 bytes in flight, the limit is 6 (limits.user_bytes)")
  }

  @Test("a release is told while somebody waits, and once until it has been taken notice of")
  func releases() {
    let told = Told()
    let budget = MemoryBudget(bytesMax: 10, setting: "", owner: "") { _ in
      told.count.add(1, ordering: .relaxed)
    }
    var count: Int { told.count.load(ordering: .relaxed) }
    #expect(budget.reserve(10) == nil)
    budget.release(1)
    #expect(count == 0)
    budget.beginWaiting()
    budget.release(1)
    budget.release(1)
    #expect(count == 1)
    budget.takeRelease()
    budget.release(0)
    #expect(count == 1)
    budget.release(1)
    #expect(count == 2)
    budget.takeRelease()
    budget.setBytesMax(20)
    #expect(count == 3)
    budget.takeRelease()
    budget.setBytesMax(20)
    #expect(count == 3)
    budget.endWaiting()
    budget.release(1)
    #expect(count == 3)
  }

  @Test("whoever waits above is seen from below")
  func waiting() {
    let daemon = budget(10)
    let user = budget(10, within: daemon)
    #expect(!user.hasWaiting)
    daemon.beginWaiting()
    #expect(user.hasWaiting && daemon.hasWaiting)
    daemon.endWaiting()
    user.beginWaiting()
    #expect(user.hasWaiting && !daemon.hasWaiting)
  }

  @Test("threads at the limit never hold more than it together, and leave nothing behind")
  func threads() {
    let daemon = budget(1000)
    let budgets = (0..<4).map { _ in budget(600, within: daemon) }
    let state = Threads(budgets: budgets)
    for index in 0..<4 { startThread { state.work(index) } }
    while state.running.load(ordering: .acquiring) > 0 { usleep(1000) }
    let isOver = state.isOver.load(ordering: .relaxed)
    #expect(!isOver)
    #expect(daemon.bytesInFlight == 0 && budgets.allSatisfy { $0.bytesInFlight == 0 })
  }

  private final class Threads: Sendable {
    let budgets: [MemoryBudget]
    let running = Atomic<Int>(4)
    let held = Atomic<Int>(0)
    let isOver = Atomic<Bool>(false)
    init(budgets: [MemoryBudget]) { self.budgets = budgets }

    func work(_ index: Int) {
      for step in 0..<20_000 {
        let bytes = (step * 7 + index * 13) % 400
        if budgets[index].reserve(bytes) != nil { continue }
        if held.add(bytes, ordering: .relaxed).newValue > 1000 {
          isOver.store(true, ordering: .relaxed)
        }
        held.subtract(bytes, ordering: .relaxed)
        budgets[index].release(bytes)
      }
      running.subtract(1, ordering: .releasing)
    }
  }
}

import LossdTensor
import Testing

@testable import LossdEngine

/// Who is next of the calls that wait.
@Suite struct FairQueueTests {
  private var queue = FairQueue()

  /// Takes the next call out, and says which of `calls` it is; nil: nobody waits.
  private mutating func next(of calls: [Evaluation]) -> Int? {
    queue.next().map { next in calls.firstIndex { $0 === next } ?? -1 }
  }

  private mutating func rest(of calls: [Evaluation]) -> [Int] {
    var order: [Int] = []
    while let index = next(of: calls) { order.append(index) }
    return order
  }

  @Test("users take turns, then the groups of a user, then the calls of a group")
  mutating func turns() throws {
    let calls = try Idle.calls(7)
    let (many, one) = (WorkUser(), WorkUser())
    let (left, right, alone) = (
      WorkGroup(user: many), WorkGroup(user: many), WorkGroup(user: one)
    )
    for (index, group) in [left, left, left, right, right, alone, alone].enumerated() {
      queue.append(calls[index], group)
    }
    #expect(rest(of: calls) == [0, 5, 3, 6, 1, 4, 2])
  }

  @Test("a call that goes on has its next turn after those of everybody else, of whatever weight")
  mutating func goingOn() throws {
    let calls = try Idle.calls(4)
    let users = (WorkUser(), WorkUser())
    // One user with three connections has as much as one with a single connection.
    let groups = (0..<3).map { _ in WorkGroup(user: users.0) } + [WorkGroup(user: users.1)]
    for (call, group) in zip(calls, groups) { queue.append(call, group) }
    var turns = [0, 0, 0, 0]
    for _ in 0..<600 {
      let index = try #require(next(of: calls))
      turns[index] += 1
      queue.append(calls[index], groups[index])
    }
    #expect(turns == [100, 100, 100, 300])
    #expect(rest(of: calls).sorted() == [0, 1, 2, 3])
  }

  @Test("a user without calls leaves, and comes back behind the others")
  mutating func leaving() throws {
    let calls = try Idle.calls(3)
    let groups = calls.map { _ in WorkGroup() }
    queue.append(calls[0], groups[0])
    queue.append(calls[1], groups[1])
    #expect(next(of: calls) == 0)
    queue.append(calls[2], groups[2])
    queue.append(calls[0], groups[0])
    #expect(rest(of: calls) == [1, 2, 0])
    #expect(queue.next() == nil)
  }

  @Test("a call that is removed has no turn, and its group and user have none for it")
  mutating func removal() throws {
    let calls = try Idle.calls(5)
    let user = WorkUser()
    let groups = [WorkGroup(user: user), WorkGroup(user: user), WorkGroup()]
    let place = [0, 0, 0, 1, 2]
    for removed in 0..<5 {
      for index in 0..<5 { queue.append(calls[index], groups[place[index]]) }
      queue.remove(calls[removed], groups[place[removed]])
      // A second time nothing happens.
      queue.remove(calls[removed], groups[place[removed]])
      let expected = [
        [1, 4, 3, 2], [0, 4, 3, 2], [0, 4, 3, 1], [0, 4, 1, 2], [0, 3, 1, 2],
      ]
      #expect(rest(of: calls) == expected[removed])
    }
  }

  @Test("a call that is only to end has the next turn, and one only")
  mutating func hurry() throws {
    let calls = try Idle.calls(100)
    let user = WorkUser()
    let groups = (0..<10).map { _ in WorkGroup(user: user) }
    for (index, call) in calls.enumerated() { queue.append(call, groups[index % 10]) }
    queue.hurry(calls[99], groups[9])
    queue.hurry(calls[99], groups[9])
    // Not one that does not wait.
    queue.hurry(try Idle.calls(1)[0], groups[9])
    #expect(next(of: calls) == 99)
    queue.hurry(calls[99], groups[9])
    queue.hurry(calls[98], groups[8])
    queue.remove(calls[98], groups[8])
    queue.append(calls[98], groups[8])
    #expect(rest(of: calls) == Array(0..<99))
  }

  @Test("nothing is left of calls that were removed or hurried, however many")
  mutating func noGrowth() throws {
    weak var call: Evaluation?
    weak var group: WorkGroup?
    weak var user: WorkUser?
    let staying = try Idle.calls(1)
    let stayingGroup = WorkGroup()
    queue.append(staying[0], stayingGroup)
    do {
      let leaving = try Idle.calls(1)[0]
      let leavingGroup = WorkGroup()
      (call, group, user) = (leaving, leavingGroup, leavingGroup.user)
      for round in 0..<1000 {
        queue.append(leaving, leavingGroup)
        if round % 2 == 0 { queue.hurry(leaving, leavingGroup) }
        queue.remove(leaving, leavingGroup)
      }
      #expect(!leaving.links.isQueued && !leavingGroup.links.isQueued)
    }
    #expect(call == nil && group == nil && user == nil)
    #expect(rest(of: staying) == [0])
  }

  @Test("what waits is kept until its turn")
  mutating func keeping() throws {
    weak var user: WorkUser?
    do {
      let group = WorkGroup()
      user = group.user
      queue.append(try Idle.calls(1)[0], group)
    }
    #expect(user != nil)
    #expect(queue.next() != nil)
    #expect(user == nil)
  }

  @Test("calls that wait cost the queue no more where there are many of them")
  func many() throws {
    func nanoseconds(_ count: Int) throws -> Double {
      var queue = FairQueue()
      let group = WorkGroup()
      let calls = try Idle.calls(count)
      let start = Clock.now
      for call in calls { queue.append(call, group) }
      for call in calls.dropFirst().reversed() { queue.remove(call, group) }
      #expect(queue.next() === calls.first)
      #expect(queue.next() == nil)
      return Double(Clock.now - start) / Double(count)
    }
    let few = try nanoseconds(1000)
    let many = try nanoseconds(30_000)
    // Linear work a call would be thirty times as much.
    #expect(many < 10 * few + 2000, "\(few) and \(many) ns a call")
  }
}

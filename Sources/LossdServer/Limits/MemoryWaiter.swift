import LossdEngine

/// Who waits for memory: a call, or a connection that is about to read a payload. Confined to its
/// loop's thread.
final class MemoryWaiter {
  /// Tries to reserve again. Where there is still no room, it calls `WaitQueue.wait` anew.
  fileprivate let onRelease: () -> Void
  /// The time to wait is over. The text says which budget had no room.
  fileprivate let onTimeout: (String) -> Void
  fileprivate var entry: DeadlineEntry?
  /// The budget that had no room; nil: the waiter does not wait.
  fileprivate(set) var shortage: Shortage?
  fileprivate var list: WaiterList?
  fileprivate var next: MemoryWaiter?
  fileprivate unowned(unsafe) var previous: MemoryWaiter?

  init(onRelease: @escaping () -> Void, onTimeout: @escaping (String) -> Void) {
    self.onRelease = onRelease
    self.onTimeout = onTimeout
  }

  var isWaiting: Bool { shortage != nil }
  /// The waiter's time runs: it waits, or is trying again.
  var isTimed: Bool { entry != nil }
}

/// The waiters of one user for one budget, the oldest first.
private final class WaiterList {
  /// The user.
  let user: ObjectIdentifier
  var first: MemoryWaiter?
  unowned(unsafe) var last: MemoryWaiter?

  init(_ user: ObjectIdentifier) { self.user = user }

  func append(_ waiter: MemoryWaiter) {
    waiter.previous = last
    if let last { last.next = waiter } else { first = waiter }
    last = waiter
    waiter.list = self
  }

  func prepend(_ waiter: MemoryWaiter) {
    waiter.next = first
    if let first { first.previous = waiter } else { last = waiter }
    first = waiter
    waiter.list = self
  }

  func remove(_ waiter: MemoryWaiter) {
    if let previous = waiter.previous { previous.next = waiter.next } else { first = waiter.next }
    if let next = waiter.next { next.previous = waiter.previous } else { last = waiter.previous }
    waiter.next = nil
    waiter.previous = nil
    waiter.list = nil
  }
}

/// All waiters of a loop. A release of a budget wakes the oldest waiter of each user, and the next
/// one of the same user only when that one has gone on. So a release costs as much as there are
/// waiting users and calls that can go on. Confined to its loop's thread.
final class WaitQueue {
  /// A budget without room, and its waiters.
  private final class Line {
    let budget: MemoryBudget
    var lists: [ObjectIdentifier: WaiterList] = [:]
    init(_ budget: MemoryBudget) { self.budget = budget }
  }

  private let deadlines: DeadlineQueue
  private let daemon: DaemonState
  private var lines: [ObjectIdentifier: Line] = [:]
  /// The waiter that is trying again. Where it finds no room, it keeps its place in the line.
  private unowned(unsafe) var resuming: MemoryWaiter?

  init(_ deadlines: DeadlineQueue, _ daemon: DaemonState) {
    self.deadlines = deadlines
    self.daemon = daemon
  }

  /// Puts a waiter of `user` into the line of the budget that has no room. From then on a release
  /// of that budget calls `LoopContext.memoryReleased`. The caller then tries once more, so that no
  /// release in between is missed. `timeout`: nanoseconds, counted from the first call for this
  /// waiter.
  func wait(_ waiter: MemoryWaiter, _ user: User, _ shortage: Shortage, timeout: UInt64) {
    deadlines.assertConfined()
    if let present = waiter.shortage {
      if present.budget === shortage.budget { return }
      remove(waiter, present.budget)
    }
    waiter.shortage = shortage
    let line = lines[ObjectIdentifier(shortage.budget)] ?? Line(shortage.budget)
    lines[ObjectIdentifier(shortage.budget)] = line
    let list = line.lists[ObjectIdentifier(user)] ?? WaiterList(ObjectIdentifier(user))
    line.lists[ObjectIdentifier(user)] = list
    if resuming === waiter { list.prepend(waiter) } else { list.append(waiter) }
    shortage.budget.beginWaiting()
    daemon.waiterBegan()
    guard waiter.entry == nil else { return }
    let entry = DeadlineEntry { [unowned self, unowned waiter] in
      let text = waiter.shortage?.text ?? "no memory"
      cancel(waiter)
      waiter.onTimeout(text)
    }
    waiter.entry = entry
    deadlines.set(entry, at: Clock.now &+ timeout)
  }

  /// The waiter has its memory, or does not want memory any more.
  func cancel(_ waiter: MemoryWaiter) {
    if let entry = waiter.entry.take() { deadlines.cancel(entry) }
    guard let shortage = waiter.shortage.take() else { return }
    remove(waiter, shortage.budget)
  }

  private func remove(_ waiter: MemoryWaiter, _ budget: MemoryBudget) {
    guard let list = waiter.list else { return }
    list.remove(waiter)
    budget.endWaiting()
    daemon.waiterEnded()
    if let line = lines[ObjectIdentifier(budget)] { forget(list, in: line) }
  }

  /// Drops a list without waiters, and its line when that has no list left.
  private func forget(_ list: WaiterList, in line: Line) {
    guard list.first == nil, line.lists[list.user] === list else { return }
    line.lists[list.user] = nil
    let key = ObjectIdentifier(line.budget)
    if line.lists.isEmpty && lines[key] === line { lines[key] = nil }
  }

  /// Memory of this budget has been released.
  func released(_ budget: MemoryBudget) {
    deadlines.assertConfined()
    guard let line = lines[ObjectIdentifier(budget)] else { return }
    for list in line.lists.values {
      while let waiter = list.first {
        list.remove(waiter)
        budget.endWaiting()
        daemon.waiterEnded()
        waiter.shortage = nil
        resuming = waiter
        waiter.onRelease()
        resuming = nil
        if waiter.shortage == nil, let entry = waiter.entry.take() { deadlines.cancel(entry) }
        // The waiter found no room again: the ones behind it stay where they are.
        if list.first === waiter { break }
      }
      forget(list, in: line)
    }
  }
}

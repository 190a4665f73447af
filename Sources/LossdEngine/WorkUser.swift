/// Somebody whose calls share the workers with everybody else's: a user of the machine, say. Users
/// take turns, then the groups of a user, then the calls of a group: many connections are no larger
/// share.
///
/// `@unchecked Sendable`: all of it belongs to the scheduler's lock.
public final class WorkUser: @unchecked Sendable {
  fileprivate var groups = Turns<WorkGroup>()
  fileprivate var isQueued = false
  public init() {}
}

/// The calls of one connection that wait for workers.
///
/// `@unchecked Sendable`: all of it belongs to the scheduler's lock.
public final class WorkGroup: @unchecked Sendable {
  public let user: WorkUser
  fileprivate var calls = Turns<Waiting>()
  fileprivate var isQueued = false

  /// A group of `user`'s, by default of one who has no other.
  public init(user: WorkUser = WorkUser()) { self.user = user }
}

/// A call's place in its group; it counts as long as the call has the same ticket.
private struct Waiting {
  var call: Evaluation
  var ticket: UInt64
}

/// Calls in turn: user by user, within one group by group, within one call by call. Every step
/// takes the same time however many wait. Belongs to the scheduler's lock.
struct WorkQueue {
  private var users = Turns<WorkUser>()
  /// Calls that are only to end, before all others: each takes a worker microseconds.
  private var ending = Turns<(Waiting, WorkGroup)>()
  private var tickets: UInt64 = 0

  /// The call waits behind the others of its group; not one that waits already.
  mutating func append(_ call: Evaluation, _ group: WorkGroup) {
    tickets &+= 1
    call.ticket = tickets
    group.calls.append(Waiting(call: call, ticket: tickets))
    let user = group.user
    if !group.isQueued {
      group.isQueued = true
      user.groups.append(group)
    }
    if !user.isQueued {
      user.isQueued = true
      users.append(user)
    }
  }

  /// A call that waits gets the next turn, since it is only to end. Nothing where it does not wait.
  mutating func hurry(_ call: Evaluation, _ group: WorkGroup) {
    if call.ticket == 0 { return }
    tickets &+= 1
    call.ticket = tickets
    ending.append((Waiting(call: call, ticket: tickets), group))
  }

  /// The call waits no more, if it did: its place is skipped when its turn comes.
  mutating func remove(_ call: Evaluation) { call.ticket = 0 }

  /// Takes the next call in turn out. Who is not done with it appends it again.
  mutating func next() -> (Evaluation, WorkGroup)? {
    while let (waiting, group) = ending.popFirst() {
      if let call = take(waiting) { return (call, group) }
    }
    while let user = users.popFirst() {
      while let group = user.groups.popFirst() {
        let call = nextCall(of: group)
        group.isQueued = !group.calls.isEmpty
        if group.isQueued { user.groups.append(group) }
        guard let call else { continue }
        user.isQueued = !user.groups.isEmpty
        if user.isQueued { users.append(user) }
        return (call, group)
      }
      user.isQueued = false
    }
    return nil
  }

  private func nextCall(of group: WorkGroup) -> Evaluation? {
    while let waiting = group.calls.popFirst() {
      if let call = take(waiting) { return call }
    }
    return nil
  }

  private func take(_ waiting: Waiting) -> Evaluation? {
    guard waiting.call.ticket == waiting.ticket else { return nil }
    waiting.call.ticket = 0
    return waiting.call
  }
}

/// A queue in an array: each step takes the same time, on average.
private struct Turns<Element> {
  private var elements: [Element?] = []
  private var first = 0

  var isEmpty: Bool { first == elements.count }

  mutating func append(_ element: Element) { elements.append(element) }

  mutating func popFirst() -> Element? {
    guard first < elements.count else { return nil }
    let element = elements[first]
    elements[first] = nil
    first += 1
    if first == elements.count {
      elements.removeAll(keepingCapacity: elements.capacity <= Turns.keptMax)
      first = 0
    } else if first > Turns.keptMax && first > elements.count / 2 {
      // What is moved is less than what has been taken out since the last time.
      elements.removeFirst(first)
      first = 0
    }
    return element
  }

  private static var keptMax: Int { 64 }
}

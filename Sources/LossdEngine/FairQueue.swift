/// Somebody whose calls share the workers with everybody else's: a user of the machine, say. Users
/// take turns, then the groups of a user, then the calls of a group: many connections are no larger
/// share.
///
/// `@unchecked Sendable`: everything in it belongs to the `FairQueue` that it waits in.
public final class WorkUser: Queued, @unchecked Sendable {
  fileprivate var groups = Line<WorkGroup>()
  var links = Links<WorkUser>()
  public init() {}
}

/// The calls of one connection that wait for workers.
///
/// `@unchecked Sendable`: everything mutable belongs to the `FairQueue` that it waits in.
public final class WorkGroup: Queued, @unchecked Sendable {
  public let user: WorkUser
  fileprivate var calls = Line<Evaluation>()
  var links = Links<WorkGroup>()

  /// A group of `user`'s, by default of one who has no other.
  public init(user: WorkUser = WorkUser()) { self.user = user }
}

/// Calls that wait, and who of them is next: user by user, within a user group by group, within a
/// group call by call. All have the same weight. Every step takes the same time however many wait,
/// and allocates nothing.
///
/// It keeps what waits alive. It knows no thread, lock or clock: its owner calls it from one thread
/// at a time. Before the owner lets go of it, the owner empties it with `next`: a group that waits
/// and its user refer to each other.
struct FairQueue {
  private var users = Line<WorkUser>()
  /// Calls that only have to end, before all others: each takes a worker microseconds.
  private var ending = Line<Evaluation>()

  /// The call waits behind the others of its group. It must not wait already.
  mutating func append(_ call: Evaluation, _ group: WorkGroup) {
    group.calls.append(call)
    if group.links.isQueued { return }
    let user = group.user
    user.groups.append(group)
    if !user.links.isQueued { users.append(user) }
  }

  /// A call that waits gets the next turn, since it only has to end. Nothing happens to one that
  /// does not wait.
  mutating func hurry(_ call: Evaluation, _ group: WorkGroup) {
    if !call.links.isQueued || call.isEnding { return }
    // The line's own reference ends here.
    withExtendedLifetime(call) {
      remove(call, group)
      call.isEnding = true
      ending.append(call)
    }
  }

  /// The call waits no more, if it did. A group without calls leaves, and so does a user without
  /// groups.
  mutating func remove(_ call: Evaluation, _ group: WorkGroup) {
    if !call.links.isQueued { return }
    if call.isEnding {
      call.isEnding = false
      return ending.remove(call)
    }
    group.calls.remove(call)
    if !group.calls.isEmpty { return }
    let user = group.user
    user.groups.remove(group)
    if user.groups.isEmpty { users.remove(user) }
  }

  /// Takes the next call in turn out. A caller that is not done with the call appends it again.
  mutating func next() -> Evaluation? {
    if let call = ending.popFirst() {
      call.isEnding = false
      return call
    }
    // Who waits has something that waits.
    guard let user = users.popFirst(), let group = user.groups.popFirst() else { return nil }
    let call = group.calls.popFirst()
    if !group.calls.isEmpty { user.groups.append(group) }
    if !user.groups.isEmpty { users.append(user) }
    return call
  }
}

/// An element's neighbours in its line. Not counted: the line counts each of its elements once.
struct Links<Element: AnyObject> {
  fileprivate(set) var isQueued = false
  fileprivate var next: Unmanaged<Element>?
  fileprivate var previous: Unmanaged<Element>?
}

/// What may stand in one line at a time.
protocol Queued: AnyObject {
  var links: Links<Self> { get set }
}

/// A queue that is linked through its elements. Appending and taking out allocate nothing.
private struct Line<Element: Queued> {
  private var first: Unmanaged<Element>?
  private var last: Unmanaged<Element>?

  var isEmpty: Bool { first == nil }

  mutating func append(_ element: Element) {
    assert(!element.links.isQueued)
    let added = Unmanaged.passRetained(element)
    element.links.isQueued = true
    element.links.previous = last
    if let last {
      last._withUnsafeGuaranteedRef { $0.links.next = added }
    } else {
      first = added
    }
    last = added
  }

  /// The element stands in this line.
  mutating func remove(_ element: Element) {
    unlink(element)
    Unmanaged.passUnretained(element).release()
  }

  mutating func popFirst() -> Element? {
    guard let element = first?.takeRetainedValue() else { return nil }
    unlink(element)
    return element
  }

  private mutating func unlink(_ element: Element) {
    let (next, previous) = (element.links.next, element.links.previous)
    if let previous {
      previous._withUnsafeGuaranteedRef { $0.links.next = next }
    } else {
      first = next
    }
    if let next {
      next._withUnsafeGuaranteedRef { $0.links.previous = previous }
    } else {
      last = previous
    }
    element.links = Links()
  }
}

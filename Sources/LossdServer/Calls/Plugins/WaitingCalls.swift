import LossdEngine

/// The calls that wait for a plugin's processes: users in turn, each user's calls in the order in
/// which they came, so that nobody waits for all that another user has asked for. A call that is
/// taken is let go of at once: it holds its request's memory. Confined to the loop's thread.
struct WaitingCalls {
  /// One user's calls.
  private struct Line {
    /// A line with fewer places is not made shorter.
    private static let placesMin = 64

    let user: WorkUser
    /// nil: the call has been taken. Such places stay until they are more than half of all.
    private var calls: [ForeignCall?] = []
    /// The place of the first call.
    private var begin = 0
    /// What a call's number is above its place.
    private var shift = 0
    private(set) var waiting = 0

    init(_ user: WorkUser) { self.user = user }

    mutating func append(_ call: ForeignCall) {
      calls.append(call)
      noteWaiting(calls.count - 1)
    }

    mutating func putFirst(_ call: ForeignCall) {
      if begin == 0 {
        calls.insert(nil, at: 0)
        shift -= 1
      } else {
        begin -= 1
      }
      calls[begin] = call
      noteWaiting(begin)
    }

    private mutating func noteWaiting(_ place: Int) {
      calls[place]?.waitingNumber = place + shift
      waiting += 1
    }

    /// The first call that `isWanted`.
    func first(where isWanted: (ForeignCall) -> Bool) -> ForeignCall? {
      for place in begin..<calls.count {
        if let call = calls[place], isWanted(call) { return call }
      }
      return nil
    }

    /// Takes a call out; false where it does not wait here.
    mutating func take(_ call: ForeignCall) -> Bool {
      guard let number = call.waitingNumber, calls.indices.contains(number - shift),
        calls[number - shift] === call
      else { return false }
      call.waitingNumber = nil
      calls[number - shift] = nil
      waiting -= 1
      while begin < calls.count, calls[begin] == nil { begin += 1 }
      if calls.count > Line.placesMin && waiting < calls.count / 2 { shorten() }
      return true
    }

    private mutating func shorten() {
      calls.removeAll { $0 == nil }
      begin = 0
      shift = 0
      for place in calls.indices { calls[place]?.waitingNumber = place }
    }

    mutating func takeAll() -> [ForeignCall] {
      let all = calls.compactMap { $0 }
      for call in all { call.waitingNumber = nil }
      calls.removeAll()
      return all
    }
  }

  /// The user whose turn is next comes first. No line is empty.
  private var lines: [Line] = []

  var isEmpty: Bool { lines.isEmpty }

  mutating func append(_ call: ForeignCall) {
    let user = call.group.user
    if let index = lines.firstIndex(where: { $0.user === user }) {
      lines[index].append(call)
    } else {
      var line = Line(user)
      line.append(call)
      lines.append(line)
    }
  }

  /// Before all others.
  mutating func putFirst(_ call: ForeignCall) {
    let user = call.group.user
    let index = lines.firstIndex { $0.user === user }
    var line = index.map { lines.remove(at: $0) } ?? Line(user)
    line.putFirst(call)
    lines.insert(line, at: 0)
  }

  /// Takes a call out of turn; false where it does not wait.
  mutating func remove(_ call: ForeignCall) -> Bool {
    guard call.waitingNumber != nil,
      let index = lines.firstIndex(where: { $0.user === call.group.user }),
      lines[index].take(call)
    else { return false }
    if lines[index].waiting == 0 { lines.remove(at: index) }
    return true
  }

  /// The next call that `isWanted`; its user is the last in turn then.
  mutating func next(where isWanted: (ForeignCall) -> Bool) -> ForeignCall? {
    for index in lines.indices {
      guard let call = lines[index].first(where: isWanted) else { continue }
      var line = lines.remove(at: index)
      _ = line.take(call)
      if line.waiting > 0 { lines.append(line) }
      return call
    }
    return nil
  }

  /// All of them, in the order of their turns by user.
  mutating func takeAll() -> [ForeignCall] {
    var calls: [ForeignCall] = []
    for index in lines.indices { calls += lines[index].takeAll() }
    lines.removeAll()
    return calls
  }
}

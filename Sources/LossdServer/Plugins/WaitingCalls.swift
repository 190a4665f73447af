import LossdEngine

/// The calls that wait for a plugin's processes: users in turn, each user's calls in the order in
/// which they came, so that nobody waits for all that another user has asked for. Confined to the
/// loop's thread.
struct WaitingCalls {
  /// One user's calls. Those that no longer wait are left in place until half of them are such.
  private struct Line {
    let user: WorkUser
    var calls: [ForeignCall] = []
    /// The first that may wait.
    var begin = 0
    var waiting = 0
  }

  /// The user whose turn is next comes first.
  private var lines: [Line] = []

  var isEmpty: Bool { lines.isEmpty }

  mutating func append(_ call: ForeignCall) {
    call.isWaiting = true
    let user = call.group.user
    if let index = lines.firstIndex(where: { $0.user === user }) {
      lines[index].calls.append(call)
      lines[index].waiting += 1
    } else {
      lines.append(Line(user: user, calls: [call], waiting: 1))
    }
  }

  /// Before all others.
  mutating func putFirst(_ call: ForeignCall) {
    call.isWaiting = true
    let user = call.group.user
    var line = Line(user: user)
    if let index = lines.firstIndex(where: { $0.user === user }) { line = lines.remove(at: index) }
    if line.begin > 0 {
      line.begin -= 1
      line.calls[line.begin] = call
    } else {
      line.calls.insert(call, at: 0)
    }
    line.waiting += 1
    lines.insert(line, at: 0)
  }

  /// Takes a call out of turn; false where it does not wait.
  mutating func remove(_ call: ForeignCall) -> Bool {
    guard call.isWaiting,
      let index = lines.firstIndex(where: { $0.user === call.group.user })
    else { return false }
    call.isWaiting = false
    lines[index].waiting -= 1
    if lines[index].waiting == 0 {
      lines.remove(at: index)
    } else if lines[index].calls.count > 64
      && lines[index].waiting < lines[index].calls.count / 2
    {
      lines[index].calls.removeFirst(lines[index].begin)
      lines[index].calls.removeAll { !$0.isWaiting }
      lines[index].begin = 0
    }
    return true
  }

  /// The next call that `isWanted`; its user is the last in turn then.
  mutating func next(where isWanted: (ForeignCall) -> Bool) -> ForeignCall? {
    for index in lines.indices {
      while !lines[index].calls[lines[index].begin].isWaiting { lines[index].begin += 1 }
      let calls = lines[index].calls[lines[index].begin...]
      guard let place = calls.firstIndex(where: { $0.isWaiting && isWanted($0) }) else { continue }
      let call = lines[index].calls[place]
      var line = lines.remove(at: index)
      // A call may come back, and is not to stand there twice.
      if place == line.begin { line.begin += 1 } else { line.calls.remove(at: place) }
      call.isWaiting = false
      line.waiting -= 1
      if line.begin > 64 && line.begin > line.calls.count / 2 {
        line.calls.removeFirst(line.begin)
        line.begin = 0
      }
      if line.waiting > 0 { lines.append(line) }
      return call
    }
    return nil
  }

  /// All of them, in the order of their turns by user.
  mutating func takeAll() -> [ForeignCall] {
    let calls = lines.flatMap { $0.calls[$0.begin...].filter(\.isWaiting) }
    for call in calls { call.isWaiting = false }
    lines.removeAll()
    return calls
  }
}

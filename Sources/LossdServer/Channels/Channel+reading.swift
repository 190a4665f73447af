import LossdEngine
import LossdLoop
import LossdSocket
import LossdTensor

// Reading, in turns: what a channel does when its descriptor is ready and its turn has come; and
// the time limits of what is read.
extension Channel {
  /// How long a channel is served in one turn, nanoseconds.
  private static let turnTime: UInt64 = 1_000_000
  /// The most bytes that one read copies.
  private static let readBytesMax = 1 << 20

  func ready(_ events: DescriptorWatcher.Events) {
    table.with { $0.noteEvent() }
    pendingEvents.formUnion(events)
    queueTurn()
  }

  /// Puts the channel into the line of its user.
  func queueTurn() { table.with { $0.turns.append(self) } }

  /// The channel's turn, for about `turnTime`. The caller keeps the channel alive.
  func serve() {
    let events = pendingEvents
    pendingEvents = []
    if phase == .closed { return }
    beginTurn()
    if events.contains(.writable) { flush() }
    if !leftover.isEmpty && mayDecode { resume() }
    if events.contains(.readable) && phase != .closed { read() }
    // The client is gone, or wants no more answers. Either way its calls are cancelled.
    if events.contains(.disconnected) && !mayRead && !isQueued { close() }
  }

  private func beginTurn() {
    turnEnd = Clock.now + Channel.turnTime
    turnMessages = 0
    isTurnCostly = false
  }

  /// Asked by the session before each message: whether it is to stop taking bytes, since the turn
  /// is over or the queued output has reached its limit.
  func pausesReading() -> Bool {
    if output.byteCount >= limits.queuedBytesMax { return true }
    turnMessages += 1
    // Reading the clock takes a few percent of the time of a small call.
    return turnMessages & (isTurnCostly ? 0 : 7) == 0 && Clock.now >= turnEnd
  }

  private var mayDecode: Bool {
    phase == .open && !isInDebt && output.byteCount < limits.queuedBytesMax
      && !(withSession { $0.isWaiting } ?? true)
  }

  var mayRead: Bool {
    switch phase {
    case .open: mayDecode && leftover.isEmpty
    case .discarding: true
    case .closed: false
    }
  }

  /// Reads what the socket has, up to a bound, so that other channels get their turns.
  private func read() {
    var rounds = 0
    while mayRead && rounds < 16 {
      rounds += 1
      if mayHoldDescriptors && !mayTakeDescriptors() { break }
      // The turn is over. The socket still has the rest when the loop looks for events again.
      if rounds > 1 && Clock.now >= turnEnd { break }
      let buffer = table.with { $0.readBuffer.bytes }
      let direct =
        phase == .open ? withSession { $0.directDestination(minimum: 16 << 10) } ?? nil : nil
      let first = direct ?? buffer
      let isPart = first.count > Channel.readBytesMax
      // Bytes that follow a payload are read together with its end.
      let second =
        direct == nil || isPart ? UnsafeMutableRawBufferPointer(start: nil, count: 0) : buffer
      let piece = UnsafeMutableRawBufferPointer(rebasing: first.prefix(Channel.readBytesMax))
      let outcome =
        isUnix
        ? receive(descriptor, piece, second, refused: refuseDescriptors)
        : receive(descriptor, piece, second)
      guard case .bytes(let count) = outcome else {
        if outcome != .wouldBlock { close() }
        break
      }
      contextReference.with { $0.metrics.update { $0.received &+= UInt64(count) } }
      if phase == .discarding { continue }
      take(count, direct: direct == nil ? nil : piece, buffer)
      if count < piece.count + second.count { break }
    }
    afterTurn()
  }

  private func take(
    _ count: Int, direct: UnsafeMutableRawBufferPointer?, _ buffer: UnsafeMutableRawBufferPointer
  ) {
    if hasSentDescriptors, let session, !session.isSniffing { return refuse(session) }
    isDecoding = true
    var rest = count
    if let direct {
      let part = min(count, direct.count)
      withSession { $0.directBytesArrived(part) }
      rest -= part
    }
    if rest > 0 && phase == .open {
      decode(UnsafeRawBufferPointer(start: buffer.baseAddress, count: rest))
    }
    isDecoding = false
  }

  private func refuse(_ session: Session) {
    session.fail("a descriptor came along, and descriptors are never taken", .invalidArgument)
  }

  /// From now on bytes are this session's.
  func speak(_ session: Session) {
    // The one before may be what calls this.
    if let before = self.session { table.object.keepToTurnEnd(before) }
    self.session = session
    session.begin()
    if hasSentDescriptors { refuse(session) }
  }

  private func decode(_ bytes: UnsafeRawBufferPointer) {
    let used = withSession { $0.take(bytes) } ?? bytes.count
    if used < bytes.count && phase == .open { leftover.append(contentsOf: bytes[used...]) }
  }

  /// Gives the session the bytes that are left over. Called when memory has been released, when a
  /// message that waited is to be dropped, or when it is the channel's turn.
  func resume() {
    guard phase == .open, !isDecoding else { return }
    if turnEnd < Clock.now { beginTurn() }
    isDecoding = true
    // The loop's spare array takes the bytes, and `decode` fills the other one with what is left,
    // so that nothing is allocated in the steady state.
    table.with { swap(&leftover, &$0.spareBytes) }
    table.object.spareBytes.withUnsafeBytes { decode($0) }
    table.with { $0.spareBytes.removeAll(keepingCapacity: true) }
    isDecoding = false
    afterTurn()
  }

  /// `resume`, once what is going on now has ended.
  func resumeLater() { table.object.resumeLater(self) }

  /// Writes what the turn has queued, and sets timers and events for what comes next.
  func afterTurn() {
    if phase == .closed { return }
    flush()
    guard phase == .open else { return }
    endIfOver()
    guard phase == .open else { return }
    settle()
    setReadTimers()
    updateWatch()
    if !leftover.isEmpty && mayDecode { queueTurn() }
  }

  func updateWatch() {
    var events: DescriptorWatcher.Events =
      mayRead && !isPausedForCloser ? .readable : .disconnected
    if !output.isEmpty { events.insert(.writable) }
    watcher?.watch(events)
  }

  // MARK: - Time limits

  /// The connection fails so many nanoseconds from now; 0: never.
  func setStall(_ timeout: UInt64) {
    guard let stallEntry else { return }
    context.deadlines.set(stallEntry, at: timeout == 0 ? .max : Clock.now + timeout)
  }

  private func setReadTimers() {
    guard let stallEntry, let reading = withSession({ $0.reading }) else { return }
    switch reading {
    case .starting: return
    case .message(let number) where mayRead:
      // The time runs from a message's first byte to its last, so that a message may not crawl.
      if timedMessage == number && stallEntry.isSet { return }
      timedMessage = number
      setStall(context.limits.frameTimeout)
    case .payload where mayRead: setStall(context.limits.frameTimeout)
    default:
      if withSession({ $0.hasCalls }) == false && context.limits.idleTimeout > 0 {
        setStall(context.limits.idleTimeout)
      } else if stallEntry.isSet {
        context.deadlines.cancel(stallEntry)
      }
    }
  }

  func stalled() {
    if phase == .open { session?.stalled() } else { close() }
  }
}

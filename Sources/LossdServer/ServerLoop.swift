import Glibc
import LossdEngine
import LossdLoop
import LossdSocket
import LossdTensor
import LossdWire
import Synchronization

/// One event loop of the server and its connections. Confined to its thread, but for
/// `loop.execute`.
final class ServerLoop: LoopContext, @unchecked Sendable {
  private static let spareCallsMax = 1024
  /// Refused connections that are open for a moment more, and for how long, nanoseconds.
  private static let refusedMax = 64
  private static let refusedTime: UInt64 = 250_000_000
  /// How long an inspection takes at a time, and when it goes on, nanoseconds.
  private static let inspectionTime: UInt64 = 1_000_000
  private static let inspectionPause: UInt64 = 2_000_000

  /// Where bytes are read that do not go straight to a payload's buffer: decoded before the next
  /// read.
  let readBuffer = AlignedBuffer(count: 64 << 10)
  private var connections: [UInt64: Connection] = [:]
  private var nextNumber: UInt64 = 0
  private var toFlush: [Connection] = []
  private var toResume: [Connection] = []
  let turns = TurnQueue()
  private let keepTurning: KeepTurning
  private var shares: [ObjectIdentifier: UserShare] = [:]
  private(set) var inspectionEntry: DeadlineEntry?
  /// Connections that an inspection has still to look at.
  private var toInspect: [Connection] = []
  private var spareCalls: [StreamCall] = []
  /// Until the turn ends.
  private var forgotten: [Connection] = []
  private var turnHook: TurnHook?
  private let busyPoll: BusyPoll
  /// Bytes that a connection decodes anew.
  var spareBytes: [UInt8] = []
  private var drainEntries: [DeadlineEntry] = []
  private var refused: [Int32] = []
  private var refusedEntry: DeadlineEntry?
  private var isDraining = false
  private var onDrained: (() -> Void)?

  /// `busyPoll`: see `Server.Settings`.
  init(_ loop: Loop, _ daemon: DaemonState, _ limits: ServerLimits, busyPoll: UInt64) {
    self.busyPoll = BusyPoll(loop, limit: busyPoll) { Clock.now }
    keepTurning = KeepTurning(loop)
    super.init(loop, daemon, limits)
    daemon.metrics.withLock { $0.append(metrics) }
    turnHook = TurnHook(loop) { [unowned self] in endTurn() }
    loop.keepAlive()
  }

  /// Lets the loop's handles go; afterwards it cannot run again.
  func tearDown() {
    for connection in Array(connections.values) { connection.close() }
    while !refused.isEmpty { closeOldestRefused() }
    foreign.close()
    turnHook?.close()
    busyPoll.close()
    keepTurning.close()
    deadlines.close()
  }

  /// Once a turn; lets go of what the turn may have left on its stack.
  private func endTurn() {
    turns.serve()
    // Resuming and flushing may ask for more of either.
    while !toResume.isEmpty || !toFlush.isEmpty {
      let (resuming, flushing) = (toResume, toFlush)
      toResume.removeAll(keepingCapacity: true)
      toFlush.removeAll(keepingCapacity: true)
      for connection in resuming { connection.resume() }
      for connection in flushing { connection.flushNow() }
    }
    turnEnded()
    if spareCalls.count > ServerLoop.spareCallsMax {
      Reaper.shared.drop(Array(spareCalls[ServerLoop.spareCallsMax...]))
      spareCalls.removeLast(spareCalls.count - ServerLoop.spareCallsMax)
    }
    if !forgotten.isEmpty { forgotten.removeAll() }
    keepTurning.set(!turns.isEmpty)
    // While workers compute, the processors are theirs.
    busyPoll.turnEnded { scheduler.queueDepth == 0 }
  }

  /// A connection's descriptor has become ready.
  func noteEvent() { busyPoll.noteEvent() }

  /// A connection has something to do when it is its turn.
  func turnLater(_ connection: Connection) {
    loop.assertConfined()
    turns.append(connection)
  }

  // MARK: - Connections

  /// Takes over a connection that was accepted. One that is its user's one too many is told so and
  /// closed.
  func adopt(_ raw: Int32, _ administration: Administration) {
    loop.assertConfined()
    nextNumber += 1
    let descriptor = Descriptor(adopting: raw)
    let id = UserID(peerOf: raw, connection: daemon.nextConnection())
    if case .connection = id { daemon.warnOfUnknownPeers() }
    guard let user = daemon.users.join(id, connectionsMax: limits.userConnectionsMax) else {
      daemon.connectionCount.subtract(1, ordering: .relaxed)
      metrics.update { $0.accepted += 1 }
      return refuse(descriptor, id)
    }
    let key = ObjectIdentifier(user)
    let share = shares[key] ?? UserShare(user, daemon)
    shares[key] = share
    share.connections += 1
    let connection = Connection(
      self, descriptor, number: nextNumber, administration, share)
    metrics.update {
      $0.accepted += 1
      $0.open += 1
    }
    connections[nextNumber] = connection
    do throws(LoopError) { try connection.start() } catch { connection.close() }
    if isDraining { connection.drain() }
  }

  /// Says why with GOAWAY, and closes soon: by then the client has sent its HELLO, and reads the
  /// answer.
  private func refuse(_ descriptor: consuming Descriptor, _ id: UserID) {
    let frames = OutputBuffer()
    frames.encodeFrame(hello: Connection.hello(daemon, limits, isUnix: false))
    frames.encodeFrame(
      goAway: GoAwayMessage(
        lastStreamID: 0,
        status: StatusMessage(
          StatusError(
            .resourceExhausted,
            "user \(id) has \(limits.userConnectionsMax) connections open, the most there may be "
              + "(limits.user_connections)"))))
    var vector = iovec(
      iov_base: UnsafeMutableRawPointer(mutating: frames.bytes.baseAddress),
      iov_len: frames.count)
    _ = withUnsafePointer(to: &vector) {
      send(descriptor.raw, UnsafeBufferPointer(start: $0, count: 1))
    }
    shutdownWriting(descriptor.raw)
    if refused.count >= ServerLoop.refusedMax { closeOldestRefused() }
    refused.append(descriptor.take())
    if refused.count == 1 { watchRefused() }
  }

  private func watchRefused() {
    let entry =
      refusedEntry
      ?? DeadlineEntry { [unowned self] in
        while !refused.isEmpty { closeOldestRefused() }
      }
    refusedEntry = entry
    deadlines.set(entry, at: Clock.now + ServerLoop.refusedTime)
  }

  private func closeOldestRefused() {
    if refused.isEmpty { return }
    let raw = refused.removeFirst()
    if mayHoldDescriptors(raw) {
      // What it has sent may take for ever to be closed.
      daemon.closer.close(raw, of: UserID(peerOf: raw, connection: 0))
    } else {
      _ = Glibc.close(raw)
    }
  }

  /// A connection's descriptor is closed.
  func closed(_ connection: Connection) {
    metrics.update { $0.open -= 1 }
    daemon.users.leave(connection.share.user)
    daemon.connectionCount.subtract(1, ordering: .relaxed)
  }

  /// Nothing uses a connection any more. Whoever finds that first says so: a second time does
  /// nothing.
  func forget(_ connection: Connection) {
    guard let connection = connections.removeValue(forKey: connection.number) else { return }
    forgotten.append(connection)
    leave(connection.share)
    endIfDrained()
  }

  /// A connection of this share is gone. With the last one the user's share ends.
  private func leave(_ share: UserShare) {
    assert(share.connections > 0, "a share without connections")
    share.connections -= 1
    if share.connections > 0 { return }
    share.giveBack()
    let key = ObjectIdentifier(share.user)
    if share.used == 0 && shares[key] === share { shares[key] = nil }
  }

  func flushLater(_ connection: Connection) {
    loop.assertConfined()
    toFlush.append(connection)
  }

  func resumeLater(_ connection: Connection) {
    loop.assertConfined()
    toResume.append(connection)
  }

  // MARK: - Memory

  /// Memory of a budget has been released that somebody may wait for.
  func memoryReleased(_ budget: MemoryBudget) {
    budget.takeRelease()
    waits.released(budget)
  }

  /// Somebody waits for memory, here or on another loop: from now on calls that hold memory and do
  /// not get on are looked for.
  func beginInspections() {
    let entry = inspectionEntry ?? DeadlineEntry { [unowned self] in inspect() }
    inspectionEntry = entry
    if !entry.isSet { deadlines.set(entry, at: Clock.now + limits.starveTimeout / 4) }
  }

  private func inspect() {
    guard let inspectionEntry else { return }
    guard daemon.hasWaiters else {
      toInspect.removeAll()
      return
    }
    let now = Clock.now
    if toInspect.isEmpty {
      toInspect = connections.values.filter { $0.account.hasWaiting }
    }
    // Thousands of calls may have to end: their answers take time, in which connections need their
    // turns.
    while let connection = toInspect.popLast() {
      connection.inspect(now)
      if Clock.now - now >= ServerLoop.inspectionTime { break }
    }
    let pause = toInspect.isEmpty ? limits.starveTimeout / 4 : ServerLoop.inspectionPause
    deadlines.set(inspectionEntry, at: now + pause)
  }

  // MARK: - Calls

  func takeCall() -> StreamCall {
    loop.assertConfined()
    metrics.callBegan()
    return spareCalls.popLast() ?? StreamCall(self)
  }

  /// It lives at least until the turn ends.
  func give(_ call: consuming StreamCall) {
    loop.assertConfined()
    metrics.callEnded()
    spareCalls.append(call)
  }

  // MARK: - Drain

  /// Ends every connection after its calls, within the drain's time; then calls `completion`.
  func drain(_ completion: @escaping () -> Void) {
    if isDraining { return }
    isDraining = true
    onDrained = completion
    for connection in Array(connections.values) { connection.drain() }
    // A stream needs some time for its batches under way and its Summary.
    after(limits.drainTimeout / 10 * 8) { [unowned self] in
      for connection in Array(connections.values) { connection.drainExpired(force: false) }
    }
    after(limits.drainTimeout) { [unowned self] in
      for connection in Array(connections.values) { connection.drainExpired(force: true) }
    }
    after(limits.drainTimeout + 1_000_000_000) { [unowned self] in
      for connection in Array(connections.values) { connection.close() }
    }
    endIfDrained()
  }

  private func after(_ nanoseconds: UInt64, _ action: @escaping () -> Void) {
    let entry = DeadlineEntry(action)
    drainEntries.append(entry)
    deadlines.set(entry, at: Clock.now + nanoseconds)
  }

  private func endIfDrained() {
    guard isDraining, connections.isEmpty, let completion = onDrained else { return }
    onDrained = nil
    for entry in drainEntries { deadlines.cancel(entry) }
    completion()
  }
}

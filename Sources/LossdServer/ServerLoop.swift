import Glibc
import LossdEngine
import LossdLoop
import LossdSocket
import LossdTensor
import Synchronization

/// One event loop of the server and its connections. Confined to its thread, but for `loop.execute`.
final class ServerLoop: LoopContext, @unchecked Sendable {
  private static let spareCallsMax = 1024

  /// Where bytes are read that do not go straight to a payload's buffer: decoded before the next read.
  let readBuffer = AlignedBuffer(count: 64 << 10)
  private var connections: [UInt64: Connection] = [:]
  private var nextNumber: UInt64 = 0
  private var toFlush: [Connection] = []
  private var toResume: [Connection] = []
  private var waiting: [Connection] = []
  private var spareCalls: [StreamCall] = []
  /// Until the turn ends.
  private var forgotten: [Connection] = []
  private var turnHook: TurnHook?
  private let busyPoll: BusyPoll
  private var drainEntries: [DeadlineEntry] = []
  private var isDraining = false
  private var onDrained: (() -> Void)?

  /// `busyPoll`: see `Server.Settings`.
  init(_ loop: Loop, _ daemon: DaemonState, _ limits: ServerLimits, busyPoll: UInt64) {
    self.busyPoll = BusyPoll(loop, limit: busyPoll) { Clock.now }
    super.init(loop, daemon, limits)
    daemon.metrics.withLock { $0.append(metrics) }
    turnHook = TurnHook(loop) { [unowned self] in endTurn() }
    loop.keepAlive()
  }

  /// Lets the loop's handles go; afterwards it cannot run again.
  func tearDown() {
    for connection in Array(connections.values) { connection.close() }
    foreign.close()
    turnHook?.close()
    busyPoll.close()
    deadlines.close()
  }

  /// Once a turn; lets go of what the turn may have left on its stack.
  private func endTurn() {
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
      spareCalls.removeLast(spareCalls.count - ServerLoop.spareCallsMax)
    }
    if !forgotten.isEmpty { forgotten.removeAll() }
    // While workers compute, the processors are theirs.
    busyPoll.turnEnded { scheduler.queueDepth == 0 }
  }

  /// A connection's descriptor has become ready.
  func noteEvent() { busyPoll.noteEvent() }

  // MARK: - Connections

  /// Takes over a connection that was accepted.
  func adopt(_ descriptor: Int32, _ administration: Administration) {
    nextNumber += 1
    let connection = Connection(
      self, Descriptor(adopting: descriptor), number: nextNumber, administration)
    metrics.update {
      $0.accepted += 1
      $0.open += 1
    }
    connections[nextNumber] = connection
    do throws(LoopError) { try connection.start() } catch { connection.close() }
    if isDraining { connection.drain() }
  }

  /// A connection's descriptor is closed.
  func closed(_ connection: Connection) {
    metrics.update { $0.open -= 1 }
    daemon.connectionCount.subtract(1, ordering: .relaxed)
  }

  /// Nothing uses a connection any more.
  func forget(_ connection: Connection) {
    if let connection = connections.removeValue(forKey: connection.number) {
      forgotten.append(connection)
    }
    waiting.removeAll { $0 === connection }
    endIfDrained()
  }

  func flushLater(_ connection: Connection) { toFlush.append(connection) }
  func resumeLater(_ connection: Connection) { toResume.append(connection) }

  // MARK: - Memory

  func waitForMemory(_ connection: Connection) {
    if !waiting.contains(where: { $0 === connection }) { waiting.append(connection) }
  }

  func memoryReleased() {
    let connections = waiting
    waiting.removeAll()
    for connection in connections { connection.memoryReleased() }
  }

  // MARK: - Calls

  func takeCall() -> StreamCall {
    metrics.callBegan()
    return spareCalls.popLast() ?? StreamCall(self)
  }

  /// It lives at least until the turn ends.
  func give(_ call: consuming StreamCall) {
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

import Glibc
import LossdEngine
import LossdHTTP
import LossdLoop
import LossdSocket
import LossdTensor
import LossdWire
import Synchronization

/// One event loop of the server: it binds channels, sessions and calls together. Confined to its
/// thread, but for `loop.execute`.
final class ServerLoop: CallLoop, @unchecked Sendable {
  /// Refused connections that are open for a moment more, and for how long, nanoseconds.
  private static let refusedMax = 64
  private static let refusedTime: UInt64 = 250_000_000

  private(set) lazy var channels = ChannelTable(self, busyPoll: busyPoll)
  private let busyPoll: UInt64
  let spareCalls: SpareCalls
  let spareGRPCCalls = SpareGRPCCalls()
  private var nextNumber: UInt64 = 0
  private var turnHook: TurnHook?
  private var drainEntries: [DeadlineEntry] = []
  private var refused: [Int32] = []
  private var refusedEntry: DeadlineEntry?
  private var isDraining = false
  private var onDrained: (() -> Void)?

  /// `busyPoll`: see `Server.Settings`.
  init(_ loop: Loop, _ daemon: DaemonState, _ limits: ServerLimits, busyPoll: UInt64) {
    self.busyPoll = busyPoll
    spareCalls = SpareCalls()
    super.init(loop, daemon, limits)
    channels.onEmpty = { [unowned self] in endIfDrained() }
    daemon.metrics.withLock { $0.append(metrics) }
    turnHook = TurnHook(loop) { [unowned self] in endTurn() }
    loop.keepAlive()
  }

  /// Lets the loop's handles go; afterwards it cannot run again.
  func tearDown() {
    channels.close()
    while !refused.isEmpty { closeOldestRefused() }
    foreign.close()
    turnHook?.close()
    deadlines.close()
  }

  private func endTurn() {
    channels.serveTurns()
    turnEnded()
    spareCalls.turnEnded()
    spareGRPCCalls.turnEnded()
    channels.turnEnded { scheduler.queueDepth == 0 }
  }

  override func beginInspections() { channels.beginInspections() }

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
    let channel = Channel(
      self, channels, descriptor, number: nextNumber, administration, channels.share(of: user))
    channels.add(channel)
    do throws(LoopError) { try channel.start(firstSession(channel)) } catch { channel.close() }
    if isDraining { channel.drain() }
  }

  /// What is spoken here.
  func firstSession(_ channel: Channel) -> Session {
    Sniffer(
      channel,
      [
        Sniffer.Offer(preface: Array(preface.utf8)) { [unowned self] in
          LossdSession($0, self, spareCalls)
        },
        Sniffer.Offer(preface: Array(HTTP2Connection.preface.utf8)) { [unowned self] in
          HTTP2Session($0, self, spareGRPCCalls)
        },
      ])
  }

  /// Says why with GOAWAY, and closes soon: by then the client has sent its HELLO, and reads the
  /// answer.
  private func refuse(_ descriptor: consuming Descriptor, _ id: UserID) {
    let frames = OutputBuffer()
    LossdSession.refuse(
      StatusError(
        .resourceExhausted,
        "user \(id) has \(limits.userConnectionsMax) connections open, the most there may be "
          + "(limits.user_connections)"), self, frames)
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

  // MARK: - Drain

  /// Ends every connection after its calls, within the drain's time; then calls `completion`.
  func drain(_ completion: @escaping () -> Void) {
    if isDraining { return }
    isDraining = true
    onDrained = completion
    for channel in channels.all { channel.drain() }
    // A stream needs some time for its batches under way and its Summary.
    after(limits.drainTimeout / 10 * 8) { [unowned self] in
      for channel in channels.all { channel.drainExpired(force: false) }
    }
    after(limits.drainTimeout) { [unowned self] in
      for channel in channels.all { channel.drainExpired(force: true) }
    }
    after(limits.drainTimeout + 1_000_000_000) { [unowned self] in
      for channel in channels.all { channel.close() }
    }
    endIfDrained()
  }

  private func after(_ nanoseconds: UInt64, _ action: @escaping () -> Void) {
    let entry = DeadlineEntry(action)
    drainEntries.append(entry)
    deadlines.set(entry, at: Clock.now + nanoseconds)
  }

  private func endIfDrained() {
    guard isDraining, channels.isEmpty, let completion = onDrained else { return }
    onDrained = nil
    for entry in drainEntries { deadlines.cancel(entry) }
    completion()
  }
}

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
  private(set) lazy var channels = ChannelTable(self, busyPoll: busyPoll)
  private let busyPoll: UInt64
  let spareCalls: SpareCalls
  let spareGRPCCalls = SpareGRPCCalls()
  private var nextNumber: UInt64 = 0
  private var turnHook: TurnHook?
  private var drainEntries: [DeadlineEntry] = []
  private(set) lazy var refused = RefusedConnections(self)
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
    refused.close()
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
  func adopt(
    _ raw: Int32, _ administration: Administration, _ offer: ListenerOffer = ListenerOffer()
  ) {
    loop.assertConfined()
    nextNumber += 1
    let descriptor = Descriptor(adopting: raw)
    let id = UserID(peerOf: raw, connection: daemon.nextConnection())
    if case .connection = id { daemon.warnOfUnknownPeers() }
    guard let user = daemon.users.join(id, connectionsMax: limits.userConnectionsMax) else {
      daemon.connectionCount.subtract(1, ordering: .relaxed)
      metrics.update { $0.accepted += 1 }
      return refused.add(
        descriptor, offer.protocols,
        "user \(id) has \(limits.userConnectionsMax) connections open, the most there may be "
          + "(limits.user_connections)")
    }
    let channel = Channel(
      self, channels, descriptor, number: nextNumber, administration, offer.services,
      channels.share(of: user))
    channels.add(channel)
    do throws(LoopError) { try channel.start(firstSession(channel, offer.protocols)) } catch {
      channel.close()
    }
    if isDraining { channel.drain() }
  }

  /// Finds out which of these is spoken.
  func firstSession(
    _ channel: Channel, _ protocols: [WireProtocol] = WireProtocol.allCases
  ) -> Session {
    Sniffer(channel, protocols.map(offer))
  }

  private func offer(_ spoken: WireProtocol) -> Sniffer.Offer {
    switch spoken {
    case .lossd:
      Sniffer.Offer(preface: Array(preface.utf8)) { [unowned self] in
        LossdSession($0, self, spareCalls)
      }
    case .grpc:
      Sniffer.Offer(preface: Array(HTTP2Connection.preface.utf8)) { [unowned self] in
        HTTP2Session($0, self, spareGRPCCalls)
      }
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

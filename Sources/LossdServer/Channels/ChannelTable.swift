import LossdEngine
import LossdLoop
import LossdTensor

/// The channels of one loop: which there are, whose turn it is, and who has something to write.
/// Confined to the loop's thread.
final class ChannelTable {
  /// How long an inspection takes at a time, and when it goes on, nanoseconds.
  private static let inspectionTime: UInt64 = 1_000_000
  private static let inspectionPause: UInt64 = 2_000_000

  /// The loop's context has its table, and outlives it.
  private unowned let context: LoopContext
  /// Where bytes are read that do not go straight to a payload's buffer: taken before the next
  /// read.
  let readBuffer = AlignedBuffer(count: 64 << 10)
  /// Bytes that a channel gives its session anew.
  var spareBytes: [UInt8] = []
  let turns = TurnQueue()
  private var channels: [UInt64: Channel] = [:]
  private var toFlush: [Channel] = []
  private var toResume: [Channel] = []
  private var shares: [ObjectIdentifier: UserShare] = [:]
  private(set) var inspectionEntry: DeadlineEntry?
  /// Channels that an inspection has still to look at.
  private var toInspect: [Channel] = []
  /// Until the turn ends.
  private var forgotten: [AnyObject] = []
  private let keepTurning: KeepTurning
  private let busyPoll: BusyPoll
  /// Called when there is no channel any more.
  var onEmpty: (() -> Void)?

  /// `busyPoll`: see `Server.Settings`.
  init(_ context: LoopContext, busyPoll: UInt64) {
    self.context = context
    self.busyPoll = BusyPoll(context.loop, limit: busyPoll) { Clock.now }
    keepTurning = KeepTurning(context.loop)
  }

  func close() {
    for channel in all { channel.close() }
    busyPoll.close()
    keepTurning.close()
  }

  var isEmpty: Bool { channels.isEmpty }
  var all: [Channel] { Array(channels.values) }

  // MARK: - Turns

  /// What has been asked for in this turn: turns of channels, then what they left to resume and to
  /// write.
  func serveTurns() {
    turns.serve()
    // Resuming and flushing may ask for more of either.
    while !toResume.isEmpty || !toFlush.isEmpty {
      let (resuming, flushing) = (toResume, toFlush)
      toResume.removeAll(keepingCapacity: true)
      toFlush.removeAll(keepingCapacity: true)
      for channel in resuming { channel.resume() }
      for channel in flushing { channel.flushNow() }
    }
  }

  /// Lets go of what the turn may have left on its stack. `isIdle`: nobody computes.
  func turnEnded(isIdle: () -> Bool) {
    if !forgotten.isEmpty { forgotten.removeAll() }
    keepTurning.set(!turns.isEmpty)
    // While workers compute, the processors are theirs.
    busyPoll.turnEnded(mayLook: isIdle)
  }

  /// A channel's descriptor has become ready.
  func noteEvent() { busyPoll.noteEvent() }

  func flushLater(_ channel: Channel) {
    context.loop.assertConfined()
    toFlush.append(channel)
  }

  func resumeLater(_ channel: Channel) {
    context.loop.assertConfined()
    toResume.append(channel)
  }

  // MARK: - Channels

  /// What a user has on this loop.
  func share(of user: User) -> UserShare {
    let key = ObjectIdentifier(user)
    let share = shares[key] ?? UserShare(user, context.daemon)
    shares[key] = share
    return share
  }

  /// Takes over a channel, whose user has joined.
  func add(_ channel: Channel) {
    context.loop.assertConfined()
    channel.share.connections += 1
    context.metrics.update {
      $0.accepted += 1
      $0.open += 1
    }
    channels[channel.number] = channel
  }

  /// A channel's descriptor is closed.
  func closed(_ channel: Channel) {
    context.metrics.update { $0.open -= 1 }
    context.daemon.users.leave(channel.share.user)
    context.daemon.connectionCount.subtract(1, ordering: .relaxed)
  }

  /// Nothing uses a channel any more. Whoever finds that first says so: a second time does nothing.
  func forget(_ channel: Channel) {
    guard let channel = channels.removeValue(forKey: channel.number) else { return }
    forgotten.append(channel)
    leave(channel.share)
    if channels.isEmpty { onEmpty?() }
  }

  /// Keeps an object until the turn ends: something on the stack may still use it, uncounted.
  func keepToTurnEnd(_ object: AnyObject) { forgotten.append(object) }

  /// A channel of this share is gone. With the last one the user's share ends.
  private func leave(_ share: UserShare) {
    assert(share.connections > 0, "a share without connections")
    share.connections -= 1
    if share.connections > 0 { return }
    share.giveBack()
    let key = ObjectIdentifier(share.user)
    if share.used == 0 && shares[key] === share { shares[key] = nil }
  }

  // MARK: - Inspections

  /// Looks for those that keep memory from others, as long as anybody waits for memory.
  func beginInspections() {
    let entry = inspectionEntry ?? DeadlineEntry { [unowned self] in inspect() }
    inspectionEntry = entry
    if !entry.isSet {
      context.deadlines.set(entry, at: Clock.now + context.limits.starveTimeout / 4)
    }
  }

  private func inspect() {
    guard let inspectionEntry else { return }
    guard context.daemon.hasWaiters else {
      toInspect.removeAll()
      return
    }
    let now = Clock.now
    if toInspect.isEmpty {
      toInspect = channels.values.filter { $0.account.hasWaiting }
    }
    // Thousands of calls may have to end: their answers take time, in which channels need their
    // turns.
    while let channel = toInspect.popLast() {
      channel.inspect(now)
      if Clock.now - now >= ChannelTable.inspectionTime { break }
    }
    let pause =
      toInspect.isEmpty ? context.limits.starveTimeout / 4 : ChannelTable.inspectionPause
    context.deadlines.set(inspectionEntry, at: now + pause)
  }
}

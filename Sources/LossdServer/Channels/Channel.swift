import Glibc
import LossdEngine
import LossdLoop
import LossdSocket
import LossdTensor
import LossdWire

/// One client's connection as far as no protocol is concerned: it owns the descriptor, reads into
/// what its session offers, queues and writes output, runs the time limits, keeps within memory,
/// and closes. Confined to its loop's thread.
///
/// What a channel does is in files by subject: Channel+reading, +writing, +memory and +end. A
/// property below that only one of these files changes stands under the file's name.
final class Channel: TurnTaker {
  enum Phase {
    case open
    /// The last words are on their way. What still comes is read and thrown away.
    case discarding
    case closed
  }

  /// The loop outlives its channels: it forgets the last one before it ends.
  let contextReference: Unretained<LoopContext>
  let table: Unretained<ChannelTable>
  /// Counted from the daemon's start on each loop.
  let number: UInt64
  let administration: Administration
  /// What can be called where the client has connected.
  let services: ServiceSet
  /// The connection's bytes in flight.
  let account: MemoryBudget
  let small: SmallAccount
  let group: WorkGroup
  let output = OutputQueue()
  /// As the client is told them, whatever a reload has changed since.
  let limits: ServerLimits
  /// `close` closes it; no other file does.
  let descriptor: Int32
  let isUnix: Bool
  /// Descriptors that the client has sent may lie in the socket. Closing them, by themselves or
  /// with the socket, may take for ever.
  let mayHoldDescriptors: Bool
  /// Who is at the other end, for the access log.
  private(set) lazy var peerText =
    PeerCredentials(of: descriptor).map { "uid=\($0.userID) pid=\($0.processID)" }
    ?? "peer=\(peerAddress(descriptor).map { "\($0)" } ?? "-")"

  /// Until `start` nobody speaks.
  var session: Session?

  // MARK: - Channel+reading

  var watcher: DescriptorWatcher?
  /// Bytes that the session has not taken yet: it waits for memory, or another channel has its
  /// turn.
  var leftover: [UInt8] = []
  /// The session is taking bytes.
  var isDecoding = false
  /// What the descriptor has become ready for since the channel's last turn.
  var pendingEvents: DescriptorWatcher.Events = []
  /// When the turn is over, `Clock.now`'s nanoseconds.
  var turnEnd: UInt64 = 0
  /// Messages that have begun in this turn.
  var turnMessages = 0
  /// A call of this turn takes its time on the loop: the clock is looked at after each message.
  var isTurnCostly = false
  /// The message whose time is running.
  var timedMessage: UInt64 = 0
  var stallEntry: DeadlineEntry?

  // MARK: - Channel+writing

  /// The channel stands in the loop's list of those to be written at the end of the turn.
  var isFlushWanted = false
  /// Answers queued since the last write.
  var unwrittenAnswers = 0
  /// Bytes written since the beginning.
  var written = 0
  var writeEntry: DeadlineEntry?

  // MARK: - Channel+memory

  /// Bytes of buffers that are charged to the share.
  var heldBytes = 0
  /// The user's budget has no room for these bytes: nothing is read until it has.
  var isInDebt = false
  var debtWaiter: MemoryWaiter?
  /// `written` and the time, as they were when the last inspection saw the channel get on.
  var inspectedWritten = 0
  var inspectedTime: UInt64 = 0

  // MARK: - Channel+end

  var phase = Phase.open
  /// The daemon goes down.
  var isDraining = false
  /// The client has sent descriptors, which nobody takes.
  var hasSentDescriptors = false
  /// As many descriptors of this client's user wait to be closed as may: nothing is read meanwhile.
  var isPausedForCloser = false
  var closerEntry: DeadlineEntry?

  init(
    _ context: LoopContext, _ table: ChannelTable, _ descriptor: consuming Descriptor,
    number: UInt64, _ administration: Administration, _ services: ServiceSet,
    _ share: UserShare
  ) {
    group = WorkGroup(user: share.user.work)
    contextReference = Unretained(context)
    self.table = Unretained(table)
    self.number = number
    self.administration = administration
    self.services = services
    self.descriptor = descriptor.take()
    isUnix = socketFamily(self.descriptor) == AF_UNIX
    mayHoldDescriptors = isUnix && LossdSocket.mayHoldDescriptors(self.descriptor)
    limits = context.limits
    account = MemoryBudget(
      bytesMax: limits.connectionBytesMax, setting: "limits.connection_bytes",
      owner: "the connection", parent: share.user.bytes
    ) { [loop = context.loop, bound = LoopBound(contextReference)] budget in
      loop.execute { bound.value.object.memoryReleased(budget) }
    }
    small = SmallAccount(share, account)
    super.init(share)
    stallEntry = DeadlineEntry { [unowned self] in stalled() }
    writeEntry = DeadlineEntry { [unowned self] in close() }
  }

  deinit {
    if phase != .closed { closeDescriptor() }
  }

  var context: LoopContext { contextReference.object }
  override func turn() { serve() }
  var isClosed: Bool { phase != .open }

  /// Begins to read, with a session that finds out what is spoken.
  func start(_ session: Session) throws(LoopError) {
    speak(session)
    watcher = try DescriptorWatcher(context.loop, descriptor: descriptor) { [unowned self] events in
      ready(events)
    }
    watcher?.watch(.readable)
    setStall(context.limits.helloTimeout)
  }

  /// Calls `body` with the session, uncounted.
  @inline(__always)
  func withSession<Result, Failure>(
    _ body: (Session) throws(Failure) -> Result
  ) throws(Failure) -> Result? {
    guard let session else { return nil }
    return try Unretained(session).with(body)
  }
}

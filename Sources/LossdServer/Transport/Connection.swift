import Glibc
import LossdEngine
import LossdLoop
import LossdSocket
import LossdTensor
import LossdWire

/// One client's connection: its streams, its limits, its bytes in and out. Confined to its loop's
/// thread.
///
/// What a connection does is in files by subject: Connection+turns (reading), +frames (what each
/// frame does), +writing, +memory, +regions (shared memory), +timers and +end. A property below
/// that only one of these files changes stands under the file's name.
final class Connection {
  enum Phase {
    case open
    /// A fatal GOAWAY is on its way. What still comes is read and thrown away.
    case discarding
    case closed
  }

  static let sharedMemoryFeature = "shm"

  /// The loop outlives its connections: the loop forgets the last one before the loop ends.
  let serverLoop: Unretained<ServerLoop>
  /// Counted from the daemon's start on each loop.
  let number: UInt64
  let administration: Administration
  /// What its user has on this loop.
  let share: UserShare
  /// The connection's bytes in flight.
  let account: MemoryBudget
  let small: SmallAccount
  let group: WorkGroup
  let output = OutputQueue()
  let decoder: FrameDecoder
  /// Memory of the message that is being decoded.
  let arena = MessageArena(
    retainedBytes: 16 << 10, fieldsMax: MessageArena.requestFieldsMax)
  var streams = StreamTable()
  /// As the client was told them in HELLO, whatever a reload has changed since.
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

  // MARK: - Connection+frames

  /// What the last OPEN said: most OPENs say the same.
  let lastOpen = LastOpen()
  /// The highest stream that the client has opened.
  var highestStream: UInt32 = 0
  /// The client's GOAWAY has come: the connection closes after its last call.
  var isPeerLeaving = false
  /// The most bytes that the client takes in a payload and in a message.
  var peerPayloadBytesMax = UInt64(UInt32.max)
  var peerMessageBytesMax = UInt32.max

  // MARK: - Connection+turns

  var watcher: DescriptorWatcher?
  /// Bytes that the decoder has not taken yet: it waits for memory, or another connection has its
  /// turn.
  var leftover: [UInt8] = []
  var isDecoding = false
  /// What the descriptor has become ready for since the connection's last turn.
  var pendingEvents: DescriptorWatcher.Events = []
  /// The connection stands in the line of its user: see `TurnQueue`.
  var isQueued = false
  /// The next connection in that line.
  var nextReady: Connection?
  /// When the turn is over, `Clock.now`'s nanoseconds.
  var turnEnd: UInt64 = 0
  /// Frames that have begun in this turn.
  var turnFrames = 0
  /// A call of this turn takes its time on the loop: the clock is looked at after each frame.
  var isTurnCostly = false

  // MARK: - Connection+writing

  var hasSentHello = false
  /// The connection stands in the loop's list of those to be written at the end of the turn.
  var isFlushWanted = false
  /// Answers queued since the last write.
  var unwrittenAnswers = 0
  /// Bytes written since the beginning.
  var written = 0

  // MARK: - Connection+memory

  /// Bytes of buffers that are charged to the share.
  var heldBytes = 0
  /// The user's budget has no room for these bytes: nothing is read until it has.
  var isInDebt = false
  var payloadWaiter: MemoryWaiter?
  var debtWaiter: MemoryWaiter?
  /// `written` and the time, as they were when the last inspection saw the connection get on.
  var inspectedWritten = 0
  var inspectedTime: UInt64 = 0

  // MARK: - Connection+regions

  /// Memory that the client shares, by the client's own numbers.
  var regions: [UInt64: SharedRegion] = [:]
  let regionAccount: RegionAccount
  /// The client has sent descriptors, which nobody takes.
  var hasSentDescriptors = false

  // MARK: - Connection+timers

  /// The frame whose time is running.
  var timedFrame: UInt64 = 0
  var stallEntry: DeadlineEntry?
  var writeEntry: DeadlineEntry?

  // MARK: - Connection+end

  var phase = Phase.open
  /// Streams above it never begin: what our GOAWAY said.
  var lastStream = UInt32.max
  /// As many descriptors of this client's user wait to be closed as may: nothing is read meanwhile.
  var isPausedForCloser = false
  var closerEntry: DeadlineEntry?

  init(
    _ context: ServerLoop, _ descriptor: consuming Descriptor, number: UInt64,
    _ administration: Administration, _ share: UserShare
  ) {
    self.share = share
    group = WorkGroup(user: share.user.work)
    serverLoop = Unretained(context)
    self.number = number
    self.administration = administration
    self.descriptor = descriptor.take()
    isUnix = socketFamily(self.descriptor) == AF_UNIX
    mayHoldDescriptors = isUnix && LossdSocket.mayHoldDescriptors(self.descriptor)
    limits = context.limits
    regionAccount = RegionAccount(bytesMax: limits.connectionBytesMax)
    account = MemoryBudget(
      bytesMax: limits.connectionBytesMax, setting: "limits.connection_bytes",
      owner: "the connection", parent: share.user.bytes
    ) { [loop = context.loop, bound = LoopBound(serverLoop)] budget in
      loop.execute { bound.value.object.memoryReleased(budget) }
    }
    decoder = FrameDecoder(role: .server, maxMessageBytes: limits.messageBytesMax)
    small = SmallAccount(share, account)
    payloadWaiter = MemoryWaiter(
      onRelease: { [unowned self] in resume() },
      onTimeout: { [unowned self] reason in payloadTimedOut(reason) })
    stallEntry = DeadlineEntry { [unowned self] in stalled() }
    writeEntry = DeadlineEntry { [unowned self] in close() }
  }

  deinit {
    if phase != .closed { closeDescriptor() }
  }

  var context: ServerLoop { serverLoop.object }
  var isClosed: Bool { phase != .open }

  func start() throws(LoopError) {
    watcher = try DescriptorWatcher(context.loop, descriptor: descriptor) { [unowned self] events in
      ready(events)
    }
    watcher?.watch(.readable)
    setStall(context.limits.helloTimeout)
  }
}

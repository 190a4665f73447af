import Glibc
import LossdEngine
import LossdLoop
import LossdSocket
import LossdTensor
import LossdWire

/// One client's connection: its streams, its limits, its bytes in and out. Confined to its loop's
/// thread. Frames are in Connection+frames.swift.
final class Connection {
  enum Phase {
    case open
    /// A fatal GOAWAY is on its way; what still comes is read and thrown away.
    case discarding
    case closed
  }

  static let sharedMemoryFeature = "shm"

  /// A system call costs as much as two small calls; a client that waits for all of a turn's answers loses more.
  private static let answersPerWrite = 32

  /// How long what still comes is read at the end, nanoseconds.
  private static let lastWordsTime: UInt64 = 1_000_000_000

  /// The loop outlives its connections: it forgets the last one before it ends.
  let serverLoop: Unretained<ServerLoop>
  let number: UInt64
  let administration: Administration
  let account: MemoryAccount
  let group = WorkGroup()
  let output = OutputQueue()
  let decoder: FrameDecoder
  let arena = MessageArena(retainedBytes: 16 << 10)
  var streams = StreamTable()
  /// What the last OPEN said: most say the same.
  let lastOpen = LastOpen()
  /// The highest stream that the client has opened.
  var highestStream: UInt32 = 0
  /// Streams above it never begin: what our GOAWAY said.
  var lastStream = UInt32.max
  /// The client's GOAWAY has come: it closes after its last call.
  var isPeerLeaving = false
  var hasSentHello = false
  var peerPayloadBytesMax = UInt64(UInt32.max)
  var peerMessageBytesMax = UInt32.max
  private(set) var isWaitingForMemory = false
  private(set) var phase = Phase.open

  private let descriptor: Int32
  private var watcher: DescriptorWatcher?
  private var isFlushWanted = false
  private var unwrittenAnswers = 0
  private var isDecoding = false
  /// What the decoder has not taken because it waits for memory.
  private var leftover: [UInt8] = []
  /// Those that came and that no REGION has taken yet.
  var descriptors = ReceivedDescriptors()
  let isUnix: Bool
  /// Memory that the client shares, by its own numbers.
  var regions: [UInt64: SharedRegion] = [:]
  /// Who is at the other end, for the access log.
  private(set) lazy var peerText =
    PeerCredentials(of: descriptor).map { "uid=\($0.userID) pid=\($0.processID)" }
    ?? "peer=\(peerAddress(descriptor).map { "\($0)" } ?? "-")"
  /// As the client was told them, whatever a reload has changed since.
  let limits: ServerLimits
  private var stallEntry: DeadlineEntry?
  private var writeEntry: DeadlineEntry?

  init(
    _ context: ServerLoop, _ descriptor: consuming Descriptor, number: UInt64,
    _ administration: Administration
  ) {
    serverLoop = Unretained(context)
    self.number = number
    self.administration = administration
    self.descriptor = descriptor.take()
    isUnix = socketFamily(self.descriptor) == AF_UNIX
    limits = context.limits
    account = MemoryAccount(
      bytesMax: limits.connectionBytesMax, budget: context.daemon.budget)
    decoder = FrameDecoder(role: .server, maxMessageBytes: limits.messageBytesMax)
    stallEntry = DeadlineEntry { [unowned self] in stalled() }
    writeEntry = DeadlineEntry { [unowned self] in close() }
  }

  deinit {
    if phase != .closed { _ = Glibc.close(descriptor) }
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

  // MARK: - Reading

  private func ready(_ events: DescriptorWatcher.Events) {
    serverLoop.with { $0.noteEvent() }
    // Closing must not free the connection under its own feet.
    withExtendedLifetime(self) {
      if events.contains(.writable) { flush() }
      if events.contains(.readable) && phase != .closed { read() }
      // The client is gone, or wants no more answers: either way its calls are cancelled.
      if events.contains(.disconnected) && !mayRead { close() }
    }
  }

  private var mayRead: Bool {
    switch phase {
    case .open: !decoder.isWaiting && output.byteCount < context.limits.queuedBytesMax
    case .discarding: true
    case .closed: false
    }
  }

  /// Reads what is there, up to a bound so that neighbours get their turn.
  private func read() {
    var rounds = 0
    while mayRead && rounds < 16 {
      rounds += 1
      let buffer = context.readBuffer.bytes
      let direct = phase == .open ? decoder.directDestination(minimum: 16 << 10) : nil
      let outcome: IOResult
      if let direct {
        outcome =
          isUnix
          ? receive(descriptor, direct, buffer, descriptors: &descriptors)
          : receive(descriptor, direct, buffer)
      } else {
        outcome =
          isUnix
          ? receive(descriptor, buffer, descriptors: &descriptors) : receive(descriptor, buffer)
      }
      guard case .bytes(let count) = outcome else {
        if outcome != .wouldBlock { close() }
        break
      }
      context.metrics.update { $0.received += UInt64(count) }
      if phase == .discarding { continue }
      take(count, direct: direct, buffer)
      if count < (direct?.count ?? 0) + buffer.count { break }
    }
    afterTurn()
  }

  private func take(
    _ count: Int, direct: UnsafeMutableRawBufferPointer?, _ buffer: UnsafeMutableRawBufferPointer
  ) {
    isDecoding = true
    defer { isDecoding = false }
    do throws(BadFrame) {
      if descriptors.isTruncated
        || descriptors.count > 0 && decoder.hasSeenHello && !decoder.sharedMemory
      {
        try refuseDescriptors()
      }
      var rest = count
      if let direct {
        let part = min(count, direct.count)
        try decoder.directBytesArrived(part, self)
        rest -= part
      }
      if rest > 0 {
        try decode(UnsafeRawBufferPointer(start: buffer.baseAddress, count: rest))
      }
    } catch {
      isDecoding = false
      fail(error)
    }
  }

  /// A read ends with the bytes that a descriptor was sent with: when they have been decoded, its REGION has come
  /// or is under way, or it has none.
  private func checkDescriptors() throws(BadFrame) {
    if descriptors.count == 0 || !leftover.isEmpty { return }
    let mayBeRegion = decoder.currentHeader.map { $0.type == .region } ?? true
    if !(decoder.isMidFrame && mayBeRegion) { try refuseDescriptors() }
  }

  private func refuseDescriptors() throws(BadFrame) {
    descriptors.removeAll()
    throw BadFrame("a descriptor came along with a frame that takes none")
  }

  private func decode(_ bytes: UnsafeRawBufferPointer) throws(BadFrame) {
    let used = try decoder.decode(bytes, self)
    if used < bytes.count { leftover = Array(bytes[used...]) }
    if decoder.hasReadPreface { sendHello() }
    try checkDescriptors()
  }

  /// The decoder may go on: memory has been released, or the frame that waited is to be dropped.
  func resume() {
    guard phase == .open, !isDecoding else { return }
    isWaitingForMemory = false
    isDecoding = true
    do throws(BadFrame) {
      let bytes = leftover
      leftover = []
      var failure: BadFrame?
      bytes.withUnsafeBytes { bytes in
        do throws(BadFrame) { try decode(bytes) } catch { failure = error }
      }
      isDecoding = false
      if let failure { throw failure }
    } catch {
      isDecoding = false
      fail(error)
    }
    afterTurn()
  }

  /// Writes what the turn has produced, and watches for what comes next.
  func afterTurn() {
    if phase == .closed { return }
    flush()
    guard phase == .open else { return }
    endIfIdle()
    guard phase == .open else { return }
    setReadTimers()
    updateWatch()
  }

  private func updateWatch() {
    var events: DescriptorWatcher.Events = mayRead ? .readable : .disconnected
    if !output.isEmpty { events.insert(.writable) }
    watcher?.watch(events)
  }

  // MARK: - Writing

  /// Something was queued: it is written at the end of the turn.
  func wantsFlush() {
    if isDecoding { return flushSome() }
    if isFlushWanted { return }
    isFlushWanted = true
    serverLoop.with { $0.flushLater(self) }
  }

  func flushNow() {
    isFlushWanted = false
    afterTurn()
  }

  /// In the middle of a turn with many calls: the client can work on the first answers while the others are made.
  private func flushSome() {
    unwrittenAnswers += 1
    guard unwrittenAnswers >= Connection.answersPerWrite, phase == .open else { return }
    unwrittenAnswers = 0
    var written = 0
    // Where it fails, so does the write at the end of the turn.
    _ = output.flush(descriptor, written: &written)
    if written > 0 { serverLoop.with { $0.metrics.update { $0.sent += UInt64(written) } } }
  }

  private func flush() {
    unwrittenAnswers = 0
    var written = 0
    let before = output.byteCount
    let outcome = output.flush(descriptor, written: &written)
    if written > 0 { context.metrics.update { $0.sent += UInt64(written) } }
    switch outcome {
    case .drained:
      if let writeEntry, writeEntry.isSet { context.deadlines.cancel(writeEntry) }
      if phase == .discarding { shutdownWriting(descriptor) }
    case .blocked:
      if let writeEntry, written > 0 || before == 0 || !writeEntry.isSet {
        context.deadlines.set(writeEntry, at: Clock.now + context.limits.writeTimeout)
      }
    case .failed: close()
    }
    if phase != .closed { updateWatch() }
  }

  func sendHello() {
    if hasSentHello { return }
    hasSentHello = true
    output.frames.encodeFrame(
      hello: HelloMessage(
        software: context.daemon.software, maxMessageBytes: limits.messageBytesMax,
        maxPayloadBytes: limits.payloadBytesMax, maxStreams: limits.streamsMax,
        streamCredit: limits.streamCredit, features: isUnix ? [Connection.sharedMemoryFeature] : [])
    )
    output.framesAppended()
    if lastStream != .max { sendGoAway() }
    wantsFlush()
  }

  private func sendGoAway() {
    output.frames.encodeFrame(
      goAway: GoAwayMessage(
        lastStreamID: lastStream,
        status: StatusMessage(code: 0, message: "the daemon is shutting down")))
    output.framesAppended()
  }

  // MARK: - Timers

  private func setStall(_ timeout: UInt64) {
    guard let stallEntry else { return }
    context.deadlines.set(stallEntry, at: timeout == 0 ? .max : Clock.now + timeout)
  }

  private func setReadTimers() {
    guard let stallEntry else { return }
    if !decoder.hasSeenHello {
      return  // The time to HELLO runs from the connection on.
    } else if decoder.isMidFrame && mayRead {
      setStall(context.limits.frameTimeout)
    } else if streams.isEmpty && context.limits.idleTimeout > 0 {
      setStall(context.limits.idleTimeout)
    } else if stallEntry.isSet {
      context.deadlines.cancel(stallEntry)
    }
  }

  private func stalled() {
    if phase != .open {
      close()
      return
    }
    if !decoder.hasSeenHello && !decoder.hasReadPreface {
      close()
      return
    }
    let reason =
      !decoder.hasSeenHello
      ? "no HELLO in time" : decoder.isMidFrame ? "a frame stalled half-way" : "idle for too long"
    fail(BadFrame(reason, code: .deadlineExceeded))
  }

  // MARK: - Memory

  /// Calls or a payload of this connection wait for memory.
  func waitForMemory() {
    isWaitingForMemory = true
    context.waitForMemory(self)
  }

  func memoryReleased() {
    guard phase == .open else { return }
    isWaitingForMemory = false
    for call in streams.calls { call.memoryReleased() }
    if decoder.isWaiting { resume() }
  }

  // MARK: - The end

  /// A stream is over: its call can be used again.
  func closeStream(_ id: UInt32) {
    guard let call = streams.remove(id) else { return }
    if !isDecoding, phase == .open, let header = decoder.currentHeader, header.type == .message,
      header.streamID == id
    {
      let wasWaiting = decoder.isWaiting
      decoder.dropRestOfFrame()
      if wasWaiting { context.resumeLater(self) }
    }
    call.reset()
    serverLoop.with { $0.give(call) }
    if streams.isEmpty && (isPeerLeaving || lastStream != .max) { wantsFlush() }
    if phase == .closed && streams.isEmpty { context.forget(self) }
  }

  /// The daemon goes down: no new calls; the connection closes after the last.
  func drain() {
    guard phase == .open, lastStream == .max else { return }
    lastStream = highestStream
    if hasSentHello {
      sendGoAway()
    } else {
      // What it has sent may be on its way: without an answer it could not know that nothing of it began.
      setStall(Connection.lastWordsTime)
    }
    wantsFlush()
  }

  /// Streams end at a batch boundary; with `force` all calls end now.
  func drainExpired(force: Bool) {
    for call in streams.calls where force || call.method.isStreaming {
      call.drainExpired()
    }
    wantsFlush()
  }

  private func endIfIdle() {
    guard streams.isEmpty, output.isEmpty, hasSentHello, isPeerLeaving || lastStream != .max
    else { return }
    // What the client has sent meanwhile is read and dropped, or the kernel would answer it with a reset,
    // which could overtake our last answers.
    phase = .discarding
    shutdownWriting(descriptor)
    setStall(Connection.lastWordsTime)
    updateWatch()
  }

  /// A frame broke the rules: says so and closes.
  func fail(_ error: BadFrame) {
    guard phase == .open else { return }
    if error.kind == .preface {
      close()
      return
    }
    sendHello()
    phase = .discarding
    abandonCalls()
    output.frames.encodeFrame(
      goAway: GoAwayMessage(
        lastStreamID: highestStream,
        status: StatusMessage(code: error.code.rawValue, message: error.reason)))
    output.framesAppended()
    setStall(Connection.lastWordsTime)
    flush()
  }

  func close() {
    guard phase != .closed else { return }
    phase = .closed
    watcher?.close()
    watcher = nil
    _ = Glibc.close(descriptor)
    output.removeAll()
    leftover = []
    descriptors.removeAll()
    regions.removeAll()
    for entry in [stallEntry, writeEntry] {
      if let entry { context.deadlines.cancel(entry) }
    }
    context.closed(self)
    abandonCalls()
    if streams.isEmpty { context.forget(self) }
  }

  /// Nobody hears the answers: work stops, calls end when it has.
  private func abandonCalls() {
    for call in streams.calls {
      call.cancel(StatusError(.cancelled, "the connection is gone"))
    }
  }
}

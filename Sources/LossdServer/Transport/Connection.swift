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

  /// A system call costs as much as two small calls; a client that waits for all of a turn's
  /// answers loses more.
  private static let answersPerWrite = 32

  /// How long a connection is served in one turn, nanoseconds.
  private static let turnTime: UInt64 = 1_000_000
  /// What one read copies at the most.
  private static let readBytesMax = 1 << 20
  /// What a connection takes of memory before it does anything, about.
  private static let ownBytes = 8 << 10
  /// Fewer bytes a second are no progress, where others wait for memory.
  static let crawlBytes = 64 << 10

  /// How long what still comes is read at the end, nanoseconds.
  private static let lastWordsTime: UInt64 = 1_000_000_000

  /// How long nothing is read from a connection whose user's descriptors wait to be closed,
  /// nanoseconds.
  private static let closerPause: UInt64 = 20_000_000

  /// The loop outlives its connections: it forgets the last one before it ends.
  let serverLoop: Unretained<ServerLoop>
  let number: UInt64
  let administration: Administration
  /// What its user has on this loop.
  let share: UserShare
  let account: MemoryBudget
  let small: SmallAccount
  let group: WorkGroup
  let output = OutputQueue()
  let decoder: FrameDecoder
  let arena = MessageArena(
    retainedBytes: 16 << 10, fieldsMax: MessageArena.requestFieldsMax)
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
  private(set) var phase = Phase.open

  private let descriptor: Int32
  private var watcher: DescriptorWatcher?
  private var isFlushWanted = false
  private var unwrittenAnswers = 0
  private var isDecoding = false
  /// What the decoder has not taken yet, since it waits for memory or another connection has its
  /// turn.
  private var leftover: [UInt8] = []
  /// What the descriptor was ready for when its turn was not yet.
  private var pendingEvents: DescriptorWatcher.Events = []
  /// It waits for its turn.
  private var isQueued = false
  /// The next connection of the same user that does.
  var nextReady: Connection?
  /// When the turn is over, `Clock.now`'s nanoseconds; and frames that have begun in it.
  private var turnEnd: UInt64 = 0
  private var turnFrames = 0
  /// A call of this turn was one that takes its time on the loop.
  var isTurnCostly = false
  /// Bytes of buffers that are charged to the share.
  private var heldBytes = 0
  /// There was no room for them in the user's budget: nothing is read until the output is gone.
  private var isInDebt = false
  /// The frame whose time is running.
  private var timedFrame: UInt64 = 0
  /// Bytes written since the beginning, as they were when the sweep before looked, and when that
  /// was.
  private var written = 0
  private var sweptWritten = 0
  private var sweptTime: UInt64 = 0
  private var payloadWaiter: MemoryWaiter?
  private var debtWaiter: MemoryWaiter?
  /// The client has sent descriptors, which nobody takes.
  var hasSentDescriptors = false
  let isUnix: Bool
  /// Descriptors may wait in the socket, and closing them, with it or by themselves, may take for
  /// ever.
  private let mayHoldDescriptors: Bool
  /// Memory that the client shares, by its own numbers.
  var regions: [UInt64: SharedRegion] = [:]
  let regionAccount: RegionAccount
  /// Who is at the other end, for the access log.
  private(set) lazy var peerText =
    PeerCredentials(of: descriptor).map { "uid=\($0.userID) pid=\($0.processID)" }
    ?? "peer=\(peerAddress(descriptor).map { "\($0)" } ?? "-")"
  /// As the client was told them, whatever a reload has changed since.
  let limits: ServerLimits
  /// Descriptors of this client's user wait to be closed, as many as may be: nothing is read
  /// meanwhile.
  private var isPausedForCloser = false
  private var closerEntry: DeadlineEntry?
  private var stallEntry: DeadlineEntry?
  private var writeEntry: DeadlineEntry?

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

  // MARK: - Reading

  private func ready(_ events: DescriptorWatcher.Events) {
    serverLoop.with { $0.noteEvent() }
    pendingEvents.formUnion(events)
    queueTurn()
  }

  /// It has something to do, when those before it have had their turns.
  private func queueTurn() {
    if isQueued { return }
    isQueued = true
    serverLoop.with { $0.turnLater(self) }
  }

  /// It is its turn, for a millisecond. The caller keeps it alive.
  func turn() {
    isQueued = false
    let events = pendingEvents
    pendingEvents = []
    if phase == .closed { return }
    beginTurn()
    if events.contains(.writable) { flush() }
    if !leftover.isEmpty && mayDecode { resume() }
    if events.contains(.readable) && phase != .closed { read() }
    // The client is gone, or wants no more answers: either way its calls are cancelled.
    if events.contains(.disconnected) && !mayRead && !isQueued { close() }
  }

  private func beginTurn() {
    turnEnd = Clock.now + Connection.turnTime
    turnFrames = 0
    isTurnCostly = false
  }

  /// The connection's turn is over, or as much output is queued as may be.
  func pausesDecoding() -> Bool {
    if output.byteCount >= limits.queuedBytesMax { return true }
    turnFrames += 1
    // Looking at the clock costs as much as a few percent of a small call.
    return turnFrames & (isTurnCostly ? 0 : 7) == 0 && Clock.now >= turnEnd
  }

  private var mayDecode: Bool {
    phase == .open && !decoder.isWaiting && !isInDebt
      && output.byteCount < limits.queuedBytesMax
  }

  private var mayRead: Bool {
    switch phase {
    case .open: mayDecode && leftover.isEmpty
    case .discarding: true
    case .closed: false
    }
  }

  /// Reads what is there, up to a bound so that neighbours get their turn.
  private func read() {
    var rounds = 0
    while mayRead && rounds < 16 {
      rounds += 1
      if mayHoldDescriptors && !mayTakeDescriptors() { break }
      // Its neighbours' turn: what is left is still there when the loop looks for events again.
      if rounds > 1 && Clock.now >= turnEnd { break }
      let buffer = context.readBuffer.bytes
      let direct = phase == .open ? decoder.directDestination(minimum: 16 << 10) : nil
      let first = direct ?? buffer
      let isPart = first.count > Connection.readBytesMax
      // What follows a payload is read with the end of it.
      let second =
        direct == nil || isPart ? UnsafeMutableRawBufferPointer(start: nil, count: 0) : buffer
      let piece = UnsafeMutableRawBufferPointer(rebasing: first.prefix(Connection.readBytesMax))
      let outcome =
        isUnix
        ? receive(descriptor, piece, second, refused: refuseDescriptors)
        : receive(descriptor, piece, second)
      guard case .bytes(let count) = outcome else {
        if outcome != .wouldBlock { close() }
        break
      }
      context.metrics.update { $0.received &+= UInt64(count) }
      if phase == .discarding { continue }
      take(count, direct: direct == nil ? nil : piece, buffer)
      if count < piece.count + second.count { break }
    }
    afterTurn()
  }

  private func take(
    _ count: Int, direct: UnsafeMutableRawBufferPointer?, _ buffer: UnsafeMutableRawBufferPointer
  ) {
    isDecoding = true
    defer { isDecoding = false }
    do throws(BadFrame) {
      if hasSentDescriptors {
        throw BadFrame("a descriptor came along, and descriptors are never taken")
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

  private func decode(_ bytes: UnsafeRawBufferPointer) throws(BadFrame) {
    let used = try decoder.decode(bytes, self)
    if used < bytes.count { leftover.append(contentsOf: bytes[used...]) }
    if decoder.hasReadPreface { sendHello() }
  }

  /// The decoder may go on: memory has been released, the frame that waited is to be dropped, or it
  /// is the connection's turn.
  func resume() {
    guard phase == .open, !isDecoding else { return }
    if turnEnd < Clock.now { beginTurn() }
    isDecoding = true
    var failure: BadFrame?
    // The loop's spare array is filled with what is left now, so that nothing is allocated in the
    // steady state.
    serverLoop.with { swap(&leftover, &$0.spareBytes) }
    context.spareBytes.withUnsafeBytes { bytes in
      do throws(BadFrame) { try decode(bytes) } catch { failure = error }
    }
    serverLoop.with { $0.spareBytes.removeAll(keepingCapacity: true) }
    isDecoding = false
    if let failure { fail(failure) }
    afterTurn()
  }

  /// Writes what the turn has produced, and watches for what comes next.
  func afterTurn() {
    if phase == .closed { return }
    flush()
    guard phase == .open else { return }
    endIfIdle()
    guard phase == .open else { return }
    settle()
    setReadTimers()
    updateWatch()
    if !leftover.isEmpty && mayDecode { queueTurn() }
  }

  /// Charges what the buffers have become.
  private func settle() {
    let bytes =
      Connection.ownBytes + decoder.heldBytesMax + leftover.capacity + output.frames.capacity
    let change = bytes - heldBytes
    if change == 0 { return }
    heldBytes = bytes
    if change < 0 {
      small.give(-change)
      if isInDebt { payDebt() }
    } else if !small.force(change) {
      isInDebt = true
      waitForRoom()
    }
  }

  /// The user's budget has no room for what the connection's buffers have become: nothing is read
  /// until it has, or the connection ends.
  private func waitForRoom() {
    let waiter =
      debtWaiter
      ?? MemoryWaiter(
        onRelease: { [unowned self] in payDebt() },
        onTimeout: { [unowned self] reason in
          fail(
            BadFrame(
              context.memoryTimedOut("what the connection's buffers hold", reason).message,
              code: .resourceExhausted))
        })
    debtWaiter = waiter
    context.waits.wait(
      waiter, share.user, Shortage(budget: share.user.bytes), timeout: context.limits.waitTimeout)
    // First in line, then tried again: memory released in between is not missed.
    if share.isCovered { payDebt() }
  }

  private func payDebt() {
    guard isInDebt, phase == .open else { return }
    guard share.isCovered else { return waitForRoom() }
    isInDebt = false
    if let debtWaiter, debtWaiter.isWaiting { context.waits.cancel(debtWaiter) }
    queueTurn()
    updateWatch()
  }

  /// Charges memory for a message that is about to come, where it is more than any connection has
  /// anyway. False where there is no room.
  func reserveMessage(_ header: FrameHeader) -> Shortage? {
    if Int(header.messageLength) <= FrameDecoder.retainedBytes { return nil }
    let bytes = FrameDecoder.heldBytesMax(Int(header.messageLength))
    if let shortage = small.take(bytes) { return shortage }
    heldBytes += bytes
    return nil
  }

  private func updateWatch() {
    var events: DescriptorWatcher.Events =
      mayRead && !isPausedForCloser ? .readable : .disconnected
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

  /// In the middle of a turn with many calls: the client can work on the first answers while the
  /// others are made.
  private func flushSome() {
    unwrittenAnswers += 1
    guard unwrittenAnswers >= Connection.answersPerWrite, phase == .open else { return }
    unwrittenAnswers = 0
    var written = 0
    // Where it fails, so does the write at the end of the turn.
    _ = output.flush(descriptor, written: &written)
    count(written: written)
  }

  private func flush() {
    unwrittenAnswers = 0
    var written = 0
    let before = output.byteCount
    let outcome = output.flush(descriptor, written: &written)
    count(written: written)
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

  private func count(written: Int) {
    if written == 0 { return }
    self.written &+= written
    serverLoop.with { $0.metrics.update { $0.sent &+= UInt64(written) } }
  }

  static func hello(_ daemon: DaemonState, _ limits: ServerLimits, isUnix: Bool) -> HelloMessage {
    HelloMessage(
      software: daemon.software, maxMessageBytes: limits.messageBytesMax,
      maxPayloadBytes: limits.payloadBytesMax, maxStreams: limits.streamsMax,
      streamCredit: limits.streamCredit, features: isUnix ? [Connection.sharedMemoryFeature] : [])
  }

  func sendHello() {
    if hasSentHello { return }
    hasSentHello = true
    output.frames.encodeFrame(hello: Connection.hello(context.daemon, limits, isUnix: isUnix))
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
    } else if decoder.isMidMessage && mayRead {
      // From its first byte to its last: a message that crawls is one that stalls.
      if timedFrame == decoder.frameNumber && stallEntry.isSet { return }
      timedFrame = decoder.frameNumber
      setStall(context.limits.frameTimeout)
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

  /// The payload that comes next has no memory yet: it is not read until it has.
  func waitForPayload(_ shortage: Shortage) {
    guard let payloadWaiter else { return }
    context.waits.wait(
      payloadWaiter, share.user, shortage, timeout: context.limits.waitTimeout)
  }

  func stopWaitingForPayload() {
    if let payloadWaiter, payloadWaiter.isTimed { context.waits.cancel(payloadWaiter) }
  }

  private func payloadTimedOut(_ reason: String) {
    guard decoder.isWaiting, let header = decoder.currentHeader,
      let call = streams[header.streamID]?.object
    else { return }
    call.dropRequests()
    call.refuseRequest(context.memoryTimedOut("a payload of \(header.payloadLength) bytes", reason))
    resume()
  }

  /// Others wait for memory: ends what holds some and does not get on.
  func sweep(_ now: UInt64) {
    let timeout = context.limits.starveTimeout
    for call in streams.calls { call.sweep(now, timeout) }
    guard phase != .closed else { return }
    let isHolding = output.byteCount > Connection.crawlBytes
    if !isHolding || written - sweptWritten >= Connection.progress(in: timeout) {
      sweptWritten = written
      sweptTime = now
    } else if now - sweptTime >= timeout {
      // Its client does not read the results, whose memory others need.
      close()
    }
  }

  /// Bytes that have to get on in so many nanoseconds.
  static func progress(in time: UInt64) -> Int {
    max(1, Int(clamping: time / 1_000_000) * crawlBytes / 1000)
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
    share.streams -= 1
    small.give(StreamCall.ownBytes)
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
      // What it has sent may be on its way: without an answer it could not know that nothing of it
      // began.
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
    // What the client has sent meanwhile is read and dropped, or the kernel would answer it with a
    // reset, which could overtake our last answers.
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
    closeDescriptor()
    output.removeAll()
    leftover = []
    stopWaitingForPayload()
    if let debtWaiter, debtWaiter.isWaiting { context.waits.cancel(debtWaiter) }
    small.give(heldBytes)
    heldBytes = 0
    endRegions()
    for entry in [stallEntry, writeEntry, closerEntry] {
      if let entry { context.deadlines.cancel(entry) }
    }
    context.closed(self)
    abandonCalls()
    if streams.isEmpty { context.forget(self) }
  }

  private func closeDescriptor() {
    if mayHoldDescriptors {
      context.daemon.closer.close(descriptor, of: closerKey)
    } else {
      _ = Glibc.close(descriptor)
    }
  }

  /// Whether there is room for descriptors of this client's user that may come with the next read;
  /// if not, that read is for later.
  private func mayTakeDescriptors() -> Bool {
    if context.daemon.closer.hasRoom(for: closerKey) { return true }
    if isPausedForCloser { return false }
    isPausedForCloser = true
    let entry =
      closerEntry
      ?? DeadlineEntry { [unowned self] in
        isPausedForCloser = false
        if phase != .closed { updateWatch() }
      }
    closerEntry = entry
    context.deadlines.set(entry, at: Clock.now + Connection.closerPause)
    return false
  }

  /// Nobody hears the answers: work stops, calls end when it has.
  private func abandonCalls() {
    for call in streams.calls {
      call.cancel(StatusError(.cancelled, "the connection is gone"))
    }
  }
}

import LossdEngine
import LossdHTTP
import LossdTensor
import LossdWire

/// gRPC over HTTP/2: it turns streams into calls, and answers into frames. Confined to its loop's
/// thread.
///
/// What a session does is in files by subject: HTTP2Session+events (what nghttp2 tells) and +calls.
/// Of a call's own stream knows `GRPCCall`.
final class HTTP2Session: Session {
  /// Output that is queued for the socket at a time. What is more waits with its calls.
  static let outputBytesMax = 256 << 10
  /// Bytes that nghttp2 gets at a time where they are calls: between two pieces others may have
  /// their turns.
  private static let sliceBytes = 4 << 10
  /// From the announcement of the end to the end, where the client does not answer, nanoseconds.
  private static let announcementTime: UInt64 = 5_000_000_000
  /// Bytes that a client may send on a stream before anything of them is taken.
  static let windowBytes = 256 << 10
  /// Frames that nobody takes.
  private static let queuedFramesMax = 10_000

  /// The loop outlives its sessions.
  let contextReference: Unretained<CallLoop>
  let spareCalls: SpareGRPCCalls
  /// The channel's own.
  let account: MemoryBudget
  let small: SmallAccount
  let share: UserShare
  let limits: ServerLimits
  let output: OutputQueue
  /// nil: there was no memory for it.
  private(set) var connection: HTTP2Connection?
  private let events = HTTP2Events()
  let head = GRPCRequestHead()
  /// The session's own, from its beginning to its end.
  private(set) var connectionReference: Unretained<HTTP2Connection>?
  let outputReference: Unretained<OutputQueue>
  let headReference: Unretained<GRPCRequestHead>
  /// The loop's, which outlives its sessions.
  let splitter: Unretained<RequestSplitter>
  let partsPayload: UnsafeMutableRawPointer
  let lastPath = LastPath()
  var flood = FloodGuard(now: Clock.now)
  /// Calls, and what is left of them, by their streams.
  var calls: [Int32: GRPCCall] = [:]
  /// Calls that can go on with what their clients have sent or take.
  private var toContinue: [GRPCCall] = []
  private var isContinuing = false
  /// Bytes that calls hold for streams: what has come and is not taken, and what is not sent.
  var streamBytes = 0
  /// Calls have begun since the last piece of bytes.
  var hasBegunCalls = true
  /// Why the connection is to end, once nghttp2 returns.
  private var failure: (code: HTTP2ErrorCode, text: String)?
  /// nghttp2 is not used any more: calls may be gone that it knows.
  private var hasEnded = false

  private enum Draining {
    case no, announced, ending
  }
  private var draining = Draining.no
  private var announcementEntry: DeadlineEntry?
  private var watchEntry: DeadlineEntry?
  private var isWatching = false

  init(_ channel: Channel, _ context: CallLoop, _ spareCalls: SpareGRPCCalls) {
    contextReference = Unretained(context)
    self.spareCalls = spareCalls
    account = channel.account
    small = channel.small
    share = channel.share
    limits = channel.limits
    output = channel.output
    outputReference = Unretained(output)
    headReference = Unretained(head)
    splitter = Unretained(spareCalls.parts.splitter)
    partsPayload = spareCalls.parts.payload.base
    super.init(channel)
    var settings = HTTP2Connection.Settings()
    settings.streamsMax = limits.streamsMax
    settings.windowBytes = UInt32(HTTP2Session.windowBytes)
    events.begin(self)
    connection = HTTP2Connection(events, settings)
    connectionReference = connection.map { Unretained($0) }
    watchEntry = DeadlineEntry { [unowned self] in watch() }
  }

  var context: CallLoop { contextReference.object }

  override func begin() {
    if connection == nil { return channel.close() }
    channel.wantsFlush()
    if channel.isDraining { drain() }
  }

  // MARK: - Bytes

  override func take(_ bytes: UnsafeRawBufferPointer) -> Int {
    guard let connection, !hasEnded else { return bytes.count }
    var index = 0
    while index < bytes.count {
      if channelReference.with({ $0.pausesReading() }) { return index }
      // What belongs to bodies is copied alone, and may come in one piece.
      let limit = hasBegunCalls ? HTTP2Session.sliceBytes : bytes.count
      hasBegunCalls = false
      let piece = UnsafeRawBufferPointer(rebasing: bytes[index..<min(index + limit, bytes.count)])
      let wrong = connection.receive(piece)
      index += piece.count
      if let failure {
        end(failure.code, failure.text)
        return bytes.count
      }
      if let wrong {
        end(wrong.code, wrong.text)
        return bytes.count
      }
      if connection.queuedFrames > HTTP2Session.queuedFramesMax {
        end(.enhanceYourCalm, "the client does not take its answers")
        return bytes.count
      }
      fillOutput()
      // nghttp2 takes and answers nothing more of a client that has said its last.
      if connection.isPeerLeaving && calls.isEmpty { channel.wantsFlush() }
      if channel.phase != .open { return bytes.count }
    }
    return index
  }

  override func fillOutput() {
    guard !hasEnded else { return }
    if !toContinue.isEmpty { continueCalls() }
    queueFrames()
  }

  override var hasMoreOutput: Bool {
    !hasEnded && !isBlocked && (connection?.wantsToSend == true || !parked.isEmpty)
  }

  /// A stream has sent its share, and others may have something to send.
  func park(_ stream: Int32) { parked.append(stream) }

  /// nghttp2 sends one stream to its end before the next: these have had their shares.
  private var parked: [Int32] = []

  /// Nothing could be made although nghttp2 has something: windows are shut.
  private var isBlocked = false

  private func queueFrames() {
    guard let connection, !hasEnded, !connection.isTelling else { return }
    isBlocked = false
    while output.byteCount < HTTP2Session.outputBytesMax {
      let hasMade = connection.produce { frame in outputReference.with { $0.append(frame) } }
      if hasMade || output.byteCount >= HTTP2Session.outputBytesMax { continue }
      if parked.isEmpty {
        isBlocked = true
        break
      }
      // Everybody has had a share: another round.
      for stream in parked { connection.resume(stream) }
      parked.removeAll(keepingCapacity: true)
    }
    if connection.isBroken {
      channel.close()
    } else if connection.hasFailed {
      end { _ in }
    } else if let failure {
      // Found while frames were made.
      end(failure.code, failure.text)
    }
  }

  override var reading: Reading {
    guard let connection, connection.hasSettings else { return .starting }
    let block = connection.headersUnderWay
    return block == 0 ? .between : .message(number: UInt64(block))
  }

  override var heldBytes: Int { (connection?.heldBytes ?? 0) + streamBytes }

  // MARK: - Calls

  override var hasCalls: Bool { !calls.isEmpty }

  /// The call can go on, once what is going on now has ended.
  func continueLater(_ call: GRPCCall) {
    if call.isToContinue || channel.isClosed { return }
    call.isToContinue = true
    toContinue.append(call)
    channel.writeInNextTurn()
  }

  private func continueCalls() {
    if isContinuing { return }
    isContinuing = true
    // What is still to be done afterwards has the next turn.
    let now = toContinue
    toContinue.removeAll(keepingCapacity: true)
    for call in now where call.isToContinue {
      call.isToContinue = false
      call.goOn()
    }
    isContinuing = false
  }

  func reset(_ stream: Int32, _ code: HTTP2ErrorCode) {
    connectionReference?.with { $0.reset(stream, code) }
  }

  /// A call is over, on both sides.
  func forget(_ stream: Int32) {
    guard let call = calls.removeValue(forKey: stream) else { return }
    Unretained(call).with { $0.reset() }
    share.streams -= 1
    small.give(Call.ownBytes)
    contextReference.with { spareCalls.give(call, $0) }
    if calls.isEmpty {
      if isEnding { channel.wantsFlush() }
      channel.callEnded()
    }
  }

  /// From time to time while there are calls: streams whose clients do not get on are ended.
  private func watch() {
    isWatching = false
    let now = Clock.now
    for call in Array(calls.values) {
      call.checkTimes(now, message: context.limits.frameTimeout, write: context.limits.writeTimeout)
    }
    if !calls.isEmpty && channel.phase == .open { watchLater() }
  }

  func watchLater() {
    if isWatching { return }
    isWatching = true
    guard let watchEntry else { return }
    let least = min(context.limits.frameTimeout, context.limits.writeTimeout)
    context.deadlines.set(watchEntry, at: Clock.now + max(least / 4, 1_000_000))
  }

  override func inspect(_ now: UInt64, _ timeout: UInt64, progress: Int) {
    for call in Array(calls.values) {
      call.inspectStream(now, timeout, progress: progress)
    }
  }

  // MARK: - The end

  /// Two steps: the client is told, and what it has begun until it knows is still taken.
  override func drain() {
    guard draining == .no, let connection, !hasEnded else { return }
    draining = .announced
    connection.announceEnd()
    let entry = DeadlineEntry { [unowned self] in refuseStreams() }
    announcementEntry = entry
    context.deadlines.set(entry, at: Clock.now + HTTP2Session.announcementTime)
    channel.wantsFlush()
    for call in Array(calls.values) where !call.hasEnded { call.handler.object.drainBegan() }
  }

  /// The client knows, or had its time: nothing that it begins now is taken.
  func refuseStreams() {
    guard draining == .announced, let connection, !hasEnded else { return }
    draining = .ending
    if let announcementEntry { context.deadlines.cancel(announcementEntry) }
    connection.refuseStreams()
    channel.wantsFlush()
  }

  override func drainExpired(force: Bool) {
    refuseStreams()
    for call in Array(calls.values) where force || call.method.isStreaming {
      if !call.hasEnded { call.handler.object.drainExpired() }
    }
  }

  override var isOver: Bool {
    isEnding && calls.isEmpty && connection?.wantsToSend != true
  }

  /// No call begins any more.
  private var isEnding: Bool { draining == .ending || connection?.isPeerLeaving == true }

  override func fail(_ reason: String, _ code: StatusCode) {
    switch code {
    case .resourceExhausted: end(.enhanceYourCalm, reason)
    case .deadlineExceeded: end(.noError, reason)
    default: end(.protocolError, reason)
    }
  }

  /// GOAWAY says why, and the connection closes.
  func end(_ code: HTTP2ErrorCode, _ text: String) {
    guard let connection, !hasEnded else { return }
    if connection.isTelling {
      failure = failure ?? (code, text)
      return connection.stop()
    }
    let goAway = HTTP2Connection.goAway(lastStream: connection.lastStream, code, text)
    end { frames in goAway.withUnsafeBytes { frames.append($0) } }
  }

  private func end(_ encode: (OutputBuffer) -> Void) {
    hasEnded = true
    channel.endAfterLastWords(encode)
  }

  override func stalled() {
    let reason =
      connection?.hasSettings != true
      ? "no SETTINGS in time"
      : connection?.headersUnderWay == 0
        ? "idle for too long" : "a block of fields stalled half-way"
    end(connection?.hasSettings != true ? .protocolError : .noError, reason)
  }

  override func abandonCalls() {
    hasEnded = true
    for call in Array(calls.values) { call.streamClosed() }
  }

  override func closed() {
    for entry in [announcementEntry, watchEntry] {
      if let entry { context.deadlines.cancel(entry) }
    }
    abandonCalls()
  }
}

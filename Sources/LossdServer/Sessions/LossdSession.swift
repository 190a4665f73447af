import LossdEngine
import LossdTensor
import LossdWire

/// lossd's own protocol over a channel: frames, streams, credit, regions of shared memory. It turns
/// frames into calls and answers into frames. Confined to its loop's thread.
///
/// What a session does is in files by subject: LossdSession+frames (what each frame does),
/// +payloads (memory for what comes) and +regions. A property below that only one of these files
/// changes stands under the file's name.
final class LossdSession: Session {
  static let sharedMemoryFeature = "shm"

  /// The loop outlives its sessions.
  let contextReference: Unretained<CallLoop>
  private let spareCalls: SpareCalls
  /// The channel's own.
  let account: MemoryBudget
  let small: SmallAccount
  let share: UserShare
  let limits: ServerLimits
  let output: OutputQueue
  let decoder: FrameDecoder
  /// Memory of the message that is being decoded.
  let arena = MessageArena(
    retainedBytes: 16 << 10, fieldsMax: MessageArena.requestFieldsMax)
  var streams = StreamTable()
  /// Streams above it never begin: what our GOAWAY said.
  private(set) var lastStream = UInt32.max

  // MARK: - LossdSession+frames

  /// What the last OPEN said: most OPENs say the same.
  let lastOpen = LastOpen()
  /// The highest stream that the client has opened.
  var highestStream: UInt32 = 0
  /// The client's GOAWAY has come: the connection closes after its last call.
  var isPeerLeaving = false
  /// The most bytes that the client takes in a payload and in a message.
  var peerPayloadBytesMax = UInt64(UInt32.max)
  var peerMessageBytesMax = UInt32.max

  // MARK: - LossdSession+payloads

  private(set) var payloadWaiter: MemoryWaiter?

  // MARK: - LossdSession+regions

  /// Memory that the client shares, by the client's own numbers.
  var regions: [UInt64: SharedRegion] = [:]
  let regionAccount: RegionAccount

  init(_ channel: Channel, _ context: CallLoop, _ spareCalls: SpareCalls) {
    contextReference = Unretained(context)
    self.spareCalls = spareCalls
    account = channel.account
    small = channel.small
    share = channel.share
    limits = channel.limits
    output = channel.output
    regionAccount = RegionAccount(bytesMax: limits.connectionBytesMax)
    decoder = FrameDecoder(role: .server, maxMessageBytes: limits.messageBytesMax)
    super.init(channel)
    payloadWaiter = MemoryWaiter(
      onRelease: { [unowned self] in self.channel.resume() },
      onTimeout: { [unowned self] reason in payloadTimedOut(reason) })
  }

  var context: CallLoop { contextReference.object }

  static func hello(_ daemon: DaemonState, _ limits: ServerLimits, isUnix: Bool) -> HelloMessage {
    HelloMessage(
      software: daemon.software, maxMessageBytes: limits.messageBytesMax,
      maxPayloadBytes: limits.payloadBytesMax, maxStreams: limits.streamsMax,
      streamCredit: limits.streamCredit, features: isUnix ? [LossdSession.sharedMemoryFeature] : [])
  }

  /// What a client is told that gets no channel.
  static func refuse(_ error: StatusError, _ context: LoopContext, _ frames: OutputBuffer) {
    frames.encodeFrame(hello: hello(context.daemon, context.limits, isUnix: false))
    frames.encodeFrame(goAway: GoAwayMessage(lastStreamID: 0, status: StatusMessage(error)))
  }

  override func begin() {
    channel.send {
      $0.encodeFrame(
        hello: LossdSession.hello(context.daemon, limits, isUnix: channel.isUnix))
    }
    if channel.isDraining { drain() }
  }

  // MARK: - Reading

  override func take(_ bytes: UnsafeRawBufferPointer) -> Int {
    do throws(BadFrame) { return try decoder.decode(bytes, self) } catch {
      fail(error.reason, error.code)
      return bytes.count
    }
  }

  override func directDestination(minimum: Int) -> UnsafeMutableRawBufferPointer? {
    decoder.directDestination(minimum: minimum)
  }

  override func directBytesArrived(_ count: Int) {
    do throws(BadFrame) { try decoder.directBytesArrived(count, self) } catch {
      fail(error.reason, error.code)
    }
  }

  override var isWaiting: Bool { decoder.isWaiting }

  override var reading: Reading {
    if !decoder.hasSeenHello { return .starting }
    if decoder.isMidMessage { return .message(number: decoder.frameNumber) }
    return decoder.isMidFrame ? .payload : .between
  }

  override var heldBytes: Int { decoder.heldBytesMax }

  // MARK: - Calls

  override var hasCalls: Bool { !streams.isEmpty }

  func takeCall() -> StreamCall { spareCalls.take(context) }

  /// A stream is over. Its call goes back to the loop's spare ones.
  func closeStream(_ id: UInt32) {
    guard let call = streams.remove(id) else { return }
    channelReference.with { channel in
      if !channel.isDecoding, channel.phase == .open, let header = decoder.currentHeader,
        header.type == .message, header.streamID == id
      {
        let wasWaiting = decoder.isWaiting
        decoder.dropRestOfFrame()
        if wasWaiting { channel.resumeLater() }
      }
      call.reset()
      share.streams -= 1
      small.give(Call.ownBytes)
      contextReference.with { spareCalls.give(call, $0) }
      if streams.isEmpty {
        if isPeerLeaving || lastStream != .max { channel.wantsFlush() }
        channel.callEnded()
      }
    }
  }

  override func inspect(_ now: UInt64, _ timeout: UInt64, progress: Int) {
    let arriving = decoder.currentHeader?.streamID
    for call in streams.calls {
      call.inspect(
        now, timeout, received: call.id == arriving ? decoder.payloadReceived : 0,
        progress: progress)
    }
  }

  // MARK: - The end

  /// No new call begins, which GOAWAY says.
  override func drain() {
    guard lastStream == .max else { return }
    lastStream = highestStream
    channel.send {
      $0.encodeFrame(
        goAway: GoAwayMessage(
          lastStreamID: lastStream,
          status: StatusMessage(code: 0, message: "the daemon is shutting down")))
    }
    for call in streams.calls { call.handler.object.drainBegan() }
  }

  override func drainExpired(force: Bool) {
    for call in streams.calls where force || call.method.isStreaming {
      call.handler.object.drainExpired()
    }
  }

  override var isOver: Bool { streams.isEmpty && (isPeerLeaving || lastStream != .max) }

  /// A frame broke the rules: GOAWAY says which, and the connection closes.
  override func fail(_ reason: String, _ code: StatusCode) {
    channel.endAfterLastWords {
      $0.encodeFrame(
        goAway: GoAwayMessage(
          lastStreamID: highestStream,
          status: StatusMessage(code: code.rawValue, message: reason)))
    }
  }

  override func stalled() {
    let reason =
      !decoder.hasSeenHello
      ? "no HELLO in time" : decoder.isMidFrame ? "a frame stalled half-way" : "idle for too long"
    fail(reason, .deadlineExceeded)
  }

  /// Nobody reads the answers any more: all calls end when their work has stopped.
  override func abandonCalls() {
    for call in streams.calls {
      call.handler.object.cancel(StatusError(.cancelled, "the connection is gone"))
    }
  }

  override func closed() {
    stopWaitingForPayload()
    endRegions()
    abandonCalls()
  }
}

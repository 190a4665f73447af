import Glibc
import LossdEngine
import LossdHTTP
import LossdTensor
import LossdWire

/// A call on a stream of HTTP/2. It lives until both are over: its handler has ended, and the
/// stream is closed.
///
/// What comes is in GRPCCall+input, what goes in +output.
final class GRPCCall: Call {
  /// Batches whose responses may be under way, while the stream's client takes what it gets.
  static let responseCredit: UInt32 = 8
  /// Bytes that wait for the client's window; beyond them nothing more is begun.
  static let bodyBytesMax = 1 << 20
  /// What a stream sends before others of its connection have their turns.
  static let roundBytes = 256 << 10

  /// nil: the call is not open. A session owns its calls, and so outlives them.
  private(set) var sessionReference: Unretained<HTTP2Session>?
  private(set) var stream: Int32 = 0
  /// The handler has said its last, or has been cancelled to its end.
  private(set) var hasEnded = false
  /// No frame of the stream comes or goes any more.
  private(set) var isStreamClosed = false
  /// The session has it on its list of those to go on.
  var isToContinue = false
  var isHandlerToContinue = false

  // MARK: - GRPCCall+input

  enum Input {
    /// The five bytes before a message.
    case prefix
    /// A message that is decoded when it is whole.
    case whole
    /// One that waits for memory.
    case waiting
    /// A request whose tensors go to where they belong as they come.
    case parts(PayloadBuffer)
    /// A message that is compressed.
    case compressed(Inflater)
    /// One that has been decompressed, and is copied to where its tensors belong.
    case collected(PayloadBuffer)
  }
  var input = Input.prefix
  var prefix: UInt64 = 0
  var prefixCount = 0
  var messageBytes = 0
  /// Of the message under way.
  var messageReceived = 0
  var messageCount = 0
  /// A whole message's bytes so far, and what has come and is not taken.
  var message = HeldBytes()
  var held = HeldBytes()
  /// A collected message waits for the memory of its parts.
  var isCollected = false
  /// There is more to decompress of what has come.
  var hasMoreInflated = false
  /// What a compressed message has become so far.
  var inflated = InflatedBytes()
  /// Charged for `message` and `inflated`.
  var messageCharged = 0
  var isFeeding = false
  /// END_STREAM has come.
  var isRemoteClosed = false
  var encoding = GRPCRequestHead.Encoding.identity
  /// Bytes of the body that are still to come by `content-length`; nil: it was not sent.
  var bodyBytesLeft: UInt64?
  var received = 0
  lazy var splitter = RequestSplitter()
  private(set) var inputWaiter: MemoryWaiter?

  // MARK: - GRPCCall+output

  let body = ResponseBody()
  /// The answer's first fields have been submitted.
  var isAnswered = false
  var sent = 0
  /// `sent` when the stream's turn began.
  var roundBegin = 0
  var status = StatusError(.ok, "")

  // MARK: - Times

  // Nanoseconds; 0: nobody has looked since the call began.
  private var checkedSent = 0
  private var checkedReceived = 0
  private var sentTime: UInt64 = 0
  private var receivedTime: UInt64 = 0
  private var inspectedSent = 0
  private var inspectedTime: UInt64 = 0

  override init(_ context: CallLoop) {
    super.init(context)
    inputWaiter = MemoryWaiter(
      onRelease: { [unowned self] in goOn() },
      onTimeout: { [unowned self] reason in
        refuse(self.context.memoryTimedOut("a request of \(messageBytes) bytes", reason))
      })
  }

  /// What nghttp2 hands back of a stream. The session keeps its calls as long as nghttp2 has them.
  static func with<Result>(_ context: UnsafeMutableRawPointer, _ body: (GRPCCall) -> Result)
    -> Result
  {
    Unmanaged<GRPCCall>.fromOpaque(context)._withUnsafeGuaranteedRef(body)
  }

  /// The call is this session's, until `reset`.
  func begin(_ session: HTTP2Session, _ stream: Int32, _ head: GRPCRequestHead) {
    sessionReference = Unretained(session)
    self.stream = stream
    encoding = head.encoding
    bodyBytesLeft = head.contentLength
    sentTime = 0
    receivedTime = 0
    inspectedTime = 0
  }

  var session: HTTP2Session? { sessionReference?.object }

  override func reset() {
    hasEnded = false
    isStreamClosed = false
    isToContinue = false
    isHandlerToContinue = false
    resetInput()
    sessionReference = nil
    isAnswered = false
    sent = 0
    roundBegin = 0
    if status.code != .ok { status = StatusError(.ok, "") }
    checkedSent = 0
    checkedReceived = 0
    inspectedSent = 0
    super.reset()
  }

  // A handler has a call only while the session does.
  override var account: MemoryBudget { sessionReference.unsafelyUnwrapped.with { $0.account } }
  override var group: WorkGroup {
    sessionReference.unsafelyUnwrapped.with { $0.channelReference.with { $0.group } }
  }
  override var services: ServiceSet {
    sessionReference.unsafelyUnwrapped.with { $0.channelReference.with { $0.services } }
  }
  override var small: Unretained<SmallAccount> {
    sessionReference.unsafelyUnwrapped.with { Unretained($0.small) }
  }

  // MARK: - What the handler says

  override func respond(
    _ response: OutgoingResponse, encoded: EncodedMessage?, results: ResultBytes, isLast: Bool
  ) throws(StatusError) { try send(response, results: results, isLast: isLast) }

  override func respond(_ answer: Answer) throws(StatusError) { send(answer) }

  override func respond(message encode: (OutputBuffer) -> Void) throws(StatusError) {
    send(message: encode)
  }

  override func grantRequests(_ count: UInt32) {
    requestCredit = requestCredit.saturatingAdd(count)
    if !held.isEmpty { session?.continueLater(self) }
  }

  override func finish() { handlerEnded(StatusError(.ok, "")) }
  override func end(_ error: StatusError) { handlerEnded(error) }

  // MARK: - The end

  /// The handler has ended.
  func handlerEnded(_ error: StatusError) {
    guard !hasEnded, let sessionReference else { return }
    hasEnded = true
    if error.code != .ok || status.code != .ok { status = error }
    if record != nil {
      record?.received = received
      record?.sent = sent + body.count
      record?.end(error.code, context.accessLog)
    }
    dropInput()
    // Its deadline, and what it waited for.
    super.reset()
    sessionReference.with { session in
      if isStreamClosed { session.forget(stream) } else { sendEnd(session) }
    }
  }

  /// The stream is closed, or the connection is.
  func streamClosed() {
    guard !isStreamClosed, let sessionReference else { return }
    isStreamClosed = true
    sessionReference.with { session in
      Unretained(body).with { body in
        session.streamBytes -= body.byteCount
        body.removeAll()
      }
      dropInput()
      if hasEnded { session.forget(stream) }
    }
    if self.sessionReference == nil { return }
    handler.object.cancel(StatusError(.cancelled, "cancelled by the client"))
  }

  /// Ends the stream without a word, and the call with it.
  private func abort() { session?.connection?.reset(stream, .cancel) }

  /// Ends a stream whose client takes nothing of what waits for it, or stops within a message.
  func checkTimes(_ now: UInt64, message: UInt64, write: UInt64) {
    if isStreamClosed { return }
    if body.count == 0 || sent != checkedSent || sentTime == 0 {
      checkedSent = sent
      sentTime = now
    } else if now - sentTime >= write {
      abort()
      session?.channel.wantsFlush()
      return
    }
    if !isMidMessage || received != checkedReceived || receivedTime == 0 {
      checkedReceived = received
      receivedTime = now
    } else if now - receivedTime >= message {
      refuse(StatusError(.deadlineExceeded, "a request stalled half-way (limits.frame_timeout)"))
    }
  }

  /// Others wait for memory: ends the call where it holds memory and its client does not get on.
  func inspectStream(_ now: UInt64, _ timeout: UInt64, progress: Int) {
    switch input {
    case .waiting where !hasEnded, .collected where !hasEnded: return
    default: break
    }
    if !hasEnded {
      return inspect(now, timeout, received: received &+ sent, progress: progress)
    }
    if !body.holdsPayloads || sent - inspectedSent >= progress || inspectedTime == 0 {
      inspectedSent = sent
      inspectedTime = now
    } else if now - inspectedTime >= timeout {
      abort()
      session?.channel.wantsFlush()
    }
  }

  /// Goes on with what could not be taken, or answered, before.
  func goOn() {
    if isHandlerToContinue {
      isHandlerToContinue = false
      if !hasEnded { handler.object.creditGranted() }
    }
    continueInput()
  }
}

/// Bytes that wait, the oldest first.
struct HeldBytes {
  private var bytes: [UInt8] = []
  private var begin = 0

  var count: Int { bytes.count - begin }
  var isEmpty: Bool { bytes.count == begin }

  mutating func append(_ more: UnsafeRawBufferPointer) { bytes.append(contentsOf: more) }

  mutating func removeFirst(_ count: Int) {
    begin += count
    if begin == bytes.count { removeAll() }
  }

  mutating func removeAll() {
    begin = 0
    if bytes.isEmpty { return }
    bytes.removeAll(keepingCapacity: bytes.capacity <= 4 << 10)
  }

  func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    bytes.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[begin...])) }
  }
}

/// Bytes of a message of any size, in pieces that never move and whose pages go back to the system.
struct InflatedBytes {
  private static let pieceBytes = 256 << 10

  private struct Piece {
    /// nil: let go of.
    var block: PageBlock?
    var count = 0
  }

  private var pieces: [Piece] = []
  private var first = 0
  private(set) var count = 0

  /// `more` is at most a piece. False: the system has no memory for it.
  mutating func append(_ more: UnsafeRawBufferPointer) -> Bool {
    guard let source = more.baseAddress, more.count > 0 else { return true }
    if (pieces.last?.count ?? .max) > InflatedBytes.pieceBytes - more.count {
      guard let block = PageBlock(reserving: InflatedBytes.pieceBytes) else { return false }
      pieces.append(Piece(block: block))
    }
    let last = pieces.count - 1
    guard let block = pieces[last].block else { return false }
    memcpy(block.base + pieces[last].count, source, more.count)
    pieces[last].count += more.count
    count += more.count
    return true
  }

  /// Gives the next piece to `body`, and lets go of it.
  mutating func takeFirst(_ body: (UnsafeRawBufferPointer) -> Void) {
    guard first < pieces.count else { return }
    if let block = pieces[first].block {
      body(UnsafeRawBufferPointer(start: block.base, count: pieces[first].count))
    }
    count -= pieces[first].count
    pieces[first].block = nil
    first += 1
    if first == pieces.count { removeAll() }
  }

  mutating func removeAll() {
    pieces = []
    first = 0
    count = 0
  }
}

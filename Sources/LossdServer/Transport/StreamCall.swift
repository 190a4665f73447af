import LossdEngine
import LossdTensor
import LossdWire

/// A call on a stream of a lossd connection. Reused from call to call, with its handlers.
final class StreamCall: Call {
  /// nil: the call is not open. A connection owns its calls, and so outlives them.
  private var connection: Unretained<Connection>?
  private(set) var id: UInt32 = 0
  /// One of the handlers below.
  private var handler: Unretained<CallHandler>
  /// Requests that the client may still send.
  var requestCredit: UInt32 = 0
  /// The client's END_STREAM has been read.
  var isHalfClosed = false
  /// Requests are read and dropped.
  private(set) var isDroppingRequests = false
  /// nil: the access log was off when the call began.
  var record: AccessRecord?

  private let evaluate: EvaluateHandler
  private lazy var evaluateStream = EvaluateStreamHandler(context)
  private lazy var listFunctions = ListFunctionsHandler(context)
  private lazy var getStatus = GetStatusHandler(context)
  private lazy var plugins = PluginHandler(context)
  private var deadlineEntry: DeadlineEntry?
  private var waiter: MemoryWaiter?
  /// The call's progress at the last inspection, and when the call had last got on.
  private var inspectedSteps = -1
  private var inspectedBytes = 0
  private var inspectedTime: UInt64 = 0

  /// About the bytes that every call takes, beside its jobs.
  static let ownBytes = 8 << 10

  override init(_ context: LoopContext) {
    evaluate = EvaluateHandler(context)
    handler = Unretained(evaluate)
    super.init(context)
    deadlineEntry = DeadlineEntry { [unowned self] in
      cancel(StatusError(.deadlineExceeded, "the call's time is up"))
    }
    waiter = MemoryWaiter(
      onRelease: { [unowned self] in memoryReleased() },
      onTimeout: { [unowned self] reason in
        cancel(context.memoryTimedOut("the call", reason))
      })
  }

  /// Begins a call; `timeout` in nanoseconds, 0: none.
  func begin(
    _ connection: Connection, _ id: UInt32, _ method: Method, timeout: UInt64, credit: UInt32
  ) {
    self.connection = Unretained(connection)
    self.id = id
    self.method = method
    requestCredit = connection.limits.streamCredit
    responseCredit = credit == 0 ? .max : UInt64(credit)
    isHalfClosed = false
    isDroppingRequests = false
    if method != .evaluate && method != .evaluateStream { connection.isTurnCostly = true }
    deadline = .max
    if timeout > 0, let deadlineEntry {
      deadline = Clock.now + timeout
      context.deadlines.set(deadlineEntry, at: deadline)
    }
    switch method {
    case .evaluate: handler = Unretained(evaluate)
    case .evaluateStream: handler = Unretained(evaluateStream)
    case .listFunctions: handler = Unretained(listFunctions)
    case .getStatus: handler = Unretained(getStatus)
    case .listPlugins, .loadPlugin, .reloadPlugin, .unloadPlugin: handler = Unretained(plugins)
    }
    handler.with { $0.begin(self) }
  }

  /// The call is over: releases everything but the object, which is used again.
  func reset() {
    connection = nil
    if record != nil { record = nil }
    inspectedSteps = -1
    cancel(deadlineEntry)
    stopWaitingForMemory()
  }

  private func cancel(_ entry: DeadlineEntry?) {
    guard let entry, entry.isSet else { return }
    loopContext.with { $0.deadlines.cancel(entry) }
  }

  // MARK: - What the connection brings

  func requestArriving(_ message: UnsafeRawBufferPointer) throws(StatusError) {
    try handler.with { (handler) throws(StatusError) in try handler.requestArriving(message) }
  }

  func destination(_ byteCount: Int) -> Destination { handler.with { $0.destination(byteCount) } }
  func refuseRequest(_ error: StatusError) { handler.with { $0.refuseRequest(error) } }
  func requestComplete(isLast: Bool) { handler.with { $0.requestComplete(isLast: isLast) } }
  func halfClosed() { handler.with { $0.halfClosed() } }
  func creditGranted() { handler.with { $0.creditGranted() } }
  func memoryReleased() { handler.with { $0.memoryReleased() } }
  func cancel(_ reason: StatusError) { handler.with { $0.cancel(reason) } }
  func drainExpired() { handler.with { $0.drainExpired() } }
  var isHoldingForCredit: Bool { handler.with { $0.isHoldingForCredit } }

  // MARK: - What the handler asks for

  override var account: MemoryBudget {
    // A handler has a call only while the connection does.
    connection.unsafelyUnwrapped.with { $0.account }
  }

  override func region(_ id: UInt64) throws(StatusError) -> SharedRegion {
    try connection.unsafelyUnwrapped.object.region(id)
  }

  override var group: WorkGroup { connection.unsafelyUnwrapped.with { $0.group } }
  override var isAbandoned: Bool { connection?.with { $0.isClosed } ?? true }
  override func functionFound(_ evaluation: Evaluation) {
    if record != nil { record?.function = evaluation.entry.name }
  }

  override func respond(
    _ response: OutgoingResponse, encoded: EncodedMessage?, results: ResultBytes, isLast: Bool
  ) throws(StatusError) {
    try connection?.with { (connection) throws(StatusError) in
      try respond(connection, response, encoded, results, isLast: isLast)
    }
  }

  private func respond(
    _ connection: Connection, _ response: OutgoingResponse, _ encoded: EncodedMessage?,
    _ results: ResultBytes, isLast: Bool
  ) throws(StatusError) {
    if !connection.isClosed {
      let limit = connection.peerPayloadBytesMax
      if UInt64(results.total) > limit {
        throw StatusError(
          .resourceExhausted,
          "the results have \(results.total) bytes, over the client's limit of \(limit)")
      }
      let queued = connection.output.byteCount
      try connection.output.frames.encodeFrame(
        response: response, stream: id, endStream: isLast, payloadLength: UInt32(results.total),
        maxMessageBytes: connection.peerMessageBytesMax, encoded: encoded)
      connection.output.framesAppended()
      connection.output.append(results)
      if record != nil { record?.sent += connection.output.byteCount - queued }
      connection.wantsFlush()
    }
    if response.summary == nil && responseCredit != .max { responseCredit -= 1 }
    if isLast { close(connection, .ok) }
  }

  override func respond(
    _ encode: (_ frames: OutputBuffer, _ stream: UInt32, _ messageBytesMax: UInt32)
      throws(StatusError)
      -> Void
  ) throws(StatusError) {
    guard let connection = connection?.object else { return }
    if !connection.isClosed {
      let queued = connection.output.byteCount
      try encode(connection.output.frames, id, connection.peerMessageBytesMax)
      connection.output.framesAppended()
      record?.sent += connection.output.byteCount - queued
      connection.wantsFlush()
    }
    close(connection, .ok)
  }

  override func grantRequests(_ count: UInt32) {
    guard let connection = connection?.object, !connection.isClosed else { return }
    requestCredit = requestCredit.saturatingAdd(count)
    if isDroppingRequests { return }
    connection.output.frames.encodeFrame(credit: count, stream: id)
    connection.output.framesAppended()
    connection.wantsFlush()
  }

  override func dropRequests() { isDroppingRequests = true }

  override func end(_ error: StatusError) {
    guard let connection = connection?.object else { return }
    if !connection.isClosed {
      let queued = connection.output.byteCount
      connection.output.frames.encodeFrame(status: StatusMessage(error), stream: id)
      connection.output.framesAppended()
      record?.sent += connection.output.byteCount - queued
      connection.wantsFlush()
    }
    close(connection, error.code)
  }

  private func close(_ connection: Connection, _ code: StatusCode) {
    if record != nil { record?.end(code, context.accessLog) }
    connection.closeStream(id)
  }

  override func waitForMemory(_ shortage: Shortage) {
    guard let connection = connection?.object, let waiter else { return }
    context.waits.wait(
      waiter, connection.share.user, shortage, timeout: context.limits.waitTimeout)
  }

  override func stopWaitingForMemory() {
    guard let waiter, waiter.isTimed else { return }
    loopContext.with { $0.waits.cancel(waiter) }
  }

  override var small: Unretained<SmallAccount> {
    connection.unsafelyUnwrapped.with { Unretained($0.small) }
  }

  /// Others wait for memory: ends the call where it holds memory and its client has not got on with
  /// it for `timeout` nanoseconds.
  func inspect(_ now: UInt64, _ timeout: UInt64) {
    guard let connection = connection?.object else { return }
    let holding = handler.object.holding
    let isSmall = account.bytesInFlight == 0
    guard case .idle(let steps) = holding, !isSmall || connection.share.isLarge else {
      inspectedSteps = -1
      return
    }
    let isArriving = connection.decoder.currentHeader?.streamID == id
    let bytes = isArriving ? connection.decoder.payloadReceived : 0
    if steps != inspectedSteps || bytes - inspectedBytes >= Connection.progress(in: timeout) {
      inspectedSteps = steps
      inspectedBytes = bytes
      inspectedTime = now
    } else if now - inspectedTime >= timeout {
      dropRequests()
      cancel(
        StatusError(
          .resourceExhausted,
          "for \(timeout / 1_000_000) ms (limits.starve_timeout) the call has held memory that "
            + "others wait for, without getting on"))
    }
  }
}

extension UInt32 {
  func saturatingAdd(_ other: UInt32) -> UInt32 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}

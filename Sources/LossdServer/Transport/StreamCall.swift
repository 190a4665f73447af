import LossdEngine
import LossdTensor
import LossdWire

/// A call on a stream of a lossd connection. Reused from call to call, with its handlers.
final class StreamCall: Call {
  /// While the call is open.
  private(set) var connection: Connection?
  private(set) var id: UInt32 = 0
  private(set) var handler: CallHandler
  /// Requests that the client may still send.
  var requestCredit: UInt32 = 0
  /// The client's END_STREAM has been read.
  var isHalfClosed = false
  /// Requests are read and dropped.
  private(set) var isDroppingRequests = false
  /// nil: the access log was off when it began.
  var record: AccessRecord?

  private let evaluate: EvaluateHandler
  private lazy var evaluateStream = EvaluateStreamHandler(context)
  private lazy var listFunctions = ListFunctionsHandler(context)
  private lazy var getStatus = GetStatusHandler(context)
  private lazy var plugins = PluginHandler(context)
  private var deadlineEntry: DeadlineEntry?
  private var starveEntry: DeadlineEntry?

  override init(_ context: LoopContext) {
    evaluate = EvaluateHandler(context)
    handler = evaluate
    super.init(context)
    deadlineEntry = DeadlineEntry { [unowned self] in
      handler.cancel(
        StatusError(.deadlineExceeded, "the call's time is up"))
    }
    starveEntry = DeadlineEntry { [unowned self] in starved() }
  }

  /// Begins a call; `timeout` in nanoseconds, 0: none.
  func begin(
    _ connection: Connection, _ id: UInt32, _ method: Method, timeout: UInt64, credit: UInt32
  ) {
    self.connection = connection
    self.id = id
    self.method = method
    requestCredit = connection.limits.streamCredit
    responseCredit = credit == 0 ? .max : UInt64(credit)
    isHalfClosed = false
    isDroppingRequests = false
    deadline = .max
    if timeout > 0, let deadlineEntry {
      deadline = Clock.now + timeout
      context.deadlines.set(deadlineEntry, at: deadline)
    }
    switch method {
    case .evaluate: handler = evaluate
    case .evaluateStream: handler = evaluateStream
    case .listFunctions: handler = listFunctions
    case .getStatus: handler = getStatus
    case .listPlugins, .loadPlugin, .reloadPlugin, .unloadPlugin: handler = plugins
    }
    handler.begin(self)
  }

  /// Over: nothing of it is left but the object.
  func reset() {
    connection = nil
    record = nil
    if let deadlineEntry { context.deadlines.cancel(deadlineEntry) }
    if let starveEntry { context.deadlines.cancel(starveEntry) }
  }

  // MARK: - What the handler asks for

  override var account: MemoryAccount {
    // A handler has a call only while the connection does.
    connection.unsafelyUnwrapped.account
  }

  override func region(_ id: UInt64) throws(StatusError) -> SharedRegion {
    try connection.unsafelyUnwrapped.region(id)
  }

  override var group: WorkGroup { connection.unsafelyUnwrapped.group }
  override var isAbandoned: Bool { connection?.isClosed ?? true }
  override func functionFound(_ entry: FunctionEntry) { record?.function = entry.name }

  override func respond(
    _ response: OutgoingResponse, encoded: EncodedMessage?, results: ResultBytes, isLast: Bool
  ) throws(StatusError) {
    guard let connection else { return }
    if !connection.isClosed {
      let limit = connection.peerPayloadBytesMax
      if UInt64(results.total) > limit {
        throw StatusError(
          .resourceExhausted,
          "the results have \(results.total) bytes, over the client's limit of \(limit)")
      }
      let output = connection.output
      let queued = output.byteCount
      try output.frames.encodeFrame(
        response: response, stream: id, endStream: isLast, payloadLength: UInt32(results.total),
        maxMessageBytes: connection.peerMessageBytesMax, encoded: encoded)
      output.framesAppended()
      output.append(results)
      record?.sent += output.byteCount - queued
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
    guard let connection else { return }
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
    guard let connection, !connection.isClosed else { return }
    requestCredit = requestCredit.saturatingAdd(count)
    if isDroppingRequests { return }
    connection.output.frames.encodeFrame(credit: count, stream: id)
    connection.output.framesAppended()
    connection.wantsFlush()
  }

  override func dropRequests() { isDroppingRequests = true }

  override func end(_ error: StatusError) {
    guard let connection else { return }
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
    record?.end(code, context.accessLog)
    connection.closeStream(self)
  }

  override func waitForMemory() { connection?.waitForMemory() }

  override func setStarveTimer(at time: UInt64) {
    guard let starveEntry else { return }
    if time == .max {
      context.deadlines.cancel(starveEntry)
    } else if !starveEntry.isSet {
      context.deadlines.set(starveEntry, at: time)
    }
  }

  /// For a configured time it has waited for credit or memory, or its payload has been coming.
  private func starved() {
    guard let connection else { return }
    if connection.account.budget.hasWaiting || connection.isWaitingForMemory {
      handler.cancel(
        StatusError(
          .resourceExhausted,
          "for \(context.limits.starveTimeout / 1_000_000) ms the call has held or waited for memory "
            + "that others need"))
    } else if handler.isHoldingForCredit {
      setStarveTimer(at: Clock.now + context.limits.starveTimeout)
    }
  }
}

extension UInt32 {
  func saturatingAdd(_ other: UInt32) -> UInt32 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}

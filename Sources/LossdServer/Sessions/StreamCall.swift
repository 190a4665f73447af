import LossdEngine
import LossdTensor
import LossdWire

/// A call on a stream of a lossd session: what its handler says becomes frames.
final class StreamCall: Call {
  /// nil: the call is not open. A session owns its calls, and so outlives them.
  private var session: Unretained<LossdSession>?

  /// The call is this session's, until `reset`.
  func begin(_ session: LossdSession) { self.session = Unretained(session) }

  override func reset() {
    session = nil
    super.reset()
  }

  // A handler has a call only while the session does.
  override var account: MemoryBudget { session.unsafelyUnwrapped.with { $0.account } }
  override var group: WorkGroup {
    session.unsafelyUnwrapped.with { $0.channelReference.with { $0.group } }
  }
  override var services: ServiceSet {
    session.unsafelyUnwrapped.with { $0.channelReference.with { $0.services } }
  }
  override var small: Unretained<SmallAccount> {
    session.unsafelyUnwrapped.with { Unretained($0.small) }
  }

  override func region(_ id: UInt64) throws(StatusError) -> SharedRegion {
    try session.unsafelyUnwrapped.object.region(id)
  }

  override func respond(
    _ response: OutgoingResponse, encoded: EncodedMessage?, results: ResultBytes, isLast: Bool
  ) throws(StatusError) {
    try session?.with { (session) throws(StatusError) in
      try session.channelReference.with { (channel) throws(StatusError) in
        try respond(session, channel, response, encoded, results, isLast: isLast)
      }
    }
  }

  private func respond(
    _ session: LossdSession, _ channel: Channel, _ response: OutgoingResponse,
    _ encoded: EncodedMessage?, _ results: ResultBytes, isLast: Bool
  ) throws(StatusError) {
    if !channel.isClosed {
      let limit = session.peerPayloadBytesMax
      if UInt64(results.total) > limit {
        throw StatusError(
          .resourceExhausted,
          "the results have \(results.total) bytes, over the client's limit of \(limit)")
      }
      let queued = session.output.byteCount
      try session.output.frames.encodeFrame(
        response: response, stream: id, endStream: isLast, payloadLength: UInt32(results.total),
        maxMessageBytes: session.peerMessageBytesMax, encoded: encoded)
      session.output.framesAppended()
      session.output.append(results)
      if record != nil { record?.sent += session.output.byteCount - queued }
      channel.wantsFlush()
    }
    if response.summary == nil && responseCredit != .max { responseCredit -= 1 }
    if isLast { close(session, .ok) }
  }

  override func respond(_ answer: Answer) throws(StatusError) {
    guard let session = session?.object else { return }
    let limit = session.peerMessageBytesMax
    try send { (frames) throws(StatusError) in
      switch answer {
      case .functions(let list):
        try frames.encodeFrame(functions: list, stream: id, maxMessageBytes: limit)
      case .status(let status):
        try frames.encodeFrame(daemonStatus: status, stream: id, maxMessageBytes: limit)
      case .plugins(let plugins, let request):
        try frames.encodeFrame(
          plugins: plugins, answering: request, stream: id, maxMessageBytes: limit)
      }
    }
    close(session, .ok)
  }

  override func grantRequests(_ count: UInt32) {
    guard let session = session?.object, !session.channel.isClosed else { return }
    requestCredit = requestCredit.saturatingAdd(count)
    if isDroppingRequests { return }
    session.channel.send { $0.encodeFrame(credit: count, stream: id) }
  }

  override func end(_ error: StatusError) {
    guard let session = session?.object else { return }
    send { $0.encodeFrame(status: StatusMessage(error), stream: id) }
    close(session, error.code)
  }

  /// Sends what `encode` appends, unless nobody is there to read it.
  private func send<Failure>(
    _ encode: (OutputBuffer) throws(Failure) -> Void
  ) throws(Failure) {
    guard let channel = session?.object.channel, !channel.isClosed else { return }
    let sent = try channel.send(encode)
    record?.sent += sent
  }

  private func close(_ session: LossdSession, _ code: StatusCode) {
    if record != nil { record?.end(code, context.accessLog) }
    session.closeStream(id)
  }
}

import LossdEngine
import LossdHTTP
import LossdTensor
import LossdWire

/// What nghttp2 tells of a session's connection goes to the session.
final class HTTP2Events: HTTP2Sink {
  /// The session has both, and so outlives them; nil: it is being made.
  private var session: Unretained<HTTP2Session>?

  func begin(_ session: HTTP2Session) { self.session = Unretained(session) }

  override func headersBegan(_ stream: Int32) { session?.with { $0.headersBegan(stream) } }

  override func header(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    session?.with { $0.header(name, value) }
  }

  override func headersArrived(_ stream: Int32, isLast: Bool) {
    session?.with { $0.headersArrived(stream, isLast: isLast) }
  }

  override func trailersArrived(_ stream: Int32, isLast: Bool) {
    session?.with { $0.trailersArrived(stream, isLast: isLast) }
  }

  override func dataArrived(
    _ stream: Int32, _ context: UnsafeMutableRawPointer?, _ bytes: UnsafeRawBufferPointer
  ) { session?.with { $0.dataArrived(context, bytes) } }

  override func dataEnded(_ stream: Int32, _ context: UnsafeMutableRawPointer?) {
    if let context { GRPCCall.with(context) { $0.inputEnded() } }
  }

  override func streamClosed(
    _ stream: Int32, _ context: UnsafeMutableRawPointer?, code: UInt32
  ) { session?.with { $0.streamClosed(stream, context) } }

  override func controlArrived(_ kind: HTTP2Control) { session?.with { $0.controlArrived(kind) } }
  override func settingsArrived() {}
  override func pingAcknowledged() { session?.with { $0.refuseStreams() } }

  override func bodyNeeded(
    _ context: UnsafeMutableRawPointer, length: Int
  ) -> (count: Int, isEnd: Bool) { GRPCCall.with(context) { $0.bodyNeeded(length) } }

  override func bodyEnded(_ stream: Int32, _ context: UnsafeMutableRawPointer) {
    GRPCCall.with(context) { $0.sendStatus() }
  }

  override func sendBody(
    _ context: UnsafeMutableRawPointer, header: UnsafeRawBufferPointer, count: Int
  ) -> Bool { session?.with { $0.sendBody(context, header: header, count: count) } ?? false }

  override func answeredEarly(_ stream: Int32) {
    // The client need not send the rest.
    session?.with { $0.reset(stream, .noError) }
  }
}

// What nghttp2 tells, while it takes or makes bytes.
extension HTTP2Session {
  func headersBegan(_ stream: Int32) {
    hasBegunCalls = true
    headReference.with { $0.begin() }
  }

  func header(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    let byteCount = headReference.with {
      $0.add(name, value)
      return $0.byteCount
    }
    if byteCount > GRPCRequestHead.floodBytes {
      end(.enhanceYourCalm, "the request's fields have over \(GRPCRequestHead.floodBytes) bytes")
    }
  }

  func headersArrived(_ stream: Int32, isLast: Bool) {
    switch headReference.with({ $0.verdict() }) {
    case .call: beginCall(stream, isLast: isLast)
    case .malformed: reset(stream, .protocolError)
    case .http(let status): answerHTTP(stream, status)
    case .refused(let code, let text): refuse(stream, StatusError(code, text))
    }
  }

  func trailersArrived(_ stream: Int32, isLast: Bool) {
    if !isLast {
      reset(stream, .protocolError)
    } else {
      calls[stream]?.inputEnded()
    }
  }

  func dataArrived(_ context: UnsafeMutableRawPointer?, _ bytes: UnsafeRawBufferPointer) {
    flood.noteMessage()
    guard let context else { return }
    GRPCCall.with(context) { $0.dataArrived(bytes) }
  }

  func streamClosed(_ stream: Int32, _ context: UnsafeMutableRawPointer?) {
    guard let context else { return }
    connectionReference?.with { $0.setContext(stream, nil) }
    GRPCCall.with(context) { $0.streamClosed() }
  }

  func controlArrived(_ kind: HTTP2Control) {
    if flood.admits(kind, now: { Clock.now }) { return }
    end(
      .enhanceYourCalm, kind == .ping ? "too_many_pings" : "too many frames that carry no message")
  }

  func sendBody(
    _ context: UnsafeMutableRawPointer, header: UnsafeRawBufferPointer, count: Int
  ) -> Bool {
    outputReference.with { output in
      if output.byteCount >= HTTP2Session.outputBytesMax { return false }
      flood.noteMessage()
      output.append(header)
      GRPCCall.with(context) { $0.sendBody(count, to: output) }
      return true
    }
  }
}

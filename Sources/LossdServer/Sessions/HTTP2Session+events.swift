import LossdEngine
import LossdHTTP
import LossdTensor
import LossdWire

// What nghttp2 tells, while it takes or makes bytes.
extension HTTP2Session: HTTP2Sink {
  func headersBegan(_ stream: Int32) {
    hasBegunCalls = true
    head.begin()
  }

  func header(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
    head.add(name, value)
    if head.byteCount > GRPCRequestHead.floodBytes {
      end(.enhanceYourCalm, "the request's fields have over \(GRPCRequestHead.floodBytes) bytes")
    }
  }

  func headersArrived(_ stream: Int32, isLast: Bool) {
    switch head.verdict() {
    case .call: beginCall(stream, isLast: isLast)
    case .malformed: connection?.reset(stream, .protocolError)
    case .http(let status): answerHTTP(stream, status)
    case .refused(let code, let text): refuse(stream, StatusError(code, text))
    }
  }

  func trailersArrived(_ stream: Int32, isLast: Bool) {
    if !isLast {
      connection?.reset(stream, .protocolError)
    } else {
      calls[stream]?.inputEnded()
    }
  }

  func dataArrived(
    _ stream: Int32, _ context: UnsafeMutableRawPointer?, _ bytes: UnsafeRawBufferPointer
  ) {
    flood.noteMessage()
    guard let context else { return }
    GRPCCall.with(context) { $0.dataArrived(bytes) }
  }

  func dataEnded(_ stream: Int32, _ context: UnsafeMutableRawPointer?) {
    guard let context else { return }
    GRPCCall.with(context) { $0.inputEnded() }
  }

  func streamClosed(_ stream: Int32, _ context: UnsafeMutableRawPointer?, code: UInt32) {
    guard let context else { return }
    connection?.setContext(stream, nil)
    GRPCCall.with(context) { $0.streamClosed() }
  }

  func controlArrived(_ kind: HTTP2Control) {
    if flood.admits(kind, now: { Clock.now }) { return }
    end(
      .enhanceYourCalm, kind == .ping ? "too_many_pings" : "too many frames that carry no message")
  }

  func settingsArrived() {}

  func pingAcknowledged() { refuseStreams() }

  func bodyNeeded(_ context: UnsafeMutableRawPointer, length: Int) -> (count: Int, isEnd: Bool) {
    GRPCCall.with(context) { $0.bodyNeeded(length) }
  }

  func bodyEnded(_ stream: Int32, _ context: UnsafeMutableRawPointer) {
    GRPCCall.with(context) { $0.sendStatus() }
  }

  func sendBody(
    _ context: UnsafeMutableRawPointer, header: UnsafeRawBufferPointer, count: Int
  ) -> Bool {
    if output.byteCount >= HTTP2Session.outputBytesMax { return false }
    flood.noteMessage()
    output.frames.append(header)
    output.framesAppended()
    GRPCCall.with(context) { $0.sendBody(count, to: output) }
    return true
  }

  func answeredEarly(_ stream: Int32) {
    // The client need not send the rest.
    connection?.reset(stream, .noError)
  }
}

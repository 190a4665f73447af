import LossdEngine
import LossdHTTP
import LossdTensor
import LossdWire

// What goes: responses, and the status at the end.
extension GRPCCall {
  /// The longest message that gRPC's prefix can tell.
  private static let messageBytesMax = Int(UInt32.max)

  func send(
    _ response: OutgoingResponse, results: ResultBytes, isLast: Bool
  ) throws(StatusError) {
    if hasEnded { return }
    try sessionReference?.with { (session) throws(StatusError) in
      if isOpen(session) {
        try Unretained(body).with { (body) throws(StatusError) in
          let before = body.byteCount
          try encode(response, results, body)
          appended(session, body, before)
        }
      }
      if isLast { handlerEnded(StatusError(.ok, "")) } else { start(session) }
    }
  }

  private func encode(
    _ response: OutgoingResponse, _ results: ResultBytes, _ body: ResponseBody
  ) throws(StatusError) {
    try Unretained(body.bytes).with { (bytes) throws(StatusError) in
      let byteCount = bytes.inlineByteCount(response)
      if byteCount > GRPCCall.messageBytesMax {
        throw StatusError(
          .resourceExhausted,
          "the response has \(byteCount) bytes, over the limit of \(GRPCCall.messageBytesMax)")
      }
      bytes.appendPrefix(byteCount)
      bytes.encodeInline(response) { offset, length in
        body.append(results, offset: offset, length: length)
      }
    }
  }

  func send(_ answer: Answer) {
    send { (buffer) in
      switch answer {
      case .functions(let list): buffer.encodeMessage(functions: list)
      case .status(let status): buffer.encodeMessage(daemonStatus: status)
      case .plugins(let plugins, let request):
        buffer.encodeMessage(plugins: plugins, answering: request)
      }
    }
    handlerEnded(StatusError(.ok, ""))
  }

  func send(message encode: (OutputBuffer) -> Void) {
    guard let session, !hasEnded, isOpen(session) else { return }
    let begin = body.bytes.count
    body.bytes.appendPrefix(0)
    encode(body.bytes)
    body.bytes.set(bigEndian: UInt32(body.bytes.count - begin - 5), at: begin + 1)
    appended(session, body, begin)
    start(session)
  }

  private func isOpen(_ session: HTTP2Session) -> Bool {
    !isStreamClosed && session.channelReference.with { !$0.isClosed }
  }

  /// Queues what has been encoded into the body's bytes since there were `before` of them.
  private func appended(_ session: HTTP2Session, _ body: ResponseBody, _ before: Int) {
    body.bytesAppended()
    session.streamBytes += body.byteCount - before
    responseCredit = body.count < GRPCCall.bodyBytesMax ? UInt64(GRPCCall.responseCredit) : 0
  }

  /// Has nghttp2 ask for the body.
  private func start(_ session: HTTP2Session) {
    guard isOpen(session) else { return }
    session.connectionReference?.with { connection in
      if isAnswered {
        connection.resume(stream)
      } else {
        isAnswered = true
        _ = connection.answer(
          stream, GRPCStatus.begin, body: Unmanaged.passUnretained(self).toOpaque())
      }
    }
    session.channelReference.with { $0.wantsFlush() }
  }

  /// The handler has ended: the status follows what is queued.
  func sendEnd(_ session: HTTP2Session) {
    guard isOpen(session) else { return }
    if isAnswered || body.count > 0 { return start(session) }
    isAnswered = true
    GRPCStatus.with(status, isAlone: true) {
      _ = session.connection?.answer(stream, $0, body: nil)
    }
    session.channel.wantsFlush()
  }

  // MARK: - What nghttp2 asks for

  func bodyNeeded(_ length: Int) -> (count: Int, isEnd: Bool) {
    if sent - roundBegin >= GRPCCall.roundBytes, body.count > 0, let session,
      session.calls.count > 1
    {
      roundBegin = sent
      session.park(stream)
      return (0, false)
    }
    let waiting = Unretained(body).with { $0.count }
    let count = min(length, waiting)
    return (count, hasEnded && count == waiting)
  }

  func sendStatus() {
    sessionReference?.with { session in
      session.connectionReference?.with { connection in
        if status.code == .ok {
          connection.trailers(stream, GRPCStatus.ok)
        } else {
          GRPCStatus.with(status, isAlone: false) { _ = connection.trailers(stream, $0) }
        }
      }
    }
  }

  func sendBody(_ count: Int, to output: OutputQueue) {
    sent += count
    sessionReference?.with { session in
      let left = Unretained(body).with { body in
        let before = body.byteCount
        body.move(count, to: output)
        session.streamBytes -= before - body.byteCount
        return body.count
      }
      guard left < GRPCCall.bodyBytesMax, !hasEnded else { return }
      if responseCredit == 0 {
        responseCredit = UInt64(GRPCCall.responseCredit)
        isHandlerToContinue = true
        session.continueLater(self)
      } else if !held.isEmpty {
        session.continueLater(self)
      }
    }
  }
}

extension OutputBuffer {
  /// gRPC's five bytes before a message that is not compressed.
  fileprivate func appendPrefix(_ byteCount: Int) {
    extend(by: 5).initializeMemory(as: UInt8.self, repeating: 0, count: 5)
    set(bigEndian: UInt32(byteCount), at: count - 4)
  }
}

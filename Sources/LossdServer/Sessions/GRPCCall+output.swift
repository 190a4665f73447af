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
    guard let session, !hasEnded else { return }
    if isOpen(session) {
      let byteCount = body.bytes.inlineByteCount(response)
      if byteCount > GRPCCall.messageBytesMax {
        throw StatusError(
          .resourceExhausted,
          "the response has \(byteCount) bytes, over the limit of \(GRPCCall.messageBytesMax)")
      }
      append(session) {
        appendPrefix(byteCount)
        body.bytes.encodeInline(response) { offset, length in
          body.append(results, offset: offset, length: length)
        }
      }
    }
    if isLast { handlerEnded(StatusError(.ok, "")) } else { start(session) }
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
    append(session) {
      let begin = body.bytes.count
      appendPrefix(0)
      encode(body.bytes)
      body.bytes.set(bigEndian: UInt32(body.bytes.count - begin - 5), at: begin + 1)
    }
    start(session)
  }

  private func isOpen(_ session: HTTP2Session) -> Bool {
    !isStreamClosed && !session.channel.isClosed
  }

  /// Queues what `encode` appends to the body.
  private func append(_ session: HTTP2Session, _ encode: () -> Void) {
    let before = body.bytes.count
    encode()
    body.bytesAppended()
    session.streamBytes += body.bytes.count - before
    responseCredit = body.count < GRPCCall.bodyBytesMax ? UInt64(GRPCCall.responseCredit) : 0
  }

  private func appendPrefix(_ byteCount: Int) {
    body.bytes.extend(by: 5).initializeMemory(as: UInt8.self, repeating: 0, count: 5)
    body.bytes.set(bigEndian: UInt32(byteCount), at: body.bytes.count - 4)
  }

  /// Has nghttp2 ask for the body.
  private func start(_ session: HTTP2Session) {
    guard isOpen(session) else { return }
    if isAnswered {
      session.connection?.resume(stream)
    } else {
      isAnswered = true
      GRPCStatus.begin.withUnsafeBufferPointer {
        _ = session.connection?.answer(
          stream, $0, body: Unmanaged.passUnretained(self).toOpaque())
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
    let count = min(length, body.count)
    return (count, hasEnded && count == body.count)
  }

  func sendStatus() {
    GRPCStatus.with(status, isAlone: false) {
      _ = session?.connection?.trailers(stream, $0)
    }
  }

  func sendBody(_ count: Int, to output: OutputQueue) {
    let before = body.bytes.count
    body.move(count, to: output)
    sent += count
    sessionReference?.with { session in
      session.streamBytes -= before - body.bytes.count
      guard body.count < GRPCCall.bodyBytesMax, !hasEnded else { return }
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

import LossdEngine
import LossdHTTP
import LossdTensor
import LossdWire

// What each frame does. The decoder calls these methods.
extension LossdSession: FrameSink {
  func pausesDecoding() -> Bool { channelReference.with { $0.pausesReading() } }

  func frameBegan(_ header: FrameHeader) throws(BadFrame) -> MessageDisposition {
    switch header.type {
    case .open: return try openBegan(header)
    case .message: return try messageBegan(header)
    case .cancel, .credit:
      try checkOpened(header)
      return .receive
    default:
      if let shortage = reserveMessage(header) {
        throw BadFrame(
          "no memory for a \(header.type) of \(header.messageLength) bytes: \(shortage.text)",
          code: .resourceExhausted)
      }
      return .receive
    }
  }

  private func openBegan(_ header: FrameHeader) throws(BadFrame) -> MessageDisposition {
    if header.streamID <= highestStream {
      throw BadFrame("OPEN of stream \(header.streamID), expected one above \(highestStream)")
    }
    highestStream = header.streamID
    if header.streamID > lastStream { return .drop }
    let limit = min(limits.messageBytesMax, LossdSession.openBytesMax)
    if header.messageLength > limit {
      refuse(header, tooLong(header, limit))
      return .drop
    }
    if let shortage = reserveMessage(header) {
      refuse(header, noMemory(header, shortage))
      return .drop
    }
    return .receive
  }

  /// The longest OPEN, bytes: a method's name and some metadata.
  static let openBytesMax: UInt32 = 64 << 10

  private func noMemory(_ header: FrameHeader, _ shortage: Shortage) -> StatusError {
    StatusError(
      .resourceExhausted,
      "no memory now for a message of \(header.messageLength) bytes: \(shortage.text)")
  }

  private func messageBegan(_ header: FrameHeader) throws(BadFrame) -> MessageDisposition {
    try checkOpened(header)
    return streams[header.streamID]?.with { messageBegan(header, $0) } ?? .drop
  }

  private func messageBegan(_ header: FrameHeader, _ call: StreamCall) -> MessageDisposition {
    if call.isDroppingRequests { return .drop }
    if call.isHalfClosed {
      call.dropRequests()
      call.handler.object.cancel(StatusError(.invalidArgument, "a MESSAGE after END_STREAM"))
      return .drop
    }
    if header.isBareHalfClose && call.method.isStreaming { return .receive }
    if call.requestCredit == 0 {
      call.dropRequests()
      call.handler.object.cancel(
        StatusError(.resourceExhausted, "a request without credit; CREDIT grants the next"))
      return .drop
    }
    call.requestCredit -= 1
    if header.messageLength > limits.messageBytesMax {
      call.dropRequests()
      call.handler.object.refuseRequest(tooLong(header, limits.messageBytesMax))
      return .drop
    }
    if UInt64(header.payloadLength) > limits.payloadBytesMax {
      call.dropRequests()
      call.handler.object.refuseRequest(
        StatusError(
          .resourceExhausted,
          "the payload has \(header.payloadLength) bytes, over the limit of "
            + "\(limits.payloadBytesMax) (limits.payload_bytes)"))
      return .drop
    }
    if let shortage = reserveMessage(header) {
      call.dropRequests()
      call.handler.object.refuseRequest(noMemory(header, shortage))
      return .drop
    }
    return .receive
  }

  private func tooLong(_ header: FrameHeader, _ limit: UInt32) -> StatusError {
    StatusError(
      .resourceExhausted,
      "\(header.type): the message has \(header.messageLength) bytes, over the limit of "
        + "\(limit)" + (limit == limits.messageBytesMax ? " (limits.message_bytes)" : ""))
  }

  private func checkOpened(_ header: FrameHeader) throws(BadFrame) {
    if header.streamID > highestStream {
      throw BadFrame("\(header.type) on stream \(header.streamID), which was never opened")
    }
  }

  func messageArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    switch header.type {
    case .hello: try helloArrived(header, message)
    case .open: openArrived(header, message)
    case .message:
      streams[header.streamID]?.with { call in
        if header.isBareHalfClose && call.method.isStreaming { return }
        do throws(StatusError) {
          try call.handler.with { (handler) throws(StatusError) in
            try handler.requestArriving(message)
          }
        } catch {
          call.dropRequests()
          call.handler.object.refuseRequest(error)
        }
      }
    case .cancel:
      guard let call = streams[header.streamID]?.object else { return }
      call.dropRequests()
      call.handler.object.cancel(StatusError(.cancelled, "cancelled by the client"))
    case .credit: try creditArrived(header, message)
    case .ping:
      if header.flags.contains(.ack) { return }
      channel.send { $0.encodeFrame(pingAck: message) }
    case .goAway: try goAwayArrived(header, message)
    case .region: try regionArrived(header, message)
    case .release: try releaseArrived(header, message)
    case .status: throw BadFrame("\(header.type) is not known here")
    }
  }

  private func helloArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    defer { arena.reset() }
    do throws(StatusError) {
      let hello = try HelloMessage(decoding: message, in: arena)
      decoder.sharedMemory =
        channel.isUnix && hello.features.contains(LossdSession.sharedMemoryFeature)
      if hello.maxMessageBytes > 0 { peerMessageBytesMax = hello.maxMessageBytes }
      if hello.maxPayloadBytes > 0 {
        peerPayloadBytesMax = min(hello.maxPayloadBytes, UInt64(UInt32.max))
      }
    } catch { throw BadFrame(header, error) }
  }

  private func creditArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    defer { arena.reset() }
    do throws(StatusError) {
      let credit = try CreditMessage(decoding: message, in: arena)
      guard let call = streams[header.streamID]?.object, call.responseCredit != .max
      else { return }
      call.responseCredit = min(call.responseCredit + UInt64(credit.messages), UInt64(UInt32.max))
      call.handler.object.creditGranted()
    } catch { throw BadFrame(header, error) }
  }

  private func goAwayArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    defer { arena.reset() }
    do throws(StatusError) {
      _ = try GoAwayMessage(decoding: message, in: arena)
      isPeerLeaving = true
    } catch { throw BadFrame(header, error) }
  }

  private func openArrived(_ header: FrameHeader, _ message: UnsafeRawBufferPointer) {
    var path: UnsafeRawBufferPointer?
    var trace = ""
    defer { arena.reset() }
    do throws(StatusError) {
      let isLogged = contextReference.with { $0.accessLog != nil }
      if isLogged || !lastOpen.equals(message) {
        lastOpen.forget()
        let open = try OpenMessage(decoding: message, in: arena)
        path = open.method
        if isLogged {
          let value = open.value(of: "traceparent")
          if GRPCRequestHead.isTraceParent(value) { trace = String(decoding: value, as: UTF8.self) }
        }
        lastOpen.keep(
          message, try ServiceTable.method(open.method, channel.administration, channel.services),
          open)
      }
      if streams.count >= Int(limits.streamsMax) {
        throw StatusError(
          .resourceExhausted,
          "\(streams.count) calls are open, the most there can be (limits.streams)")
      }
      try takeStream()
      let call = takeCall()
      streams.add(header.streamID, call)
      if isLogged {
        call.record = record(header, path)
        call.record?.trace = trace
      }
      call.begin(self)
      if !lastOpen.method.isEvaluating { channel.isTurnCostly = true }
      call.begin(
        header.streamID, lastOpen.method, timeout: lastOpen.timeout, responses: lastOpen.credit,
        requests: limits.streamCredit, makeHandler: ServiceTable.makeHandler)
    } catch {
      refuse(header, error, path)
    }
  }

  /// Counts a call for its user, with the memory that every call takes.
  private func takeStream() throws(StatusError) {
    let limit = limits.userStreamsMax
    if share.streams >= Int(limit) {
      throw StatusError(
        .resourceExhausted,
        "user \(share.user.id) has \(share.streams) calls open, the most there can be "
          + "(limits.user_streams)")
    }
    if let shortage = small.take(Call.ownBytes) {
      throw StatusError(.resourceExhausted, "no memory now for a call: \(shortage.text)")
    }
    share.streams += 1
  }

  /// Refuses a call before it has a handler.
  private func refuse(
    _ header: FrameHeader, _ error: StatusError, _ path: UnsafeRawBufferPointer? = nil
  ) {
    var record = record(header, path)
    let sent = channel.send {
      $0.encodeFrame(status: StatusMessage(error), stream: header.streamID)
    }
    record?.sent = sent
    record?.end(error.code, context.accessLog)
  }

  /// The access log's record of a call that OPEN begins; nil where there is no access log.
  private func record(_ header: FrameHeader, _ path: UnsafeRawBufferPointer?) -> AccessRecord? {
    if context.accessLog == nil { return nil }
    var record = AccessRecord(
      peer: channel.peerText, connection: channel.number, stream: header.streamID,
      method: path.map(displayText) ?? "-", begin: Clock.now)
    record.received = header.frameByteCount
    return record
  }

  func frameEnded(_ header: FrameHeader) throws(BadFrame) {
    guard header.type == .message else { return }
    streams[header.streamID]?.with { call in
      if call.isDroppingRequests { return }
      if call.record != nil { call.record?.received += header.frameByteCount }
      if header.endsStream { call.isHalfClosed = true }
      if header.isBareHalfClose && call.method.isStreaming {
        call.handler.with { $0.halfClosed() }
      } else {
        call.handler.with { $0.requestComplete(isLast: header.endsStream) }
      }
    }
  }
}

extension FrameHeader {
  /// Bytes of the whole frame.
  fileprivate var frameByteCount: Int {
    FrameHeader.byteCount + Int(messageLength) + Int(payloadLength)
  }
}
